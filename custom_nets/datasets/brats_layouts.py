# SPDX-License-Identifier: Apache-2.0
"""The public data sets of brain tumours, the BraTS challenges above all, and folders of a case's four scans.

The layouts are told apart by the names of the files: CASE_t1ce, CASE-t1c, and t1c or t1ce without the case.
"""

from __future__ import annotations

from custom_nets.datasets.layouts import IMAGE, NIFTI, Layout, modality_patterns

# Both are looked for anywhere in the path, each without using any of it up: the challenge's own validation or test
# scans by their folder or their names (BraTS20_Validation_001), and the tumour's grade by BraTS 2019's folders, which
# counts as a site so that both grades are spread evenly.
_PART_AND_GRADE = r"(?=.*(?P<part>validation|testing)|)(?=(?:.*/)?(?P<site>HGG|LGG)/|)(?:.*/)?"

# The segmentation of one case of 2020 was published under the name that it had before.
_BRATS = rf"{_PART_AND_GRADE}(?P<case>[^/]+)/(?P=case)_FILE{NIFTI}"
BRATS_TO_2021 = Layout(
    "brats",
    "BraTS 2017 to 2021, CASE/CASE_{t1,t2,t1ce,flair,seg}.nii.gz or .nii in any folders, of which HGG and LGG tell the "
    "grade; scans in folders named ...Validation... or ...Testing... need no seg",
    modality_patterns(_BRATS, {"T1": "t1", "T2": "t2", "T1CE": "t1(?:ce|c|gd)", "FLAIR": "flair"}),
    rf"{_PART_AND_GRADE}(?P<case>[^/]+)/(?:(?P=case)_seg|W39_1998\.09\.19_Segm){NIFTI}",
    label_convention="brats",
)

# BraTS-GLI-00005-101 is the second time point of patient BraTS-GLI-00005.
_BRATS2023 = rf"{_PART_AND_GRADE}(?P<case>(?P<patient>[^/]+?)(?:(?<=-\d{{5}})-\d{{1,3}})?)/(?P=case)-FILE{NIFTI}"
BRATS_FROM_2023 = Layout(
    "brats2023",
    "BraTS 2023 and 2024, BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t1n,t2w,t1c,t2f,seg}.nii.gz, the last number being "
    "the time point; scans in folders named ...Validation... or ...Testing... need no seg",
    modality_patterns(_BRATS2023, {"T1": "t1n", "T2": "t2w", "T1CE": "t1c", "FLAIR": "t2f"}),
    _BRATS2023.replace("FILE", "seg"),
    label_convention="brats2023",
)

_MSD = rf"(?:.*/)?FOLDER(?:Tr|(?P<part>Ts))/(?P<case>[^/]+?)(?<!_\d{{4}}){NIFTI}"  # CASE_0000 is one channel of nnU-Net
MSD_TASK01 = Layout(
    "msd_task01",
    "Medical Segmentation Decathlon, imagesTr/BRATS_001.nii.gz of FLAIR, T1, T1CE and T2 in one 4D file, "
    "labelsTr/BRATS_001.nii.gz; imagesTs/... are test scans",
    modality_patterns(_MSD.replace("FOLDER", "images"), {IMAGE: ""}),
    _MSD.replace("FOLDER", "labels"),
    stacked=("FLAIR", "T1", "T1CE", "T2"),
    label_convention="msd",
)

_FOLDERS = rf"{_PART_AND_GRADE}(?P<case>[^/]+)/FILE{NIFTI}"
TUMOUR_FOLDERS = Layout(
    "case_folders",
    "CASE/{t1,t2,t1c,flair}.nii.gz with CASE/seg.nii.gz or label.nii.gz; t1ce and t1gd are t1c too, and seg and label "
    "may go on, as in label_auto",
    modality_patterns(_FOLDERS, {"T1": "t1n?", "T2": "t2w?", "T1CE": "t1(?:ce|c|gd)", "FLAIR": "(?:flair|t2f)"}),
    _FOLDERS.replace("FILE", r"(?:seg(?:mentation)?|label(?:s|map)?)(?:[_-][^/]*)?"),
    label_convention="brats",
)
