# SPDX-License-Identifier: Apache-2.0
"""The public data sets of multiple sclerosis lesions."""

from __future__ import annotations

from custom_nets.datasets.layouts import NIFTI, Layout, modality_patterns

# P1/T1/P1_T1_T1.nii.gz: the first two T1 are the time point, the last one is the modality. A patient folder without
# time points holds P1_T1.nii.gz, which is the modality.
_MSLESSEG = (
    r"(?:(?:.*/)?(?P<part>train|test)/|(?:.*/)?)(?P<patient>P\d+)/(?:(?P<time>T\d+)/)?"
    rf"(?P=patient)_(?(time)(?P=time)_)FILE{NIFTI}"
)
MSLESSEG = Layout(
    "mslesseg",
    "train/P1/T1/P1_T1_{T1,T2,FLAIR,MASK}.nii.gz, test/P1/P1_{T1,T2,FLAIR,MASK}.nii.gz",
    modality_patterns(_MSLESSEG, {"T1": "T1", "T2": "T2", "FLAIR": "FLAIR"}),
    _MSLESSEG.replace("FILE", "MASK"),
)

_ISBI = r"(?:.*/)?(?P<patient>(?P<part>training|test)\d+)/FOLDER/(?P<case>(?P=patient)_\d+)_FILE" + NIFTI
ISBI2015 = Layout(
    "isbi2015",
    "training01/preprocessed/training01_01_{mprage,t2,flair,pd}_pp.nii, training01/masks/training01_01_mask1.nii",
    modality_patterns(
        _ISBI.replace("FOLDER", "preprocessed"), {"T1": "mprage_pp", "T2": "t2_pp", "FLAIR": "flair_pp", "PD": "pd_pp"}
    ),
    _ISBI.replace("FOLDER", "masks").replace("FILE", "maskRATER"),
    raters=2,
)

# The modality is the first word of the file name, because later words tell the processing (..._regtoFLAIR).
_LJUBLJANA = rf"(?:.*/)?(?P<patient>patient_?\d+)/(?:(?P=patient)_)?FILE(?![a-z0-9])(?!.*mask)[^/]*{NIFTI}"
LJUBLJANA = Layout(
    "ljubljana",
    "patient01/{FLAIR,T1W,T1WKS,T2W,consensus_gt}.nii.gz, patient01/patient01_FLAIR.nii.gz, patient01/label.nii.gz",
    modality_patterns(_LJUBLJANA, {"T1": "T1W?", "T2": "T2W?", "FLAIR": "FLAIR", "T1POST": "T1(?:WKS|post|c|gd)"}),
    _LJUBLJANA.replace("FILE", r"(?:consensus(?:_gt)?|label|gt)"),
)
