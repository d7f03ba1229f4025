# SPDX-License-Identifier: Apache-2.0
"""Common structures of folders of volumes with a label map each; S2aNet's 27 pelvic volumes are not public."""

from __future__ import annotations

from custom_nets.datasets.layouts import NIFTI, Layout, modality_patterns

# The published preparation's folders. Nothing stands between the case and "label".
_SPLIT = r"(?:.*/)?(?P<part>train|val|test)/(?P<case>[^/]+?)"
SPLIT_FOLDERS = Layout(
    "split_folders",
    "3D/{train,val,test}/1.nii with 1label.nii beside it, a division that is kept",
    modality_patterns(f"{_SPLIT}(?<!label)FILE", {"MR": NIFTI}),
    f"{_SPLIT}label{NIFTI}",
    sections={"train": "training", "val": "validation", "test": "testing"},
)

# As the Medical Segmentation Decathlon and nnU-Net do; nnU-Net's images end in the number of the channel.
_DECATHLON = r"(?:.*/)?FOLDER(?:Tr|(?P<part>Ts))/(?P<case>[^/]+?)"
DECATHLON = Layout(
    "decathlon",
    "imagesTr/case.nii.gz or case_0000.nii.gz, labelsTr/case.nii.gz; imagesTs/... are test scans, labelled or not",
    modality_patterns(_DECATHLON.replace("FOLDER", "images") + "FILE", {"MR": f"(?:_0000)?{NIFTI}"}),
    _DECATHLON.replace("FOLDER", "labels") + NIFTI,
)

_FOLDERS = rf"(?:.*/)?(?P<case>[^/]+)/FILE{NIFTI}"
CASE_FOLDERS = Layout(
    "case_folders",
    "case/{image,mr,t2}.nii.gz with case/label.nii.gz beside it; t2 and label may go on, as in t2_tra and label_rough",
    modality_patterns(_FOLDERS, {"MR": r"(?:image|mr|t2(?:[_-][^/]*)?)"}),
    _FOLDERS.replace("FILE", r"label(?:s|map)?(?:[_-][^/]*)?"),
)
