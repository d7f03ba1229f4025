# SPDX-License-Identifier: Apache-2.0
"""Coded terms of structures, as DICOM segmentations carry them: SNOMED CT where the dictionary has the term."""

from __future__ import annotations

import re
from typing import NamedTuple

Code = tuple[str, str, str]  # value, coding scheme, meaning

ANATOMY: Code = ("91723000", "SCT", "Anatomical Structure")
ABNORMAL: Code = ("49755003", "SCT", "Morphologically Abnormal Structure")
SIDES: dict[str, Code] = {"left": ("7771000", "SCT", "Left"), "right": ("24028007", "SCT", "Right")}
#: The scheme for local codes that DICOM recommends, PS3.16 section 8.2.
PRIVATE_SCHEME = "99MSB"

#: Name, in small letters and without its side -> keyword of the term in pydicom's dictionary of SNOMED CT.
_ABNORMAL_TERMS = {
    "lesion": "Lesion",
    "peritumoural oedema": "Edema",
    "enhancing tumour": "Neoplasm",
    "whole tumour": "Neoplasm",
}
_ANATOMY_TERMS = {
    "bladder": "Bladder",
    "cervix": "Cervix",
    "erector spinae": "ErectorSpinaeMuscle",
    "femoral head": "FemoralHead",
    "femur": "Femur",
    "ovary": "Ovary",
    "prostate": "Prostate",
    "rectum": "Rectum",
    "s": "Sacrum",
    "sacrum": "Sacrum",
    "sigmoid colon": "SigmoidColon",
    "urethra": "Urethra",
    "urinary bladder": "Bladder",
    "uterus": "Uterus",
    "vagina": "Vagina",
}
_ABNORMAL_WORDS = ("lesion", "tumour", "necrotic", "oedema", "infarct")
_VERTEBRA = re.compile(r"[CTL]\d{1,2}")
_DISC = re.compile(r"([CTL]\d{1,2})/([CTL]\d{1,2}|S)1?")


class SegmentCodes(NamedTuple):
    """What a segment is.

    Attributes:
        category: anatomy, or what is abnormal.
        keyword: of the term in pydicom's dictionary of SNOMED CT; None where it has none.
        kind: the term itself in this package's own scheme, for structures without a keyword.
        side: left or right; None where the name has none.
    """

    category: Code
    keyword: str | None
    kind: Code
    side: Code | None


def segment_codes(name: str) -> SegmentCodes:
    """Return the coded terms of a structure.

    Args:
        name: of the structure as the bundles' metadata have it: "Femur, left", "L5" and "L4/L5" of a spine, "lesion",
            "tumour core (TC)".
    """
    base, _, last = (part.strip() for part in name.rpartition(","))
    side = SIDES.get(last.lower())
    term = re.sub(r"\s*\(.*\)$", "", base if side else name)
    small = term.lower()
    abnormal = any(word in small for word in _ABNORMAL_WORDS)
    keyword = _ABNORMAL_TERMS.get(small) or _ANATOMY_TERMS.get(small) or _of_spine(term)
    return SegmentCodes(ABNORMAL if abnormal else ANATOMY, keyword, _private(term), side)


def _of_spine(term: str) -> str | None:
    if _VERTEBRA.fullmatch(term):
        return f"{term}Vertebra"
    if disc := _DISC.fullmatch(term):
        upper, lower = disc.groups()
        return f"{upper}{'S1' if lower == 'S' else lower}Disc"
    return None


def _private(term: str) -> Code:
    """Code values have at most 16 characters, meanings 64."""
    value = re.sub(r"[^A-Z0-9]+", "_", term.upper()).strip("_")
    return value[:16] or "STRUCTURE", PRIVATE_SCHEME, term[:64]
