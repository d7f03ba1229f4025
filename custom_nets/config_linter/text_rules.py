# SPDX-License-Identifier: Apache-2.0
"""Rules about a configuration's text: keys, macros, paths and expressions, whatever they configure."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator

from custom_nets.config_linter.allowed_calls import ALLOWED
from custom_nets.config_linter.expressions import Expression, bindings_of, expressions_of, root_names, used_names
from custom_nets.config_linter.reading import Config, Finding, has, references_in

_ABSOLUTE = re.compile(r"(/|~|[A-Za-z]:[\\/])")
#: Beginnings of paths that exist on one machine only, wherever they stand.
PERSONAL_PATH = re.compile(r"/(home|users|root|mnt|media|tmp|scratch)/|[\\/]users[\\/]", re.IGNORECASE)


def keys_are_given_once(config: Config) -> Iterator[Finding]:
    """No key is given twice in one object: the first value would be lost."""
    for key in config.repeated:
        yield config.finding(key, "is given twice in one object", "keep one")


def overlay_and_macros_fit(config: Config) -> Iterator[Finding]:
    """An overlay's keys and all macros name something that exists."""
    if config.broken:
        yield config.finding("file", f"cannot be merged or resolved ({config.broken})", "name ids that exist")


def references_exist(config: Config) -> Iterator[Finding]:
    """Every @ and % reference names something that exists."""
    for key, value in config.nodes():
        for name in sorted(references_in(value)):
            if not name.startswith("_meta_") and not has(config.resolved, name):
                yield config.finding(key, f"refers to '{name}', which does not exist", "define it or correct the name")


def inference_has_no_macro(config: Config) -> Iterator[Finding]:
    """inference.json has no % macro: MONAI Label resolves it elsewhere."""
    if config.workflow == "inference":
        for key, value in config.nodes():
            if isinstance(value, str) and value.startswith("%"):
                yield config.finding(key, f"is the macro '{value}'", "write out what it stands for")


def macros_stay_in_the_file(config: Config) -> Iterator[Finding]:
    """A macro copies from the same configuration, not from another file: MONAI Label and the Zoo read one file."""
    for key, value in config.nodes():
        if isinstance(value, str) and re.match(r"%.*\.(json|ya?ml)\b", value):
            yield config.finding(key, f"copies from another file: '{value}'", "write out what it stands for")


def inference_needs_no_metadata(config: Config) -> Iterator[Finding]:
    """inference.json does not refer to @_meta_: MONAI Label does not load the metadata there."""
    if config.workflow == "inference":
        for key, value in config.nodes():
            if isinstance(value, str) and re.search(r"[@%]_meta_", value):
                yield config.finding(key, "refers to the metadata", "give the value itself")


def paths_are_relative(config: Config) -> Iterator[Finding]:
    """No path is absolute or personal: it would exist on one machine only."""
    for key, value in config.nodes():
        if isinstance(value, str) and not value.startswith("$") and _ABSOLUTE.match(value):
            yield config.finding(key, f"is the absolute path '{value}'", "build it from @bundle_root")
        elif isinstance(value, str) and PERSONAL_PATH.search(value):
            yield config.finding(key, f"holds a personal path: '{value}'", "build it from @bundle_root")
    for expression in expressions_of(config):
        for text in _absolute_in(expression):
            yield config.finding(expression.key, f"holds the absolute path '{text}'", "build it from @bundle_root")


def expressions_are_python(config: Config) -> Iterator[Finding]:
    """Every $ string is one Python expression or import."""
    for expression in expressions_of(config):
        if expression.tree is None:
            yield config.finding(expression.key, f"is no Python expression ({expression.why})", "correct it")


def imports_bind_a_name(config: Config) -> Iterator[Finding]:
    """Imports can be done, one name each; `import a.b` needs `as`, because MONAI binds nothing useful without it."""
    for expression in expressions_of(config):
        statement = expression.statement
        if statement is None:
            continue
        alias = statement.names[0]
        if len(statement.names) > 1:
            yield config.finding(expression.key, "imports several names", "write one import for each")
        if isinstance(statement, ast.Import) and "." in alias.name and not alias.asname:
            yield config.finding(expression.key, f"'import {alias.name}' binds no name", "add 'as NAME'")
        error = _import_error(statement)
        if error:
            yield config.finding(expression.key, f"cannot be imported ({error})", "correct the name")


def imports_are_used(config: Config) -> Iterator[Finding]:
    """Every name in `imports` is used by an expression; evaluate's serve train too, onto which MONAI merges it."""
    if config.workflow == "evaluate":
        return
    used = {name for expression in expressions_of(config, own=False) for name in root_names(expression)}
    for expression in expressions_of(config):
        if expression.statement and expression.key.startswith("imports"):
            for alias in expression.statement.names:
                name = alias.asname or alias.name
                if name.split(".")[0] not in used:
                    yield config.finding(expression.key, f"imports '{name}', which no expression uses", "take it out")


def calls_are_allowed(config: Config) -> Iterator[Finding]:
    """$ expressions use what the allow-list names, and nothing else."""
    bound = bindings_of(config)
    for expression in expressions_of(config):
        for name in used_names(expression, bound):
            if name.startswith("?"):
                yield config.finding(expression.key, f"uses '{name[1:]}', which is not imported", "import it")
            elif name not in ALLOWED:
                remedy = "use another, or add it with its purpose to custom_nets/config_linter/allowed_calls.py"
                yield config.finding(expression.key, f"uses '{name}', which is not on the allow-list", remedy)


def _absolute_in(expression: Expression) -> Iterator[str]:
    """String constants that are absolute paths; one that is appended to something is not."""
    tree = expression.tree or ast.Module([], [])
    appended = {id(node.right) for node in ast.walk(tree) if isinstance(node, ast.BinOp)}
    pieces = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values[1:]}
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and id(node) not in appended | pieces else None
        if isinstance(text, str) and _ABSOLUTE.match(text):
            yield text


def _import_error(statement: ast.Import | ast.ImportFrom) -> str:
    try:
        for alias in statement.names:
            if isinstance(statement, ast.Import):
                importlib.import_module(alias.name)
            elif not hasattr(importlib.import_module(statement.module or ""), alias.name):
                importlib.import_module(f"{statement.module}.{alias.name}")
    except Exception as error:  # whatever a module raises while it is imported is what the user has to see
        return f"{type(error).__name__}: {error}"
    return ""


CONFIG_RULES = (
    keys_are_given_once,
    overlay_and_macros_fit,
    references_exist,
    inference_has_no_macro,
    macros_stay_in_the_file,
    inference_needs_no_metadata,
    paths_are_relative,
    expressions_are_python,
    imports_bind_a_name,
    imports_are_used,
    calls_are_allowed,
)
