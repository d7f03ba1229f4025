# SPDX-License-Identifier: Apache-2.0
"""Phantoms on disk: NIfTI files and ``datalist.json``, the same bytes for the same seed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from custom_nets.errors import InputError
from custom_nets.files import write_json, written_whole
from custom_nets.phantoms.case import Generator, PhantomCase
from custom_nets.phantoms.ms_brain import MS_BRAIN
from custom_nets.registry import Bundle, bundle

#: Bundle name -> how its phantoms are made. A new bundle adds one line.
GENERATORS: dict[str, Generator] = {
    "rsanet": MS_BRAIN,
}
DATALIST = "datalist.json"
LEAST_CASES = 3


def make_case(
    name: str, seed: int | Sequence[int] = 0, spacing: float | None = None, shape: Sequence[int] | None = None
) -> PhantomCase:
    """Make one synthetic patient for a bundle.

    Args:
        name: the bundle, such as ``"rsanet"``.
        seed: whole number, or several; the same seed gives the same patient at any spacing, and the same voxels.
        spacing: edge of the cubic voxels in mm; left out, the domain's own.
        shape: voxels along x, y, z; left out, as few as hold the body.

    Returns:
        Images by modality, label map and affine.

    Raises:
        InputError: no phantoms for that name; spacing, shape or seed out of range.
    """
    generator = _generator(name)
    try:
        rng = np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise InputError(f"seed is {seed!r}: give a whole number from 0 upwards") from None
    return generator.make(rng, generator.grid(spacing, shape))


def write_dataset(
    name: str,
    directory: str | Path,
    cases: int = 8,
    seed: int = 0,
    spacing: float | None = None,
    shape: Sequence[int] | None = None,
    *,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Write a data set of synthetic patients: volumes first, ``datalist.json`` last.

    Case ``i`` depends on ``seed`` and ``i`` alone, so a larger set begins with the smaller one's patients. One case in
    four goes to testing (with label), one in eight to validation.

    Args:
        name: the bundle, such as ``"rsanet"``; its metadata give the order of the images and the labels' names.
        directory: where to write; made if it is not there.
        cases: number of cases, at least 3.
        seed: whole number from 0 upwards.
        spacing: edge of the cubic voxels in mm; left out, the domain's own (rsanet: 1.5).
        shape: voxels along x, y, z; left out, as few as hold the body.
        overwrite: replace the data list of another data set, and files of the same name.
        progress: show a progress bar on stderr.

    Returns:
        The path of ``datalist.json``.

    Raises:
        InputError: no phantoms for that name; an option out of range; the folder holds another data set.
    """
    generator = _generator(name)
    for option, value, least in (("cases", cases, LEAST_CASES), ("seed", seed, 0)):
        if type(value) is not int or value < least:
            raise InputError(f"{option} is {value!r}: give a whole number from {least} upwards")
    grid, facts, root = generator.grid(spacing, shape), bundle(name), Path(directory)
    recipe = {"bundle": name, "cases": cases, "seed": seed, "spacing": list(grid.spacing), "shape": list(grid.shape)}
    _check_free(root, recipe, overwrite)
    width = max(2, len(str(cases)))
    entries = []
    for index in tqdm(range(1, cases + 1), desc=f"{name} demo data", unit="case", disable=not progress):
        case = generator.make(np.random.default_rng([seed, index]), grid)
        entries.append(_write_case(root, f"c{index:0{width}d}", case, facts))
    return write_json(root / DATALIST, _content(facts, recipe, entries))


def split_counts(cases: int) -> tuple[int, int, int]:
    """Training, validation and testing cases: a quarter for testing, an eighth for validation, at least one each."""
    testing, validation = max(1, cases // 4), max(1, cases // 8)
    return cases - validation - testing, validation, testing


def _generator(name: str) -> Generator:
    if name not in GENERATORS:
        raise InputError(f"there are no demo data for {name!r}: choose one of {', '.join(GENERATORS)}")
    return GENERATORS[name]


def _check_free(root: Path, recipe: dict[str, Any], overwrite: bool) -> None:
    """Refuse a folder that holds a data list of anything but the same phantoms."""
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file: give a folder for the demo data")
    path = root / DATALIST
    if overwrite or not path.exists():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("recipe")
    except (ValueError, AttributeError):
        found = None
    if found != recipe:
        raise InputError(f"{path} belongs to another data set: give an empty folder, or --overwrite to replace it")


def _write_case(root: Path, stem: str, case: PhantomCase, facts: Bundle) -> dict[str, Any]:
    """Write one case; return its entry of the data list, images in the order of the bundle's metadata."""
    images = []
    for modality in facts.modalities:
        images.append(f"{stem}_{modality.lower()}.nii.gz")
        _write_volume(root / images[-1], case.images[modality], case.affine)
    label = f"{stem}_label.nii.gz"
    _write_volume(root / label, case.label, case.affine)
    return {"image": images, "label": label}


def _write_volume(path: Path, voxels: NDArray[Any], affine: NDArray[np.float64]) -> None:
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    with written_whole(path) as temporary:
        # nibabel itself would put the time of day into the gzip header
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))


def _content(facts: Bundle, recipe: dict[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    training, validation, testing = split_counts(len(entries))
    return {
        "name": f"{facts.name} demo data",
        "description": "Synthetic volumes painted by a program: they show that a pipeline runs, not how well it does",
        "licence": "Apache-2.0",
        "recipe": recipe,
        "modality": {str(index): modality for index, modality in enumerate(facts.modalities)},
        "labels": {str(value): name for value, name in facts.labels.items()},
        "numTraining": training,
        "numTest": testing,
        "training": entries[:training],
        "validation": entries[training : training + validation],
        "testing": entries[training + validation :],
    }
