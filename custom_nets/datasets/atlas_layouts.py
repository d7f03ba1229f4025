# SPDX-License-Identifier: Apache-2.0
"""The releases of ATLAS, anatomical tracings of lesions after stroke: T1 scans in MNI space with lesion masks.

The patterns name every part of a scan's own path, so that the template image and the tables in the archives are no
cases.
"""

from __future__ import annotations

from custom_nets.datasets.layouts import NIFTI, Layout, modality_patterns

# A folder below the top may be given as the data set's folder; its site is then unknown.
_R1_1 = r"(?:(?:.*/)?(?P<site>Site_?\d+)/|(?:.*/)?)(?P<patient>\d{6})/(?P<time>t\d+)/" rf"(?P=patient)_FILE_stx{NIFTI}"
ATLAS_R1_1 = Layout(
    "atlas_r1.1",
    "Site1/031768/t01/031768_{t1w_deface,LesionSmooth,LesionSmooth_1}_stx.nii.gz",
    modality_patterns(_R1_1, {"T1": "t1w_deface"}),
    _R1_1.replace("FILE", r"LesionSmooth(?:_\d+)?"),
    lesion_masks=True,
)

# Cohort, subject and time point in the file name; the folders between do not matter.
_R1_2 = rf"(?:.*/)?(?P<patient>(?P<site>c\d{{4}})s\d{{4}})(?P<time>t\d{{2}})_FILE_stx{NIFTI}"
ATLAS_R1_2 = Layout(
    "atlas_r1.2",
    "c0003s0002t01_{t1w,LesionSmooth,LesionSmooth_1}_stx.nii.gz in any folders",
    modality_patterns(_R1_2, {"T1": "t1w(?:_deface)?"}),
    _R1_2.replace("FILE", r"LesionSmooth(?:_\d+)?"),
    lesion_masks=True,
)

_R2_0 = (
    r"(?:(?:.*/)?(?P<part>train|test)ing/|(?:.*/)?)(?:(?P<site>R\d+)/)?(?P<patient>sub-r\d+s\d+)/(?P<time>ses-\d+)/"
    rf"anat/(?P=patient)_(?P=time)_space-[^_/]+_FILE{NIFTI}"
)
ATLAS_R2_0 = Layout(
    "atlas_r2.0",
    "Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym_"
    "{T1w,label-L_desc-T1lesion_mask}.nii.gz, Testing/... without masks",
    modality_patterns(_R2_0, {"T1": "T1w"}),
    _R2_0.replace("FILE", "label-L_desc-T1lesion_mask"),
    lesion_masks=True,
    known_problems={  # github.com/npnl/ATLAS, issues 21 and 23
        "sub-r009s003": "the mask does not match the scan",
        "sub-r040s043": "the mask includes microbleeds",
    },
)
