# SPDX-License-Identifier: Apache-2.0
"""Phantoms on disk: NIfTI files and ``datalist.json``, the same bytes for the same seed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
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
from custom_nets.phantoms.pelvis import PELVIS
from custom_nets.phantoms.spine import SPINE
from custom_nets.phantoms.stroke_brain import STROKE_BRAIN
from custom_nets.phantoms.tumour_brain import TUMOUR_BRAIN
from custom_nets.registry import bundle

#: Bundle name -> how its phantoms are made. A new bundle adds one line.
GENERATORS: dict[str, Generator] = {
    "rsanet": MS_BRAIN,
    "s2anet": PELVIS,
    "s2ca_net": TUMOUR_BRAIN,
    "spineparsenet": SPINE,
    "zoom_resunet": STROKE_BRAIN,
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
        spacing: voxel size in mm along x; left out, the domain's own, whose proportions stay.
        shape: voxels along x, y, z; left out, as few as hold the body. A spine's files store the axes in any order.

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
        spacing: voxel size in mm along x; left out, the domain's own (rsanet: 1.5, s2anet: 4 in axial slices of 8,
            spineparsenet: sagittal slices of 4.4 with voxels of 1.2, the others: 2). Proportions stay.
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
    check_free(root, recipe, overwrite)
    width = max(2, len(str(cases)))
    entries = []
    for index in tqdm(range(1, cases + 1), desc=f"{name} demo data", unit="case", disable=not progress):
        case = generator.make(np.random.default_rng([seed, index]), grid)
        entries.append(write_case(root, f"c{index:0{width}d}", case, facts.modalities))
    header = {
        "name": f"{name} demo data",
        "description": "Synthetic volumes painted by a program: they show that a pipeline runs, not how well it does",
        "licence": "Apache-2.0",
        **generator.header,
        "recipe": recipe,
    }
    content = datalist_content(header, facts.modalities, facts.labels, entries, split_counts(cases))
    return write_json(root / DATALIST, content)


def split_counts(cases: int) -> tuple[int, int, int]:
    """Training, validation and testing cases: a quarter for testing, an eighth for validation, at least one each."""
    testing, validation = max(1, cases // 4), max(1, cases // 8)
    return cases - validation - testing, validation, testing


def check_free(root: Path, recipe: dict[str, Any], overwrite: bool) -> None:
    """Refuse a folder that holds a data list of anything but the same data set.

    Args:
        root: the folder.
        recipe: what the data set is made of, as its list keeps it.
        overwrite: whether another list may be replaced.

    Raises:
        InputError: there is another list, or a file in place of the folder.
    """
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


def write_case(root: Path, stem: str, case: PhantomCase, modalities: Sequence[str]) -> dict[str, Any]:
    """Write one case's volumes into ``root``; return its entry of the data list, images in the order given."""
    images = []
    for modality in modalities:
        images.append(f"{stem}_{modality.lower()}.nii.gz")
        _write_volume(root / images[-1], case.images[modality], case.affine)
    label = f"{stem}_label.nii.gz"
    _write_volume(root / label, case.label, case.affine)
    return {"image": images, "label": label}


def datalist_content(
    header: dict[str, Any],
    modalities: Sequence[str],
    labels: Mapping[int, str],
    entries: list[dict[str, Any]],
    counts: tuple[int, int, int],
) -> dict[str, Any]:
    """Return the content of ``datalist.json``.

    Args:
        header: the keys before the house's own, such as ``name`` and ``recipe``.
        modalities: of every case, in order.
        labels: value of the label map to its name.
        entries: of the cases, training first, then validation, then testing.
        counts: number of cases for training, validation and testing.
    """
    training, validation, testing = counts
    return {
        **header,
        "modality": {str(index): modality for index, modality in enumerate(modalities)},
        "labels": {str(value): name for value, name in labels.items()},
        "numTraining": training,
        "numTest": testing,
        "training": entries[:training],
        "validation": entries[training : training + validation],
        "testing": entries[training + validation :],
    }


def _generator(name: str) -> Generator:
    if name not in GENERATORS:
        raise InputError(f"there are no demo data for {name!r}: choose one of {', '.join(GENERATORS)}")
    return GENERATORS[name]


def _write_volume(path: Path, voxels: NDArray[Any], affine: NDArray[np.float64]) -> None:
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    with written_whole(path) as temporary:
        # nibabel itself would put the time of day into the gzip header
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))
