# SPDX-License-Identifier: Apache-2.0
"""MetaImage files (.mha) to NIfTI, once, with the same voxels at the same places."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel
import numpy as np
from monai.data import ITKReader
from monai.utils import OptionalImportError
from tqdm import tqdm

from custom_nets.errors import InputError
from custom_nets.files import written_whole

FOLDER = "nifti"  # below the data set's folder, the files lie as they do there


def convert_folder(root: str | Path, pattern: str, *, progress: bool = True) -> tuple[list[Path], int]:
    """Convert the ``.mha`` files of a data set that have not been converted yet.

    Args:
        root: the data set's folder.
        pattern: regular expression of the files' paths without ``.mha``, relative to ``root``, with forward slashes;
            upper and lower case do not count.
        progress: show a bar on stderr if that is a terminal.

    Returns:
        The files that were written, ``root/nifti/...nii.gz``, and how many there were already. A file appears under its
        name only when it is complete, so that a call that was stopped can be repeated.

    Raises:
        InputError: as :func:`to_nifti`.
    """
    root = Path(root)
    wanted = re.compile(rf"{pattern}\.mha", re.IGNORECASE)
    found = sorted(path for path in root.rglob("*") if wanted.fullmatch(path.relative_to(root).as_posix()))
    outputs = {path: root / FOLDER / path.relative_to(root).with_suffix(".nii.gz") for path in found}
    absent = [path for path, output in outputs.items() if not output.is_file()]
    for path in tqdm(absent, desc="converting to NIfTI", unit="file", disable=None if progress else True):
        to_nifti(path, outputs[path])
    return [outputs[path] for path in absent], len(found) - len(absent)


def to_nifti(path: str | Path, output: str | Path) -> Path:
    """Write a 3D ``.mha`` file as NIfTI, whole or not at all.

    ITK's world runs to the left, posterior and superior, NIfTI's to the right, anterior and superior: the affine is
    turned, voxels stay where they are in the array and in the patient.

    Args:
        path: the file to read.
        output: ``.nii`` or ``.nii.gz``.

    Returns:
        ``output``.

    Raises:
        InputError: ITK is not installed; a file that is missing, cannot be read, or is not one 3D volume.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: does not exist: correct the path or bring the file back")
    try:
        reader = ITKReader()
        voxels, meta = reader.get_data(reader.read(str(path)))
    except OptionalImportError:
        raise InputError(f"{path}: reading .mha needs ITK: pip install itk, or convert it to NIfTI elsewhere") from None
    except (RuntimeError, KeyError, TypeError):  # ITK's own, of a file's content and of a type that it cannot hold
        raise InputError(f"{path}: is damaged, or no MetaImage that ITK reads: copy or download it again") from None
    voxels = np.asarray(voxels)
    if voxels.ndim != 3 or voxels.dtype.kind not in "iuf" or voxels.dtype in (np.int64, np.uint64):
        found = f"{voxels.ndim}D, shape {voxels.shape}, {voxels.dtype}"
        raise InputError(f"{path}: {found}: save it as a 3D volume of floats, or integers of at most 32 bits")
    image = nibabel.Nifti1Image(voxels, np.asarray(meta["affine"], dtype=np.float64))
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    with written_whole(output) as temporary:
        nibabel.save(image, temporary)
    return Path(output)
