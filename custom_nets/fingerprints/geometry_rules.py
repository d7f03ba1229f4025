# SPDX-License-Identifier: Apache-2.0
"""Whether voxel size, orientation and field of view of a scan are those of the training scans."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from custom_nets.fingerprints.content import Range
from custom_nets.fingerprints.findings import Finding, Subject, span, told
from custom_nets.fingerprints.measuring import ISOTROPIC, Scan
from custom_nets.fingerprints.quantities import AXES, axes

_ENDS = {"r": "left and right", "a": "front and back", "s": "top and bottom"}
#: How many times the voxel size may be outside of that of the training scans.
_SPACING_TOLERANCE = {"native": 1.6, "resampled": 2.5, "resized": 2.5}
_SAME_SIZE = 0.25  # a header in another unit is wrong by one factor along all axes, less the scans' own spread
_UNITS = {1e-3: "metres", 1e-2: "tenths of metres", 1e-1: "centimetres", 10.0: "tenths of mm", 1e3: "micrometres"}
_LEAST_EXTENT, _MOST_EXTENT = 0.68, 1.5
_LEAST_VIEW, _MOST_VIEW = 0.55, 1.9
_VOXELS_TOLERANCE = 8


def geometry_finding(subject: Subject, scan: Scan) -> Finding | None:
    """What is unusual about where the voxels of a scan lie; of several signs of one cause the first alone."""
    rules = (_unit, _unstated, _turned, _spacing, _extent, _view, _voxels)
    return next((finding for rule in rules if (finding := rule(subject, scan))), None)


def _unit(subject: Subject, scan: Scan) -> Finding | None:
    """A voxel size that is another one's tenth or thousandth along every axis."""
    seen = _seen(subject, "spacing")
    found = _values(scan, "spacing")
    if not seen or min(found) <= 0:
        return None
    ratios = np.sort(found) / np.sort([middle for _, middle, _ in seen])
    factor = 10.0 ** round(float(np.log10(np.median(ratios))))
    if factor == 1 or np.abs(np.log10(ratios / factor)).max() > _SAME_SIZE:
        return None
    unit = _UNITS.get(factor, f"{factor:g} mm")
    return Finding(
        f"{subject.name}: voxels are {told(found)} mm, in training {_ranges(seen)} mm.",
        f"The header seems to be in {unit}: write the voxel size in mm (multiply it by {1 / factor:g}).",
        "spacing",
    )


def _unstated(subject: Subject, scan: Scan) -> Finding | None:
    if scan.orientation != "unknown" or "unknown" in subject.fingerprint.seen[subject.modality].orientations:
        return None
    return Finding(
        f"{subject.name}: the header does not say how the patient lies (neither qform nor sform), in training all did.",
        "Convert the scan from its DICOM files again, or set the affine.",
        "orientation",
    )


def _turned(subject: Subject, scan: Scan) -> Finding | None:
    """Slices in another plane, or a body whose length lies along another axis."""
    planes = subject.fingerprint.seen[subject.modality].planes
    if scan.plane not in planes and ISOTROPIC not in (scan.plane, *planes):
        return Finding(
            f"{subject.name}: slices are {scan.plane}, in training {' or '.join(planes)}.",
            "Segment a series in that plane, or correct the affine if the header is wrong.",
            "orientation",
        )
    seen, found = _seen(subject, "extent"), _values(scan, "extent")
    if not seen or not found:
        return None
    if all(_fits(length, one, _LEAST_EXTENT, _MOST_EXTENT) for length, one in zip(found, seen, strict=True)):
        return None
    by_length = sorted(seen, key=lambda one: one[1])
    if not all(_fits(length, one, 0.8, 1.25) for length, one in zip(sorted(found), by_length, strict=True)):
        return None
    return Finding(
        f"{subject.name}: the body is {told(found)} mm along R, A, S, in training {_ranges(seen)} mm.",
        "The header seems to name the axes wrongly: correct the affine, or convert the DICOM files again.",
        "orientation",
    )


def _spacing(subject: Subject, scan: Scan) -> Finding | None:
    seen, found = _seen(subject, "spacing"), _values(scan, "spacing")
    tolerance = _SPACING_TOLERANCE[subject.fingerprint.grid]
    wrong = [
        (axis, size, one)
        for axis, size, one in zip(AXES, found, seen, strict=False)
        if not _fits(size, one, 1 / tolerance, tolerance)
    ]
    if not wrong:
        return None
    axis, size, one = max(wrong, key=lambda entry: abs(np.log(max(entry[1], 1e-9) / entry[2][1])))
    if size > one[2]:
        remedy = "Segment a series with thinner slices or finer voxels: what lies between them cannot be restored."
    else:
        remedy = f"Resample the scan to about {one[1]:.3g} mm, or check the header."
    text = f"{subject.name}: voxels are {size:.3g} mm along {axis.upper()}, in training {span(one, ' mm')}."
    return Finding(text, remedy, "spacing")


def _extent(subject: Subject, scan: Scan) -> Finding | None:
    return _length(subject, scan, "extent", "the body on it is", _LEAST_EXTENT, _MOST_EXTENT)


def _view(subject: Subject, scan: Scan) -> Finding | None:
    return _length(subject, scan, "field_of_view", "the field of view is", _LEAST_VIEW, _MOST_VIEW)


def _length(subject: Subject, scan: Scan, quantity: str, what: str, least: float, most: float) -> Finding | None:
    seen, found = _seen(subject, quantity), _values(scan, quantity)
    if not seen or not found:
        return None
    wrong = [
        (axis, length, one)
        for axis, length, one in zip(AXES, found, seen, strict=True)
        if not _fits(length, one, least, most)
    ]
    if not wrong:
        return None
    axis, length, one = max(wrong, key=lambda entry: abs(np.log(max(entry[1], 1e-9) / entry[2][1])))
    text = f"{subject.name}: {what} {length:.3g} mm along {axis.upper()}, in training {span(one, ' mm')}."
    if len(wrong) > 1:
        remedy = "This seems to be another part of the body, or to be cropped: segment a scan like the training's."
    elif length < one[0]:
        remedy = (
            f"Slices or parts ({_ENDS[axis]}) are missing, or the header's voxel size is wrong: use the whole scan."
        )
    else:
        remedy = f"Crop the scan along {axis.upper()} to what training scans show, or check the header's voxel size."
    return Finding(text, remedy, "extent")


def _voxels(subject: Subject, scan: Scan) -> Finding | None:
    seen = subject.seen("voxels")
    if seen is None or _fits(scan.values["voxels"], seen, 1 / _VOXELS_TOLERANCE, _VOXELS_TOLERANCE):
        return None
    shape, shapes = _values(scan, "shape"), _seen(subject, "shape")
    return Finding(
        f"{subject.name}: {told(shape)} voxels, in training {_ranges(shapes)}.",
        "Resample or crop the scan to about that many.",
        "voxels",
    )


def _fits(value: float, seen: Range, least: float, most: float) -> bool:
    return least * seen[0] <= value <= most * seen[2]


def _values(scan: Scan, quantity: str) -> list[float]:
    return [scan.values[name] for name in axes(quantity) if name in scan.values]


def _seen(subject: Subject, quantity: str) -> list[Range]:
    return [seen for name in axes(quantity) if (seen := subject.seen(name)) is not None]


def _ranges(seen: Sequence[Range]) -> str:
    return " x ".join(span(one) for one in seen)
