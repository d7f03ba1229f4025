# SPDX-License-Identifier: Apache-2.0
"""What the data lists of each task look like: its modalities, its labels, and the public data sets known for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from custom_nets.datasets.atlas_layouts import ATLAS_R1_1, ATLAS_R1_2, ATLAS_R2_0
from custom_nets.datasets.layouts import Layout
from custom_nets.datasets.ms_layouts import ISBI2015, LJUBLJANA, MSLESSEG
from custom_nets.errors import InputError


@dataclass(frozen=True)
class Domain:
    """One task.

    Attributes:
        modalities: the input channels in the bundle's order.
        labels: name of each label value, background included.
        layouts: the data sets whose structure is known.
        fractions: shares of the patients for training, validation, testing unless the user gives others.
        always_test: whether labelled scans are held out for testing also where the data set has test scans of its own.
            Those without labels cannot be scored, so they are listed in a file of their own.
    """

    modalities: tuple[str, ...]
    labels: Mapping[int, str]
    layouts: Sequence[Layout]
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    always_test: bool = False

    @property
    def lesion_masks(self) -> bool:
        """Whether the labels of the known data sets are masks that may have to be merged or binarised."""
        return any(layout.lesion_masks for layout in self.layouts)


MS_LESIONS = Domain(("T1", "T2", "FLAIR"), {0: "background", 1: "lesion"}, (MSLESSEG, ISBI2015, LJUBLJANA))

# Tomita et al. 2020 tested on 31 of 239 scans. How they divided the other 208 is not told: a tenth of all is ours.
_ATLAS_TESTED = 31 / 239
ATLAS = Domain(
    ("T1",),
    {0: "background", 1: "lesion"},
    (ATLAS_R1_1, ATLAS_R1_2, ATLAS_R2_0),
    fractions=(0.9 - _ATLAS_TESTED, 0.1, _ATLAS_TESTED),
    always_test=True,
)

DOMAINS: dict[str, Domain] = {"ms_lesions": MS_LESIONS, "atlas": ATLAS}


def domain_named(name: str) -> Domain:
    """The domain of that name.

    Raises:
        InputError: with the names that exist.
    """
    if name not in DOMAINS:
        raise InputError(f"domain {name!r} is unknown: use one of {', '.join(DOMAINS)}")
    return DOMAINS[name]
