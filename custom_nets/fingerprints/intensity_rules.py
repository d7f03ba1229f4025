# SPDX-License-Identifier: Apache-2.0
"""Whether a scan is as bright, and as dark outside of the body, as the training scans."""

from __future__ import annotations

from custom_nets.fingerprints.findings import Finding, Subject, span
from custom_nets.fingerprints.measuring import Scan

_LEVEL_TOLERANCE = 0.2
_GAIN_TOLERANCE = 2.0
_BRIGHT = "p99_5"


def empty_finding(subject: Subject, scan: Scan) -> Finding | None:
    """Nothing is on the scan."""
    if _BRIGHT in scan.values:
        return None
    return Finding(
        f"{subject.name}: all voxels are one value.", "Export or convert the scan again: nothing is on it.", "empty"
    )


def inverted_finding(subject: Subject, scan: Scan) -> Finding | None:
    """Air is bright: both the border and most voxels are where they were on negatives of the training scans."""
    for name in ("border_level", "median_level"):
        seen, found = subject.seen(name), scan.values.get(name)
        if seen is None or found is None:
            return None
        as_negative = 1 - seen[2] - _LEVEL_TOLERANCE <= found <= 1 - seen[0] + _LEVEL_TOLERANCE
        if found <= seen[2] + _LEVEL_TOLERANCE or not as_negative:
            return None
    border, seen = scan.values["border_level"], subject.seen("border_level")
    assert seen is not None
    return Finding(
        f"{subject.name}: the border is at {border:.2g} of the way from dark to bright, in training at {span(seen)}.",
        "Intensities seem to be inverted: subtract them from their maximum, or export the scan again.",
        "inverted",
    )


def intensity_finding(subject: Subject, scan: Scan) -> Finding | None:
    """Intensities lie elsewhere, where the network sees them as they are."""
    seen, found = subject.seen(_BRIGHT), scan.values.get(_BRIGHT)
    if not subject.fingerprint.raw_intensities or seen is None or found is None:
        return None
    if seen[0] / _GAIN_TOLERANCE <= found <= seen[2] * _GAIN_TOLERANCE:
        return None
    factor = f"; a factor of {seen[1] / found:.3g} would bring it to the median" if found > 0 else ""
    return Finding(
        f"{subject.name}: the brightest tissue (99.5th percentile) is at {found:.4g}, in training at {span(seen)}.",
        f"This model takes intensities as they are: scale the scan to those of the training{factor}.",
        "intensity",
    )
