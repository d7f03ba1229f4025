# SPDX-License-Identifier: Apache-2.0
"""What the name of a file tells apart from the modality: its format, and whether it is a label map or a result."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from custom_nets.datasets.volumes import EXTENSIONS as NIFTI

#: Formats of one file a volume that are converted.
CONVERTED = (".nrrd", ".nhdr", ".mha", ".mhd")

_LABEL_WORDS = (
    r"labels?|labelmap|d?seg\d*|segm|segmentation|masks?\d*|gt|groundtruth|consensus|rois?|"
    r"pred|predictions?|probabilit(?:y|ies)|probseg|uncertainty"
)
_BETWEEN_WORDS = re.compile(r"(?:(?![*?])[\W_])+")
_LABEL = re.compile(rf"(?<=_)(?:{_LABEL_WORDS})(?=_)")
# A part of a word, as in 1label or LesionSmooth, is weaker: patients are called so, too.
_LABEL_PART = re.compile(r"(?:label|mask|seg)(?=_)|(?<=_)lesion")


def stem_of(path: Path) -> str:
    """The name of a file without the extension of a volume."""
    name = path.name
    extension = next((end for end in (*NIFTI, *CONVERTED) if name.lower().endswith(end)), "")
    return name[: len(name) - len(extension)]


def is_volume(path: Path) -> bool:
    """Whether the name is that of a NIfTI, NRRD or MetaImage file."""
    return path.name.lower().endswith((*NIFTI, *CONVERTED))


def is_nifti(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return path.name.lower().endswith(NIFTI)


def words_of(name: str) -> str:
    """A name as its words, in lower case, with one underscore around each: ``_c01_t1_`` of ``C01-T1``."""
    text = unicodedata.normalize("NFC", name).casefold()
    return "_" + _BETWEEN_WORDS.sub("_", text).strip("_") + "_"


def label_end(words: str) -> tuple[int, bool]:
    """Where in ``words_of`` a name the last word lies that calls it a label map, or a result of a segmentation.

    Returns:
        The end of that word, and whether it says so for certain; 0 and False where nothing does.
    """
    if certain := list(_LABEL.finditer(words)):
        return certain[-1].end(), True
    parts = list(_LABEL_PART.finditer(words))
    return (parts[-1].end() if parts else 0), False
