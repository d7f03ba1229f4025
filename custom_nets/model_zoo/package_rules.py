# SPDX-License-Identifier: Apache-2.0
"""The rule about the packages that a bundle's code imports: the Model Zoo installs those that the metadata name."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from custom_nets.model_zoo.verdicts import Problem, Subject, fails

_REQUIRED = "required_packages_version"
#: Named by keys of their own in the metadata.
_ALWAYS = {"torch", "monai", "numpy"}
_MODULE = re.compile(r"custom_nets(?:\.\w+)*")


def packages_are_named(subject: Subject) -> Iterator[Problem]:
    """required_packages_version names each package that the configurations' code imports."""
    named = {_plain(name) for name in (*_ALWAYS, *subject.files.metadata.get(_REQUIRED, {}))}
    for package, module in sorted(_packages(subject).items()):
        if _plain(package) not in named:
            yield fails(f"{package}, which {module} imports, is not there", "add it with its version")


def _packages(subject: Subject) -> dict[str, str]:
    """Packages that are imported by what the configurations name, by what that imports, and so on -> one importer."""
    root = subject.folder if (subject.folder / "custom_nets").is_dir() else subject.folder.parent.parent
    configs = sorted((subject.folder / "configs").glob("*.json"))
    waiting = [name for path in configs for name in _MODULE.findall(path.read_text(encoding="utf-8"))]
    reached: set[Path] = set()
    packages: dict[str, str] = {}
    while waiting:
        for path in _files(root, waiting.pop()) - reached:
            reached.add(path)
            for name in _imports(path):
                top = name.partition(".")[0]
                if top == "custom_nets":
                    waiting.append(name)
                elif top not in sys.stdlib_module_names:
                    packages.setdefault(_distribution(top), path.relative_to(root).as_posix())
    return packages


def _files(root: Path, name: str) -> set[Path]:
    """Files of a module of custom_nets and of the packages around it; ``name`` may end with a class or a function."""
    parts = name.split(".")
    found = set()
    for length in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:length])
        found |= {path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()}
    return found


@cache
def _imports(path: Path) -> tuple[str, ...]:
    """What a file imports, at once, later in a function, or by a name in a string."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE.fullmatch(node.value):
            names.append(node.value)
    return tuple(names)


def _distribution(module: str) -> str:
    """What is installed to import a module; its own name where that is not known here."""
    return _distributions().get(module, [module])[0]


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


def _plain(name: str) -> str:
    """A package's name in the form in which names are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


RULES = (packages_are_named,)
