# SPDX-License-Identifier: Apache-2.0
"""The one form of a data set: a folder with a ``datalist.json`` as in the Medical Segmentation Decathlon."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError

SECTIONS = ("training", "validation", "testing")
Case = dict[str, Any]
_SHORT_NAMES = {"train": "training", "val": "validation", "valid": "validation", "test": "testing"}
_HOW_TO_BEGIN = (
    "make demo data with 'python -m tools.demo_data NAME DIR' or list your own with 'python -m tools.make_datalist'"
)


def load_section(
    dataset_dir: str | Path,
    datalist: str | Path = "datalist.json",
    section: str = "training",
    labelled: bool = True,
    optional: bool = False,
) -> list[Case]:
    """The cases of one section, ready for a MONAI data set.

    Args:
        dataset_dir: the folder of the data set.
        datalist: the list's name in ``dataset_dir``, or its absolute path.
        section: ``"training"``, ``"validation"`` or ``"testing"``.
        labelled: whether every case needs a label. When False, labels are left out, so that all cases have equal keys.
        optional: whether the section may have no cases.

    Returns:
        ``{"image": [absolute paths], "label": absolute path, ...}``, other keys of the file unchanged.

    Raises:
        InputError: as ``read_datalist``; the section has no cases; a case has no label though ``labelled``.
    """
    if section not in SECTIONS:
        raise InputError(f"section {section!r} is unknown: use one of {', '.join(SECTIONS)}")
    path = datalist_path(dataset_dir, datalist)
    cases = read_datalist(dataset_dir, datalist)[section]
    if not cases and not optional:
        raise InputError(
            f"{path} has no {section!r} cases: add them, or write the list with 'python -m tools.make_datalist'"
        )
    if not labelled:
        return [{key: value for key, value in case.items() if key != "label"} for case in cases]
    unlabelled = [index for index, case in enumerate(cases) if "label" not in case]
    if unlabelled:
        raise InputError(
            f"{path}: {section}[{unlabelled[0]}] has no 'label' ({len(unlabelled)} such cases): add the labels"
        )
    return cases


def read_datalist(dataset_dir: str | Path, datalist: str | Path = "datalist.json") -> dict[str, list[Case]]:
    """Read and validate a data list, without opening the images.

    Args:
        dataset_dir: the folder of the data set; paths in the list are relative to it.
        datalist: the list's name in ``dataset_dir``, or its absolute path.

    Returns:
        The cases of ``training``, ``validation`` and ``testing`` (empty when absent from the file):
        ``{"image": [absolute paths in channel order], "label": absolute path, ...}``. One 4D file counts as all
        modalities. Keys that are not known are kept.

    Raises:
        InputError: folder or file missing; no JSON; wrong types; unknown section; a case without image, or without
            label in training or validation; empty training list; a training image or patient that is also in
            validation. The message lists everything that is wrong.
    """
    return parse_datalist(dataset_dir, datalist)[1]


def parse_datalist(
    dataset_dir: str | Path, datalist: str | Path = "datalist.json", leakage: bool = False
) -> tuple[dict[str, Any], dict[str, list[Case]]]:
    """``read_datalist`` together with the file's other keys (``modality``, ``labels``, ``name`` ...), header first.

    ``leakage`` lets a list pass in which training and validation share patients: nothing will be trained on it.
    """
    path = datalist_path(dataset_dir, datalist)
    content = _load_json(path, Path(dataset_dir))
    header = _header_of(content)
    faults = list(_faults(content, header))
    if not faults:
        root = Path(dataset_dir).absolute()
        sections = {name: [_resolved(root, case) for case in content.get(name, [])] for name in SECTIONS}
        allowed = leakage or header.get("overlap_allowed") is True
        faults = [] if allowed else list(_leaks(sections))
    if faults:
        raise InputError(f"{path}: " + "\n  ".join([*([f"{len(faults)} faults:"] if len(faults) > 1 else []), *faults]))
    return header, sections


def read_header(dataset_dir: str | Path, datalist: str | Path = "datalist.json") -> dict[str, Any]:
    """The data list's other keys (``modality``, ``labels`` ...), read without a look at its cases.

    Raises:
        InputError: folder or file missing, or no JSON object.
    """
    return _header_of(_load_json(datalist_path(dataset_dir, datalist), Path(dataset_dir)))


def datalist_path(dataset_dir: str | Path, datalist: str | Path) -> Path:
    """Where the list of a data set lies; an absolute ``datalist`` stays as it is."""
    return Path(dataset_dir) / datalist


def _load_json(path: Path, folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise InputError(f"dataset_dir {str(folder)!r} is not a folder: {_HOW_TO_BEGIN}")
    if not path.is_file():
        raise InputError(f"data list {str(path)!r} does not exist: {_HOW_TO_BEGIN}")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}): correct that line") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: holds a {type(content).__name__}, not an object with the lists {', '.join(SECTIONS)}"
        )
    return content


def _header_of(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in SECTIONS}


def _faults(content: dict[str, Any], header: dict[str, Any]) -> Iterator[str]:
    for name, value in header.items():
        if isinstance(value, list) and (name in _SHORT_NAMES or any(isinstance(item, dict) for item in value)):
            meant = _SHORT_NAMES.get(name, "one of " + ", ".join(SECTIONS))
            yield f"unknown section {name!r}: rename it to {meant}"
    if not any(name in content for name in SECTIONS):
        yield f"none of the lists {', '.join(SECTIONS)}: add at least one"
    if content.get("training") == []:
        yield "the training list is empty: add cases, or remove the key if the list is for inference only"
    for name in SECTIONS:
        cases = content.get(name, [])
        if not isinstance(cases, list):
            yield f"{name} is a {type(cases).__name__}, not a list of cases"
            continue
        for index, case in enumerate(cases):
            yield from (f"{name}[{index}]: {fault}" for fault in _case_faults(case, needs_label=name != "testing"))


def _case_faults(case: Any, needs_label: bool) -> Iterator[str]:
    if not isinstance(case, dict):
        yield f'is {case!r}, not an object like {{"image": [...], "label": ...}}'
        return
    if "image" not in case:
        yield f"has no 'image' (keys: {', '.join(case) or 'none'}): add the path, or the paths, one a modality"
    else:
        images = case["image"] if isinstance(case["image"], list) else [case["image"]]
        if not images or not all(isinstance(path, str) and path for path in images):
            yield f"'image' is {case['image']!r}, not a path or a list of paths"
    label = case.get("label")
    if label is None and needs_label:
        yield "has no 'label': add its path, or move the case to testing"
    if label is not None and not (isinstance(label, str) and label):
        yield f"'label' is {label!r}, not a path"


def _resolved(root: Path, case: Case) -> Case:
    images = case["image"] if isinstance(case["image"], list) else [case["image"]]
    resolved = {**case, "image": [os.path.normpath(root / path) for path in images]}
    if case.get("label") is None:
        resolved.pop("label", None)
    else:
        resolved["label"] = os.path.normpath(root / case["label"])
    return resolved


def _leaks(sections: dict[str, list[Case]]) -> Iterator[str]:
    """What training and validation share; a validation score would then be worthless."""
    advice = 'keep it in one of them (an overfitting test on purpose: write "overlap_allowed": true in the file)'
    for image in sorted(_images(sections["training"]) & _images(sections["validation"])):
        yield f"leakage, {image} is in training and validation: {advice}"
    for patient in sorted(_patients(sections["training"]) & _patients(sections["validation"])):
        yield f"leakage, patient {patient} is in training and validation: {advice}"


def _images(cases: list[Case]) -> set[str]:
    return {os.path.realpath(path) for case in cases for path in case["image"]}


def _patients(cases: list[Case]) -> set[str]:
    return {str(case["patient"]) for case in cases if "patient" in case}
