# SPDX-License-Identifier: Apache-2.0
"""What the data lists of each task look like: its modalities, its labels, and the public data sets known for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from custom_nets.datasets.layouts import Layout
from custom_nets.errors import InputError

_NIFTI = r"\.nii(?:\.gz)?"


@dataclass(frozen=True)
class Domain:
    """One task.

    Attributes:
        modalities: the input channels in the bundle's order.
        labels: name of each label value, background included.
        layouts: the data sets whose structure is known.
    """

    modalities: tuple[str, ...]
    labels: Mapping[int, str]
    layouts: Sequence[Layout]


def _images(frame: str, files: Mapping[str, str]) -> dict[str, re.Pattern[str]]:
    """A pattern for each modality: ``FILE`` in ``frame`` replaced by what the modality's files are called."""
    return {name: re.compile(frame.replace("FILE", file), re.IGNORECASE) for name, file in files.items()}


# P1/T1/P1_T1_T1.nii.gz: the first two T1 are the time point, the last one is the modality. A patient folder without
# time points holds P1_T1.nii.gz, which is the modality.
_MSLESSEG = (
    r"(?:(?:.*/)?(?P<part>train|test)/|(?:.*/)?)(?P<patient>P\d+)/(?:(?P<time>T\d+)/)?"
    rf"(?P=patient)_(?(time)(?P=time)_)FILE{_NIFTI}"
)
MSLESSEG = Layout(
    "mslesseg",
    "train/P1/T1/P1_T1_{T1,T2,FLAIR,MASK}.nii.gz, test/P1/P1_{T1,T2,FLAIR,MASK}.nii.gz",
    _images(_MSLESSEG, {"T1": "T1", "T2": "T2", "FLAIR": "FLAIR"}),
    _MSLESSEG.replace("FILE", "MASK"),
)

_ISBI = r"(?:.*/)?(?P<patient>(?P<part>training|test)\d+)/FOLDER/(?P<case>(?P=patient)_\d+)_FILE" + _NIFTI
ISBI2015 = Layout(
    "isbi2015",
    "training01/preprocessed/training01_01_{mprage,t2,flair,pd}_pp.nii, training01/masks/training01_01_mask1.nii",
    _images(
        _ISBI.replace("FOLDER", "preprocessed"),
        {"T1": "mprage_pp", "T2": "t2_pp", "FLAIR": "flair_pp", "PD": "pd_pp"},
    ),
    _ISBI.replace("FOLDER", "masks").replace("FILE", "maskRATER"),
    raters=2,
)

# The modality is the first word of the file name, because later words tell the processing (..._regtoFLAIR).
_LJUBLJANA = rf"(?:.*/)?(?P<patient>patient_?\d+)/(?:(?P=patient)_)?FILE(?![a-z0-9])(?!.*mask)[^/]*{_NIFTI}"
LJUBLJANA = Layout(
    "ljubljana",
    "patient01/{FLAIR,T1W,T1WKS,T2W,consensus_gt}.nii.gz, patient01/patient01_FLAIR.nii.gz, patient01/label.nii.gz",
    _images(_LJUBLJANA, {"T1": "T1W?", "T2": "T2W?", "FLAIR": "FLAIR", "T1POST": "T1(?:WKS|post|c|gd)"}),
    _LJUBLJANA.replace("FILE", r"(?:consensus(?:_gt)?|label|gt)"),
)

MS_LESIONS = Domain(("T1", "T2", "FLAIR"), {0: "background", 1: "lesion"}, (MSLESSEG, ISBI2015, LJUBLJANA))

DOMAINS: dict[str, Domain] = {"ms_lesions": MS_LESIONS}


def domain_named(name: str) -> Domain:
    """The domain of that name.

    Raises:
        InputError: with the names that exist.
    """
    if name not in DOMAINS:
        raise InputError(f"domain {name!r} is unknown: use one of {', '.join(DOMAINS)}")
    return DOMAINS[name]
