# SPDX-License-Identifier: Apache-2.0
"""Measures of all training cases, summed up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

import numpy as np

from custom_nets.fingerprints.content import Modality, Range
from custom_nets.fingerprints.measuring import CaseMeasures, Scan
from custom_nets.fingerprints.quantities import QUANTITIES
from custom_nets.fingerprints.skull import ABSENT, PRESENT


def skull_gap_of(case: CaseMeasures) -> float | None:
    """The median over the modalities; None where none of them shows a head."""
    gaps = [scan.values["skull_gap"] for scan in case.scans.values() if "skull_gap" in scan.values]
    return median(gaps) if gaps else None


def skull_of(case: CaseMeasures) -> str:
    """Whether the skull is on a case's scans: "present", "absent" or "unknown"."""
    gap = skull_gap_of(case)
    if gap is None or ABSENT <= gap <= PRESENT:
        return "unknown"
    return "present" if gap > PRESENT else "absent"


def modality_seen(scans: Sequence[Scan]) -> Modality:
    """What the scans of one modality have in common."""
    values = {name: [scan.values[name] for scan in scans if name in scan.values] for name in QUANTITIES}
    return Modality(
        {name: range_of(found) for name, found in values.items() if found},
        dict(sorted(Counter(scan.orientation for scan in scans).items())),
        dict(sorted(Counter(scan.plane for scan in scans).items())),
    )


def correlations_seen(cases: Sequence[CaseMeasures]) -> dict[str, Range]:
    """Ranges of the correlations of each pair of modalities."""
    pairs = dict.fromkeys(pair for case in cases for pair in case.correlations)
    return {pair: range_of(case.correlations[pair] for case in cases if pair in case.correlations) for pair in pairs}


def skulls_seen(cases: Iterable[CaseMeasures]) -> dict[str, int]:
    """Number of cases with a skull, without one, and where it cannot be told."""
    found = Counter(skull_of(case) for case in cases)
    return {word: found[word] for word in ("present", "absent", "unknown")}


def range_of(values: Iterable[float]) -> Range:
    """Minimum, median and maximum."""
    array = np.array(list(values), dtype=float)
    return float(array.min()), float(np.median(array)), float(array.max())
