# SPDX-License-Identifier: Apache-2.0
"""A data set of real lesion masks painted into one healthy T1, in the form of the house."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from custom_nets.datasets.volumes import (
    AFFINE_TOLERANCE_MM,
    EXTENSIONS,
    UnusableFile,
    Volume,
    corner_shift,
    read_volume,
)
from custom_nets.errors import InputError
from custom_nets.files import write_json
from custom_nets.phantoms.painted import measured_host, paint_case
from custom_nets.phantoms.writing import DATALIST, check_free, datalist_content, split_counts, write_case

MODALITIES = ("T1",)
LABELS = {0: "background", 1: "lesion"}


def write_painted(
    image: str | Path,
    mask_dir: str | Path,
    directory: str | Path,
    cases: int = 8,
    seed: int = 0,
    validation: int | None = None,
    testing: int | None = None,
    *,
    vary: bool = True,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Paint lesion masks into a healthy T1: volumes first, ``datalist.json`` last.

    The masks are drawn by the seed, none twice, and all of them are checked before the first volume is written.

    Args:
        image: NIfTI file of the healthy T1, 3D.
        mask_dir: folder of NIfTI masks on the image's grid, not 0 in the lesion.
        directory: where to write; made if it is not there.
        cases: number of cases.
        seed: whole number from 0 upwards; another one draws other masks.
        validation: number of validation cases; left out, one in eight.
        testing: number of testing cases; left out, one in four.
        vary: let position, shape and scanner differ from case to case, see `paint_case`.
        overwrite: replace the data list of another data set, and files of the same name.
        progress: show a progress bar on stderr.

    Returns:
        The path of ``datalist.json``.

    Raises:
        InputError: a file is missing, damaged, empty, on another grid or not finite; too few masks; an option out of
            range; the folder holds another data set.
    """
    image, root = Path(image), Path(directory)
    counts = _counts(cases, seed, validation, testing)
    masks = _chosen(Path(mask_dir), cases, seed)
    recipe = {"image": image.name, "masks": [mask.name for mask in masks], "seed": seed, "vary": vary}
    check_free(root, recipe, overwrite)
    facts = _image_facts(image)
    for mask in masks:
        _check_mask(mask, image, facts)
    try:
        host = measured_host(_voxels(image), facts.affine)
    except InputError as error:
        raise InputError(f"{image}: {error}") from None
    entries = []
    for number, mask in enumerate(tqdm(masks, desc="painted infarcts", unit="case", disable=not progress), start=1):
        try:
            case = paint_case(host, _voxels(mask) != 0, np.random.default_rng([seed, number]), vary=vary)
        except InputError as error:
            raise InputError(f"{mask}: {error}") from None
        entries.append(write_case(root, f"p{number:0{max(2, len(str(cases)))}d}", case, MODALITIES))
    header = {
        "name": "painted infarcts",
        "description": "Real lesion masks with made-up intensities on one healthy head: no measure of accuracy",
        "recipe": recipe,
    }
    return write_json(root / DATALIST, datalist_content(header, MODALITIES, LABELS, entries, counts))


def _counts(cases: int, seed: int, validation: int | None, testing: int | None) -> tuple[int, int, int]:
    """Check the numbers; return how many cases are for training, validation and testing."""
    for option, value, least in (("cases", cases, 1), ("seed", seed, 0)):
        if type(value) is not int or value < least:
            raise InputError(f"{option} is {value!r}: give a whole number from {least} upwards")
    usual = dict(zip(("validation", "testing"), split_counts(cases)[1:], strict=True))
    for option, wish in (("validation", validation), ("testing", testing)):
        if wish is None:
            continue
        if type(wish) is not int or wish < 0:
            raise InputError(f"{option} is {wish!r}: give a number of cases from 0 upwards")
        usual[option] = wish
    training = cases - sum(usual.values())
    if training < 1:
        held_out = " and ".join(f"{count} for {option}" for option, count in usual.items())
        raise InputError(f"{cases} cases with {held_out} leave none for training: give more --cases")
    return training, usual["validation"], usual["testing"]


def _chosen(folder: Path, cases: int, seed: int) -> list[Path]:
    """Masks in the order of a random draw."""
    if not folder.is_dir():
        raise InputError(f"mask_dir {str(folder)!r} is not a folder: give the folder that holds the lesion masks")
    found = sorted(path for path in folder.iterdir() if path.name.lower().endswith(EXTENSIONS))
    if len(found) < cases:
        raise InputError(f"{folder} holds {len(found)} masks (.nii, .nii.gz), too few for {cases} cases: give fewer")
    return [found[index] for index in np.random.default_rng(seed).permutation(len(found))[:cases]]


def _image_facts(path: Path) -> Volume:
    facts = _facts(path, label=False)
    if len(facts.shape) != 3:
        raise InputError(f"{path}: the shape is {facts.shape}: give one T1 with three axes")
    if facts.channels[0].non_finite:
        raise InputError(f"{path}: {facts.channels[0].non_finite} voxels are NaN or infinite: set them to a number")
    return facts


def _check_mask(path: Path, image: Path, host: Volume) -> None:
    facts = _facts(path, label=True)
    if facts.shape != host.shape or corner_shift(facts.affine, host.affine, host.grid) > AFFINE_TOLERANCE_MM:
        raise InputError(
            f"{path}: the grid {facts.shape} is not that of {image}, {host.shape}, or its affine differs: resample it"
        )
    if not np.isfinite(list(facts.values or ())).all():
        raise InputError(f"{path}: some voxels are NaN or infinite: give a mask of 0 and 1")
    if not facts.values:
        raise InputError(f"{path}: the mask is empty: remove it from the folder")
    if len(facts.values) > 1:
        raise InputError(f"{path}: values {sorted(facts.values)[:5]} besides 0: give a mask of 0 and 1")


def _facts(path: Path, label: bool) -> Volume:
    try:
        return read_volume(path, label=label)
    except UnusableFile as error:
        raise InputError(f"{path}: {error.found}: {error.advice}") from None


def _voxels(path: Path) -> NDArray[np.generic]:
    return np.asanyarray(nib.Nifti1Image.from_filename(path).dataobj)
