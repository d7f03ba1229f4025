# SPDX-License-Identifier: Apache-2.0
"""One NIfTI file, read to its last voxel and reduced to the few facts that the checks compare."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from custom_nets.datasets.sampling import sampled
from custom_nets.errors import InputError

AFFINE_TOLERANCE_MM = 1e-3  # between files of a case: well above the rounding of headers, far below a voxel
BRIGHT_PERCENTILE = 99.9  # as good as the maximum, without the few brightest vessels and artefacts
EXTENSIONS = (".nii.gz", ".nii")
_TO_NIFTI = "convert it to NIfTI (.nii.gz)"
_FROM_DICOM = "convert the series to NIfTI first, for example with dcm2niix"
_COPY_AGAIN = "copy or download it again"
_GZIP_MAGIC = b"\x1f\x8b"
_NIFTI2_HEADER_BYTES = 540


class UnusableFile(Exception):
    """A file from which no volume can be had; ``found`` and ``advice`` are sentences for the user."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.found = found
        self.advice = advice


@dataclass(frozen=True)
class Channel:
    """The voxels of one modality in a file.

    Attributes:
        non_finite: number of NaN and infinite voxels.
        low: the smallest finite intensity (NaN when there is none).
        high: the largest finite intensity (NaN when there is none).
        digest: equal for equal voxels.
        bright: the 99.9th percentile of the finite intensities; None when it was not asked for.
    """

    non_finite: int
    low: float
    high: float
    digest: bytes
    bright: float | None = None


@dataclass(frozen=True)
class Volume:
    """What a NIfTI file holds, without its voxels.

    Attributes:
        path: the file.
        shape: all axes as stored, x y z (channels).
        affine: 4x4, voxel index to mm.
        oriented: False when the header has neither a qform nor an sform.
        header_spacing: voxel size in mm as the header states it apart from the affine.
        channels: one entry a 3D volume of an image file; empty for a label file.
        values: voxel count of each non-zero value of a label file; empty for an image file.
        samples: every so many voxels of each 3D volume of an image file, see `custom_nets.datasets.sampling`; empty
            where they were not asked for.
    """

    path: Path
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    oriented: bool
    header_spacing: tuple[float, float, float]
    channels: tuple[Channel, ...] = ()
    values: dict[float, int] | None = None
    samples: tuple[NDArray[np.float32], ...] = field(default=(), repr=False, compare=False)

    @property
    def grid(self) -> tuple[int, ...]:
        """Size in voxels along x, y, z."""
        return self.shape[:3]

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Voxel size in mm along the file's three axes."""
        return np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))

    @property
    def foreground_ml(self) -> float:
        """Volume of all non-zero voxels of a label file in millilitres."""
        voxels = sum((self.values or {}).values())
        return voxels * abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000


def read_volume(path: str | Path, *, label: bool = False, bright: bool = False, samples: bool = False) -> Volume:
    """Read a NIfTI file completely.

    Args:
        path: a ``.nii`` or ``.nii.gz`` file.
        label: count the values of a label map, instead of the facts of each image channel.
        bright: compute also the 99.9th percentile of each image channel.
        samples: keep every so many voxels of each image channel.

    Returns:
        The facts about the file.

    Raises:
        UnusableFile: missing, a folder, another format, damaged, or voxels that are no real numbers.
    """
    path = Path(path)
    image, voxels = read_voxels(path)
    header: Any = image.header
    oriented = bool(header["qform_code"] or header["sform_code"])
    affine = np.asarray(image.affine, dtype=np.float64)
    x, y, z = (float(size) for size in header["pixdim"][1:4])
    facts = Volume(path, tuple(int(size) for size in image.shape), affine, oriented, (x, y, z))
    if label:
        return replace(facts, values=_value_counts(voxels))
    parts = np.moveaxis(voxels, 3, 0) if voxels.ndim == 4 else voxels[None]
    channels = tuple(_channel(part, bright) for part in parts)
    kept = tuple(sampled(part, facts.spacing) for part in parts) if samples and voxels.ndim in (3, 4) else ()
    return replace(facts, channels=channels, samples=kept)


def read_voxels(path: Path) -> tuple[nibabel.Nifti1Image, NDArray[Any]]:
    """A NIfTI file and all its voxels, scaled as the header says.

    Raises:
        UnusableFile: as ``read_volume``.
    """
    image = _decode(path, _content(path))
    try:
        voxels = np.asanyarray(image.dataobj)
    except (OSError, ValueError, EOFError) as error:
        raise UnusableFile(
            f"truncated: the header says {image.shape} voxels ({_one_line(error)})", _COPY_AGAIN
        ) from None
    if voxels.dtype.kind not in "biuf":
        raise UnusableFile(f"voxels of type {voxels.dtype}, not real numbers", "save it with one real value a voxel")
    if voxels.size == 0:
        raise UnusableFile(f"no voxels, shape {image.shape}", _COPY_AGAIN)
    return image, voxels


def require_voxels(path: str | Path) -> tuple[nibabel.Nifti1Image, NDArray[Any]]:
    """``read_voxels`` for those who can do nothing but stop.

    Raises:
        InputError: naming the file, what was found and what to do.
    """
    try:
        return read_voxels(Path(path))
    except UnusableFile as reason:
        raise InputError(f"{path}: {reason.found}: {reason.advice}") from None


def only_volume(case: Mapping[str, Any]) -> tuple[nibabel.Nifti1Image, NDArray[Any]]:
    """The only image of a case of a data list, D x H x W as stored, and its file.

    Raises:
        InputError: a case with several images, a file that cannot be read, an image that is not 3D.
    """
    first = case["image"][0]
    if len(case["image"]) != 1:
        raise InputError(f"{first}: a case of {len(case['image'])} images: give one volume a case")
    image, voxels = require_voxels(first)
    if voxels.ndim != 3:
        raise InputError(f"{first}: {voxels.ndim}D, shape {voxels.shape}: save it as one 3D volume")
    return image, voxels


def corner_shift(one: NDArray[np.float64], other: NDArray[np.float64], grid: tuple[int, ...]) -> float:
    """Largest distance in mm between where two 4x4 affines put a corner of the same voxel grid."""
    corners = np.array([[*corner, 1] for corner in itertools.product(*((0, size - 1) for size in grid))])
    return float(np.linalg.norm(corners @ (one - other).T, axis=1).max())


def _content(path: Path) -> bytes:
    """The decompressed bytes of the file; decompressing all of it is what verifies gzip's check sum."""
    if path.is_dir():
        if any(_is_dicom(file) for file in itertools.islice(sorted(path.iterdir()), 3)):
            raise UnusableFile("a folder of DICOM files", _FROM_DICOM)
        raise UnusableFile("a folder, not a file", "name the NIfTI file in it")
    if not path.exists():
        raise UnusableFile("does not exist", "correct the path or bring the file back")
    if _is_dicom(path):
        raise UnusableFile("a DICOM file", _FROM_DICOM)
    if not path.name.lower().endswith(EXTENSIONS):
        raise UnusableFile(f"unsupported extension {path.suffix or '(none)'!r}", _TO_NIFTI)
    try:
        content = path.read_bytes()
        if not content:
            raise UnusableFile("empty, 0 bytes", _COPY_AGAIN)
        compressed = content.startswith(_GZIP_MAGIC)
        if compressed != path.name.lower().endswith(".gz"):
            right = ".nii.gz" if compressed else ".nii"
            raise UnusableFile(
                f"{'' if compressed else 'not '}gzip-compressed, against its name", f"rename it to end in {right}"
            )
        return gzip.decompress(content) if compressed else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnusableFile(f"truncated or damaged gzip file ({_one_line(error)})", _COPY_AGAIN) from None
    except OSError as error:
        raise UnusableFile(
            f"cannot be read ({error.strerror or error})", "check the file's permissions and the disk"
        ) from None


def _decode(path: Path, content: bytes) -> nibabel.Nifti1Image:
    start = content[:4]
    is_nifti2 = _NIFTI2_HEADER_BYTES in (int.from_bytes(start, "little"), int.from_bytes(start, "big"))
    try:
        return (nibabel.Nifti2Image if is_nifti2 else nibabel.Nifti1Image).from_bytes(content)
    except Exception as error:  # nibabel answers a broken header with many kinds of exception
        raise UnusableFile(f"not a NIfTI file ({_one_line(error)})", f"{_TO_NIFTI}, or {_COPY_AGAIN}") from None


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() == ".dcm":
        return True
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _channel(voxels: NDArray[Any], bright: bool) -> Channel:
    flat = np.ravel(voxels, order="K")  # no copy in the order in which NIfTI stores voxels
    digest = hashlib.blake2b(np.ascontiguousarray(flat).data.cast("B"), digest_size=16).digest()
    if flat.dtype.kind == "f":
        finite = flat[np.isfinite(flat)]
        non_finite = flat.size - finite.size
        flat = finite
    else:
        non_finite = 0
    low, high = (float(flat.min()), float(flat.max())) if flat.size else (float("nan"), float("nan"))
    percentile = float(np.percentile(flat, BRIGHT_PERCENTILE)) if bright and flat.size else None
    return Channel(non_finite, low, high, digest, percentile)


def _value_counts(voxels: NDArray[Any]) -> dict[float, int]:
    values, counts = np.unique(
        voxels[voxels != 0], return_counts=True
    )  # sorting only the foreground is 10 times faster
    return {float(value): int(count) for value, count in zip(values, counts, strict=True)}


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
