# SPDX-License-Identifier: Apache-2.0
"""List the bundles, or tell how to use one of them."""

from __future__ import annotations

import os
import re
from json import dumps, loads
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError
from custom_nets.files import write_text
from custom_nets.marked_text import markdown_table, marked, with_marked
from custom_nets.options import option_rows
from custom_nets.registry import ROOT, Bundle, available, bundle
from tools._command import run

#: Markers in the repository's README between which the table of bundles stands.
MARKERS = "bundles"
_README = ROOT / "README.md"
_COMMANDS = {
    "train": ("python -m monai.bundle run training --config_file", ("train",)),
    "train on all GPUs": (
        "torchrun --standalone --nproc_per_node=gpu -m monai.bundle run training --config_file",
        ("train", "multi_gpu_train"),
    ),
    "evaluate": ("python -m monai.bundle run evaluating --config_file", ("evaluate",)),
    "segment": ("python -m monai.bundle run evaluating --config_file", ("inference",)),
}


def main(name: str | None = None, *, json: bool = False, readme: bool = False, write: bool = False) -> None:
    """List the bundles, or with a name tell how to use that one: commands, paths, options and their defaults.

    Args:
        name: of a bundle.
        json: print JSON, for programs.
        readme: print the table of bundles for README.md.
        write: with readme, put the table into README.md.
    """
    if (write and not readme) or (readme and (name is not None or json)):
        raise InputError("readme goes with write alone: python -m tools.info --readme [--write]")
    if readme:
        print(f"wrote {write_readme()}" if write else readme_table())
        return
    if name is None:
        print(_as_json([describe(entry) for entry in available().values()]) if json else _listing())
    else:
        content = details(bundle(str(name)))
        print(_as_json(content) if json else _page(content))


def describe(entry: Bundle) -> dict[str, Any]:
    """Return what the registry knows of a bundle, as JSON has it."""
    return {
        "name": entry.name,
        "version": entry.version,
        "title": entry.title,
        "task": entry.task,
        "modalities": list(entry.modalities),
        "labels": {str(value): name for value, name in entry.labels.items()},
        "paper": entry.paper,
    }


def details(entry: Bundle) -> dict[str, Any]:
    """Return `describe` with a bundle's commands (from the repository's root), paths and options."""
    folder = entry.folder
    configs = folder / "configs"
    commands = {
        what: f"{start} {_files(configs, names)}"
        for what, (start, names) in _COMMANDS.items()
        if all((configs / f"{name}.json").is_file() for name in names)
    }
    commands |= {
        f"train, stage {name}": f"{_COMMANDS['train'][0]} {_files(configs, (name,))}" for name in _stages(configs)
    }
    paths = {
        "folder": _shown(folder),
        "card": _shown(folder / "docs" / "README.md"),
        "weights": _shown(folder / "models" / "model.pt"),
        "data": os.path.normpath(_shown(folder / ".." / ".." / "data" / entry.name)),
    }
    header = ("key", "default", "workflows", "meaning")
    options = [dict(zip(header, row, strict=True)) for row in option_rows(folder)]
    return {**describe(entry), "commands": commands, "paths": paths, "options": options}


def _stages(configs: Path) -> list[str]:
    """Further stages of training whose configurations stand alone."""
    contents = {path.stem: loads(path.read_text(encoding="utf-8")) for path in sorted(configs.glob("*.json"))}
    return [name for name, keys in contents.items() if name != "train" and {"bundle_root", "ckpt_dir"} <= set(keys)]


def readme_table() -> str:
    """Return the table of all bundles, in Markdown."""
    rows = []
    for entry in available().values():
        link, modalities = f"[{entry.name}]({_shown(entry.folder)})", ", ".join(entry.modalities)
        rows.append((link, entry.task, modalities, _labels(entry), _cited(entry.paper), entry.version))
    return markdown_table(("Bundle", "Task", "Modalities", "Labels", "Paper", "Version"), rows)


def readme_is_current() -> bool:
    """Whether README.md has the table of bundles as it is now. True in an exported bundle, which has no list."""
    if not available() or (ROOT / "configs").is_dir():
        return True
    return _README.is_file() and marked(_README.read_text(encoding="utf-8"), MARKERS) == readme_table()


def write_readme() -> Path:
    """Put the table of bundles into README.md; return its path.

    Raises:
        InputError: if the file or its markers are missing.
    """
    text = _README.read_text(encoding="utf-8") if _README.is_file() else ""
    if marked(text, MARKERS) is None:
        raise InputError(f"{_README}: add the lines <!-- {MARKERS} --> and <!-- /{MARKERS} --> where the table goes")
    return write_text(_README, with_marked(text, MARKERS, readme_table()))


def _as_json(content: Any) -> str:
    return dumps(content, indent=2, ensure_ascii=False)


def _listing() -> str:
    lines = []
    for entry in available().values():
        lines.append(f"{entry.name} (version {entry.version}): {entry.task}")
        lines.append(f"    from {', '.join(entry.modalities)}; to {_labels(entry)}")
        lines.append(f"    {entry.paper}")
    example = next(iter(available()), "NAME")
    return "\n".join([*lines, "", f"How to use one: python -m tools.info {example}"])


def _page(content: dict[str, Any]) -> str:
    labels = ", ".join(f"{value} {name}" for value, name in content["labels"].items())
    lines = [
        f"{content['title']} ({content['name']} {content['version']}): {content['task']}",
        f"    {content['paper']}",
        f"modalities, in this order: {', '.join(content['modalities'])}",
        f"labels: {labels}",
        *(f"{what}: {path}" for what, path in content["paths"].items()),
    ]
    for what, command in content["commands"].items():
        lines += ["", f"{what}:", f"    {command}"]
    lines += ["", "options, added to any command as --KEY VALUE:"]
    width = max((len(row["key"]) for row in content["options"]), default=0)
    for row in content["options"]:
        lines.append(f"    {row['key'].ljust(width)}  {row['meaning']} [{row['default']}] ({row['workflows']})")
    return "\n".join(lines)


def _files(configs: Path, names: tuple[str, ...]) -> str:
    paths = [_shown(configs / f"{name}.json") for name in names]
    return paths[0] if len(paths) == 1 else '"[' + ",".join(f"'{path}'" for path in paths) + ']"'


def _shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _labels(entry: Bundle) -> str:
    names = [name for value, name in entry.labels.items() if value]
    return ", ".join(names) if len(names) <= 6 else f"{len(names)} structures"


def _cited(paper: str) -> str:
    """First author and year with a link, where the citation has an address; otherwise the citation as it is."""
    address = re.search(r"https?://\S+", paper)
    year = re.search(r"\b(19|20)\d\d\b", paper.split("http")[0])
    if not address or not year:
        return paper
    return f"[{paper.split()[0]} et al. {year[0]}]({address[0].rstrip('.')})"


if __name__ == "__main__":
    run(main)
