# SPDX-License-Identifier: Apache-2.0
"""The public data sets of spines, and folders of a user's own scans."""

from __future__ import annotations

from dataclasses import replace

from custom_nets.datasets.layouts import NIFTI, Layout, modality_patterns
from custom_nets.datasets.pelvis_layouts import CASE_FOLDERS, DECATHLON, SPLIT_FOLDERS

# MR/Case1 and Mask/mask_case1 differ in a capital: the number alone tells the case. Test scans have no mask.
_DOWNLOAD = r"(?:(?:.*/)?(?P<part>train|test)[^/]*/|)"
_CASE = r"case_?(?P<case>\d+)"
MRSPINESEG = Layout(
    "mrspineseg",
    "MRSpineSeg as it is downloaded, train/MR/Case1.nii.gz with train/Mask/mask_case1.nii.gz; test/MR/Case173.nii.gz "
    "has no mask",
    modality_patterns(f"{_DOWNLOAD}MR/{_CASE}{NIFTI}", {"T2": ""}),
    f"{_DOWNLOAD}Mask/mask_{_CASE}{NIFTI}",
    case_prefix="Case",
)

# The published scripts want copies of all files below coarse/ and fine/, of which one is enough.
_SCRIPTS = r"(?!(?:.*/)?fine/)(?:.*/)?"
MRSPINESEG_SCRIPTS = Layout(
    "mrspineseg_scripts",
    "the folders of the published scripts, coarse/in/nii/original_mr/Case1.nii.gz with .../mask/mask_case1.nii.gz",
    modality_patterns(f"{_SCRIPTS}original_mr/{_CASE}{NIFTI}", {"T2": ""}),
    f"{_SCRIPTS}mask/mask_{_CASE}{NIFTI}",
    case_prefix="Case",
)

_SPIDER = rf"(?:.*/)?FOLDER/(?P<case>(?P<patient>\d+)_SERIES){NIFTI}"


def _spider(series: str, modality: str) -> Layout:
    return Layout(
        f"spider_{series}",
        f"SPIDER, images/1_{series}.mha with masks/1_{series}.mha, which are converted to .nii.gz in nifti/images and "
        "nifti/masks",
        modality_patterns(_SPIDER.replace("FOLDER", "images").replace("SERIES", series), {modality: ""}),
        _SPIDER.replace("FOLDER", "masks").replace("SERIES", series),
    )


def spider_files(layout: Layout) -> str:
    """Regular expression of the paths of a series' images and masks, without their extension."""
    series = layout.name.removeprefix("spider_")
    return rf"(?:.*/)?(?:images|masks)/\d+_{series}"


#: SPIDER's series: T1, T2, and isotropic T2 of a part of the patients.
SPIDER_SERIES = {series: _spider(series, series[:2].upper()) for series in ("t1", "t2", "t2_space")}

#: Folders of anybody's T2 scans, as of those of a pelvis.
SPINE_FOLDERS = tuple(
    replace(layout, images={"T2": layout.images["MR"]}) for layout in (CASE_FOLDERS, DECATHLON, SPLIT_FOLDERS)
)
