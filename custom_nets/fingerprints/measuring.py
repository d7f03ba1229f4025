# SPDX-License-Identifier: Apache-2.0
"""The scans of one case in a few numbers each."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from custom_nets.datasets.sampling import strides
from custom_nets.errors import InputError
from custom_nets.fingerprints.appearance import Samples, appearance, coarser, foreground_of
from custom_nets.fingerprints.quantities import PLANES, axes

ISOTROPIC = "isotropic"
_THICK = 1.5  # times the voxel size along the other axes, from which on an axis is that of the slices
_FEWEST_VOXELS = 200  # of common foreground that a correlation needs


@dataclass(frozen=True)
class Scan:
    """One scan.

    Attributes:
        values: name in `custom_nets.fingerprints.quantities.QUANTITIES` to number.
        orientation: where the file's axes point, such as "LPS"; "unknown" where the header does not say.
        plane: of the slices, "axial", "coronal" or "sagittal"; "isotropic" where no voxel side is the longest by far.
    """

    values: Mapping[str, float]
    orientation: str
    plane: str


@dataclass(frozen=True)
class CaseMeasures:
    """All scans of a case.

    Attributes:
        scans: by modality.
        correlations: of the ranks of intensities of two modalities where both are foreground; "T1/T2" to -1 .. 1.
    """

    scans: Mapping[str, Scan]
    correlations: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sampled:
    """A scan as it is measured.

    Attributes:
        samples: every so many voxels, along the file's axes.
        shape: of the whole scan.
        affine: 4x4, voxel index to mm.
        oriented: whether the header says how the patient lies.
    """

    samples: Samples
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    oriented: bool


def measured(scans: Mapping[str, Sampled]) -> CaseMeasures:
    """Measure the scans of a case, which are given by modality."""
    turned = {modality: _turned(scan) for modality, scan in scans.items()}
    return CaseMeasures(
        {modality: _scan(scan, *turned[modality]) for modality, scan in scans.items()},
        _correlations({modality: samples for modality, (samples, _) in turned.items()}),
    )


def sampled_files(files: Sequence[Path]) -> list[Sampled]:
    """Read every so many voxels of NIfTI files, slice by slice: a large volume is never in memory.

    Args:
        files: of 3D volumes, or one of a 4D volume, which counts as several.

    Raises:
        InputError: a file that cannot be read, or has another number of axes.
    """
    return [one for file in files for one in _sampled_file(Path(file))]


def _sampled_file(file: Path) -> list[Sampled]:
    try:
        image: Any = nibabel.load(file, keep_file_open=True)
        shape = image.shape + (1,) * (3 - len(image.shape))
        if len(shape) > 4:
            raise InputError(f"{file}: {len(shape)} axes, shape {shape}: save it as one 3D volume a modality.")
        header, affine = image.header, np.asarray(image.affine, dtype=np.float64)
        steps = strides(shape, _spacing(affine))
        volumes = [_slices(image, shape, steps, channel) for channel in range(*shape[3:])] if len(shape) == 4 else []
        volumes = volumes or [_slices(image, shape, steps)]
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{file}: cannot be read ({reason}); copy or convert it again.") from None
    oriented = bool(header["qform_code"] or header["sform_code"]) if "qform_code" in header else True
    return [Sampled(samples, (shape[0], shape[1], shape[2]), affine, oriented) for samples in volumes]


def _slices(image: Any, shape: tuple[int, ...], steps: tuple[int, int, int], *channel: int) -> Samples:
    rows, columns, every = steps
    data = image.dataobj
    parts = []
    for number in range(0, shape[2], every):
        place = (slice(None), slice(None), number, *channel)[: len(image.shape)]
        part = np.asanyarray(data[place]).reshape(shape[:2])
        parts.append(part[::rows, ::columns].astype(np.float32))
    return np.nan_to_num(np.stack(parts, axis=-1), copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _scan(scan: Sampled, samples: Samples, steps: Sequence[float]) -> Scan:
    order = nibabel.io_orientation(scan.affine)
    if np.isnan(order).any():
        order = np.array([[0, 1], [1, 1], [2, 1]])
    spacing, shape = np.zeros(3), np.zeros(3, int)
    spacing[order[:, 0].astype(int)] = _spacing(scan.affine)
    shape[order[:, 0].astype(int)] = scan.shape
    values = {
        **dict(zip(axes("spacing"), map(float, spacing), strict=True)),
        **dict(zip(axes("shape"), map(float, shape), strict=True)),
        **dict(zip(axes("field_of_view"), map(float, shape * spacing), strict=True)),
        "voxels": float(np.prod(shape)),
        **appearance(samples, steps),
    }
    codes = "".join(nibabel.orientations.ornt2axcodes(order))
    return Scan(values, codes if scan.oriented else "unknown", _plane(spacing))


def _turned(scan: Sampled) -> tuple[Samples, list[float]]:
    """The samples along R, A, S, and their distance in mm."""
    order = nibabel.io_orientation(scan.affine)
    spacing = _spacing(scan.affine)
    distances = spacing * strides(scan.shape, spacing)
    if np.isnan(order).any():  # an affine of no volume: as stored
        return scan.samples, [float(size) for size in distances]
    turned = np.zeros(3)
    turned[order[:, 0].astype(int)] = distances
    return nibabel.orientations.apply_orientation(scan.samples, order), [float(size) for size in turned]


def _spacing(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt((affine[:3, :3] ** 2).sum(axis=0))


def _plane(spacing: NDArray[np.float64]) -> str:
    second, longest = np.sort(spacing)[1:]
    return PLANES[int(np.argmax(spacing))] if longest >= _THICK * second else ISOTROPIC


def _correlations(scans: Mapping[str, Samples]) -> dict[str, float]:
    """Rank correlations of modalities on one grid: neither gain nor a monotonic change of contrast counts."""
    if len(scans) < 2 or len({samples.shape for samples in scans.values()}) > 1:
        return {}
    coarse = {modality: coarser(samples) for modality, samples in scans.items()}
    common = np.all([foreground_of(samples) for samples in coarse.values()], axis=0)
    if common.sum() < _FEWEST_VOXELS:
        return {}
    ranks = {modality: rankdata(samples[common]) for modality, samples in coarse.items()}
    pairs = itertools.combinations(scans, 2)
    found = {f"{one}/{other}": float(np.corrcoef(ranks[one], ranks[other])[0, 1]) for one, other in pairs}
    return {pair: value for pair, value in found.items() if np.isfinite(value)}
