# SPDX-License-Identifier: Apache-2.0
"""Folders of binary NIfTI masks, one file a structure, written as one label map a folder."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from custom_nets.datasets.label_table import structure_key
from custom_nets.datasets.merging import Merged, Rule, merge_foreground, processing_order
from custom_nets.datasets.problems import Problem, Severity
from custom_nets.datasets.volumes import AFFINE_TOLERANCE_MM, EXTENSIONS, UnusableFile, corner_shift, read_voxels
from custom_nets.errors import InputError
from custom_nets.files import write_json, written_whole


@dataclass(frozen=True)
class MaskFolder:
    """The masks of one case and where their label map goes.

    Attributes:
        case: its name.
        folder: holds a mask a structure.
        output: the ``.nii`` or ``.nii.gz`` file to write.
    """

    case: str
    folder: Path
    output: Path

    @property
    def report(self) -> Path:
        """The JSON file beside the label map that tells how it was made."""
        return self.output.with_name(f"{_stem(self.output)}_merge.json")


@dataclass(frozen=True)
class MergedCase:
    """A case whose label map was written.

    Attributes:
        case: its name.
        merged: the label map and the voxels that structures share.
        absent: label values of the table without a mask.
    """

    case: str
    merged: Merged
    absent: list[int]


def mask_folders(masks_dir: str | Path, output: str | Path) -> list[MaskFolder]:
    """The cases in a folder: the folder itself, or each of its subfolders.

    Args:
        masks_dir: holds masks, or a subfolder of masks for every case.
        output: the label map to write, ``.nii`` or ``.nii.gz``; the folder to write ``{case}.nii.gz`` into when there
            are subfolders. What lies there is no mask.

    Returns:
        The cases sorted by name.

    Raises:
        InputError: no folder; neither masks nor subfolders, or both; an output that does not fit.
    """
    root, output = Path(masks_dir), Path(output)
    if not root.is_dir():
        raise InputError(f"masks_dir {str(root)!r} is not a folder: give the folder that holds the masks")
    folders = [path for path in sorted(root.iterdir()) if _is_case(path) and path.resolve() != output.resolve()]
    masks = _masks(root, output)
    is_file = output.name.lower().endswith(EXTENSIONS)
    if masks and folders:
        raise InputError(
            f"{root}: holds masks, such as {masks[0].name}, beside folders of masks, such as {folders[0].name}: give "
            "the folder of one case, or one that holds only folders"
        )
    if masks and not is_file:
        raise InputError(f"output {str(output)!r}: {root} is one case, so give a file name ending in .nii.gz")
    if folders and is_file:
        raise InputError(f"output {str(output)!r}: {root} holds {len(folders)} cases in folders, so give a folder")
    if masks:
        return [MaskFolder(root.absolute().name, root, output)]
    if not folders:
        raise InputError(f"{root}: no .nii or .nii.gz file in it or in its folders: give the folder of the masks")
    return [MaskFolder(folder.name, folder, output / f"{folder.name}.nii.gz") for folder in folders]


def values_named(names: Sequence[str], table: Mapping[int, str]) -> list[int]:
    """The label values of structures, spelt as ``structure_key`` allows.

    Raises:
        InputError: naming the closest structure, for a name that is none.
    """
    by_key = _by_key(table)
    for name in names:
        if structure_key(name) not in by_key:
            raise InputError(f"order: {name!r} is not in the label table: {_closest(name, table)}")
    return [by_key[structure_key(name)] for name in names]


def merge_folder(
    masks: MaskFolder, table: Mapping[int, str], rule: Rule = "first", preferred: Sequence[int] = ()
) -> tuple[MergedCase | None, list[Problem]]:
    """Merge the masks of a case; write the label map with the masks' geometry, and a report beside it.

    Args:
        masks: the case.
        table: label value to structure. A mask belongs to the structure that its file is named after.
        rule: who gets a voxel that several structures claim; with ``error`` such a voxel is a problem.
        preferred: label values whose masks come first, see ``processing_order``.

    Returns:
        The written case, or None when a problem is an error, and all problems: masks that cannot be read, are not
        binary, lie on another grid or are in no table; as warnings masks without foreground or with none left.
    """
    problems: list[Problem] = []
    reference, foreground = _read_masks(masks, table, problems)
    if reference is None or any(problem.severity == "error" for problem in problems):
        return None, problems
    sizes = {value: len(voxels) for value, voxels in foreground.items()}
    order = processing_order(sizes, rule, preferred)
    merged = merge_foreground(reference.shape, {value: foreground[value] for value in order})
    if rule == "error" and merged.overlaps:
        problems += _refused(masks, merged, table)
        return None, problems
    problems += _swallowed(masks, merged, table)
    done = MergedCase(masks.case, merged, [value for value in table if value and value not in foreground])
    _write_label(masks.output, merged.label, reference)
    write_json(masks.report, _document(done, table, rule))
    return done, problems


def _read_masks(
    masks: MaskFolder, table: Mapping[int, str], problems: list[Problem]
) -> tuple[Any, dict[int, NDArray[Any]]]:
    """The first mask's image and the flat indices of the foreground of each; what is wrong goes to ``problems``."""
    by_key, files = _by_key(table), dict[int, Path]()
    reference, reference_name, foreground = None, "", dict[int, NDArray[Any]]()

    def add(path: Path, found: str, advice: str, severity: Severity = "error") -> None:
        problems.append(Problem(masks.case, str(path), found, advice, severity))

    for path in _masks(masks.folder, masks.output):
        value = by_key.get(structure_key(_stem(path)))
        if value is None:
            add(path, f"{_stem(path)!r} is not in the label table", f"{_closest(_stem(path), table)}, or leave it out")
            continue
        if value in files:
            add(path, f"{table[value]!r} has two masks, also {files[value].name}", "keep one of them")
            continue
        files[value] = path
        try:
            image, voxels = read_voxels(path)
            _require_mask(voxels)
            if reference is None:
                reference, reference_name = image, path.name
            _require_grid(image, reference, reference_name)
        except UnusableFile as reason:
            add(path, reason.found, reason.advice)
            continue
        foreground[value] = np.flatnonzero(voxels)
        if not foreground[value].size:
            add(path, "no foreground voxel", "check that it is the right mask", "warning")
    return reference, foreground


def _require_mask(voxels: NDArray[Any]) -> None:
    values = np.unique(voxels[voxels != 0])
    if voxels.ndim != 3:
        raise UnusableFile(f"mask is {voxels.ndim}D, shape {voxels.shape}", "save one 3D mask")
    if values.size > 1:
        shown = ", ".join(f"{value:g}" for value in values[:3])
        raise UnusableFile(f"{values.size} values besides 0 ({shown} ...), not a binary mask", "threshold it")
    if values.size and not 0 < values[0] < np.inf:
        raise UnusableFile(f"mask value {values[0]:g}", "save a mask of 0 and one positive value")


def _require_grid(image: Any, reference: Any, name: str) -> None:
    if image.shape != reference.shape:
        found = f"shape {image.shape}, but {name} has {reference.shape}"
        raise UnusableFile(found, "resample it onto that mask's grid")
    shift = corner_shift(reference.affine, image.affine, image.shape)
    if not shift <= AFFINE_TOLERANCE_MM:
        found = f"affine differs from {name} by up to {shift:.3g} mm (allowed {AFFINE_TOLERANCE_MM:g} mm)"
        raise UnusableFile(found, "resample it onto that mask's grid, or copy that header if the voxels correspond")


def _refused(masks: MaskFolder, merged: Merged, table: Mapping[int, str]) -> Iterator[Problem]:
    for pair in merged.overlaps:
        found = f"{table[pair.winner]!r} and {table[pair.loser]!r} share {pair.voxels} voxel(s)"
        yield Problem(masks.case, str(masks.folder), found, "mend the masks, or give another --overlap")


def _swallowed(masks: MaskFolder, merged: Merged, table: Mapping[int, str]) -> Iterator[Problem]:
    for value, kept in merged.kept.items():
        if merged.claimed[value] and not kept:
            found = f"all {merged.claimed[value]} voxel(s) of {table[value]!r} went to other structures"
            advice = "look at the masks; --overlap smallest lets the smaller structure win"
            yield Problem(masks.case, str(masks.folder), found, advice, "warning")


def _write_label(path: Path, label: NDArray[Any], reference: Any) -> None:
    image = nibabel.Nifti1Image(label, reference.affine, reference.header, dtype=label.dtype)
    image.header["descrip"] = b"binary masks merged by merge_labels"
    image.header["cal_min"], image.header["cal_max"] = 0, 0  # of a mask they were 0 and 1; 0 and 0 is "not set"
    with written_whole(path) as temporary:
        nibabel.save(image, temporary)


def _document(done: MergedCase, table: Mapping[int, str], rule: str) -> dict[str, Any]:
    merged, kept = done.merged, done.merged.kept
    return {
        "case": done.case,
        "overlap": rule,
        "shape": list(merged.label.shape),
        "structures": [
            {"label": value, "name": table[value], "mask_voxels": claimed, "label_voxels": kept[value]}
            for value, claimed in merged.claimed.items()
        ],
        "overlaps": [
            {"got": table[pair.winner], "lost": table[pair.loser], "voxels": pair.voxels} for pair in merged.overlaps
        ],
        "absent": [table[value] for value in done.absent],
    }


def _by_key(table: Mapping[int, str]) -> dict[str, int]:
    return {structure_key(name): value for value, name in table.items() if value}


def _closest(name: str, table: Mapping[int, str]) -> str:
    by_key = _by_key(table)
    nearest = difflib.get_close_matches(structure_key(name), by_key, n=1, cutoff=0.0)[0]
    return f"rename it; the closest name there is {table[by_key[nearest]]!r}"


def _is_case(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and bool(_masks(path))


def _masks(folder: Path, output: Path | None = None) -> list[Path]:
    """The NIfTI files of a folder by name, without the label map of an earlier call."""
    files = (path for path in sorted(folder.iterdir()) if path.name.lower().endswith(EXTENSIONS))
    sound = [path for path in files if path.is_file() and not path.name.startswith(".")]
    return [path for path in sound if output is None or path.resolve() != output.resolve()]


def _stem(path: Path) -> str:
    """The file name without its extension; other dots belong to the name."""
    extension = next(end for end in EXTENSIONS if path.name.lower().endswith(end))
    return path.name[: -len(extension)]
