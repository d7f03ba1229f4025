# SPDX-License-Identifier: Apache-2.0
"""What is unusual about a case for a model: looked for before the network runs, said with its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_nets.fingerprints.content import Fingerprint, Range


@dataclass(frozen=True)
class Finding:
    """Something unusual.

    Attributes:
        text: one sentence with what was found and what was seen in training.
        remedy: what to do, in one sentence.
        kind: in a word: "spacing", "orientation", "extent", "voxels", "intensity", "inverted", "contrast", "channels",
            "skull" or "empty".
    """

    text: str
    remedy: str
    kind: str = ""


@dataclass(frozen=True)
class Subject:
    """Scan under examination.

    Attributes:
        fingerprint: what the model was trained on.
        modality: of the scan, as the fingerprint names it.
        file: the scan.
        name: how findings call the scan.
    """

    fingerprint: Fingerprint
    modality: str
    file: Path
    name: str

    def seen(self, quantity: str) -> Range | None:
        """Minimum, median and maximum in training; None where it was not measured."""
        return self.fingerprint.seen[self.modality].ranges.get(quantity)


def told(values: Sequence[float]) -> str:
    """Numbers for a sentence: 0.5 x 0.5 x 3."""
    return " x ".join(f"{value:.3g}" for value in values)


def span(seen: Range, unit: str = "") -> str:
    """A range for a sentence: "0.9 to 1.2 mm", or one number."""
    low, _, high = (f"{value:.3g}" for value in seen)
    return (low if low == high else f"{low} to {high}") + unit
