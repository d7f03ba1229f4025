# SPDX-License-Identifier: Apache-2.0
"""What the `$` expressions of a configuration import and which names they use."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass

from monai.bundle import ReferenceResolver

from custom_nets.config_linter.reading import Config, nodes_of

#: What MONAI binds in every expression.
_GIVEN = {"monai": "monai", "torch": "torch", "np": "numpy", "numpy": "numpy"}
_REFERENCE = "_reference_"


@dataclass(frozen=True)
class Expression:
    """One `$` expression.

    Attributes:
        key: id of the string.
        tree: parsed; references are names that begin with `_reference_`. None where it is no Python.
        why: what the parser said where it is no Python.
    """

    key: str
    tree: ast.Module | None
    why: str = ""

    @property
    def statement(self) -> ast.Import | ast.ImportFrom | None:
        """The import statement that the expression is, if it is one."""
        first = self.tree.body[0] if self.tree and self.tree.body else None
        return first if isinstance(first, ast.Import | ast.ImportFrom) else None


def expressions_of(config: Config, own: bool = True) -> list[Expression]:
    """Return the expressions of a configuration; with ``own`` of an overlay only those that it brings."""
    pairs = config.nodes() if own else nodes_of(config.merged)
    return [_parsed(key, value[1:]) for key, value in pairs if isinstance(value, str) and value.startswith("$")]


def bindings_of(config: Config) -> dict[str, str]:
    """Return the names that the configuration's import statements bind -> what they stand for, in full."""
    bound = {}
    for expression in expressions_of(config, own=False):
        statement = expression.statement
        for alias in statement.names if statement else ():
            module = f"{statement.module}." if isinstance(statement, ast.ImportFrom) else ""
            bound[alias.asname or alias.name] = module + alias.name
    return bound


def used_names(expression: Expression, bound: dict[str, str]) -> list[str]:
    """Return the names that an expression uses, in full: ``os.path.join``, or ``.run`` for part of an object.

    Names that nothing binds are returned with a question mark before them.
    """
    if expression.tree is None or expression.statement:
        return []
    local = {node.arg for node in ast.walk(expression.tree) if isinstance(node, ast.arg)}
    local |= {
        node.id for node in ast.walk(expression.tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    known = {**{name: name for name in vars(builtins)}, **_GIVEN, **bound}
    return sorted(set(_names(expression.tree, known, local)))


def root_names(expression: Expression) -> set[str]:
    """Return the first parts of all names in an expression, as written."""
    if expression.tree is None or expression.statement:
        return set()
    return {node.id for node in ast.walk(expression.tree) if isinstance(node, ast.Name)}


def _names(node: ast.AST, known: dict[str, str], local: set[str]) -> Iterator[str]:
    attributes: list[str] = []
    start = node
    while isinstance(start, ast.Attribute):
        attributes.insert(0, start.attr)
        start = start.value
    if isinstance(start, ast.Name):
        if start.id in local or start.id.startswith(_REFERENCE):
            yield from ["." + ".".join(attributes)] if attributes else []
        else:
            yield ".".join([known.get(start.id, f"?{start.id}"), *attributes])
        return
    if attributes:
        yield "." + ".".join(attributes)
        yield from _names(start, known, local)
        return
    for child in ast.iter_child_nodes(node):
        yield from _names(child, known, local)


def _parsed(key: str, code: str) -> Expression:
    text = ReferenceResolver.id_matcher.sub(lambda found: _REFERENCE + found[0][1:].replace("::", "_"), code)
    try:
        tree = ast.parse(text.strip())
    except SyntaxError as error:
        return Expression(key, None, str(error.msg))
    if not tree.body or (len(tree.body) > 1 or not isinstance(tree.body[0], ast.Expr | ast.Import | ast.ImportFrom)):
        return Expression(key, None, "not one expression")
    return Expression(key, tree)
