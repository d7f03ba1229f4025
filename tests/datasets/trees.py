# SPDX-License-Identifier: Apache-2.0
"""Tiny data sets on disk in the structure of the real ones."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

SHAPE = (6, 7, 8)
MODALITIES = ("T1", "T2", "FLAIR")


def write_scan(path: Path, seed: int = 0, shape: Sequence[int] = SHAPE, affine: Any = None) -> Path:
    """A noise image, another one for another seed."""
    voxels = np.random.default_rng(seed).integers(1, 1000, size=tuple(shape)).astype(np.int16)
    return write_voxels(path, voxels, affine)


def write_label(
    path: Path, voxels: int = 3, value: float = 1, shape: Sequence[int] = SHAPE, affine: Any = None
) -> Path:
    """A label map whose first ``voxels`` voxels have the value."""
    label = np.zeros(tuple(shape), dtype=np.float32 if value % 1 or value < 0 else np.uint8)
    label.reshape(-1)[:voxels] = value
    return write_voxels(path, label, affine)


def write_voxels(path: Path, voxels: np.ndarray, affine: Any = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else np.asarray(affine)), path)
    return path


def write_files(root: Path, images: Sequence[str], label: str | None, voxels: int = 3) -> None:
    """One case: an image file each with its own noise, and a label."""
    for number, name in enumerate(images):
        write_scan(root / name, seed=zlib.crc32(name.encode()) + number)
    if label is not None:
        write_label(root / label, voxels)


def mslesseg(root: Path) -> None:
    """P1 with two time points, P2 and P3 with one; two test scans, of which one has no mask."""
    top = "MSLesSeg Dataset"
    for patient, time in (("P1", "T1"), ("P1", "T2"), ("P2", "T1"), ("P3", "T1")):
        stem = f"{top}/train/{patient}/{time}/{patient}_{time}"
        write_files(root, [f"{stem}_{name}.nii.gz" for name in MODALITIES], f"{stem}_MASK.nii.gz", 2 * int(patient[1]))
    write_files(root, [f"{top}/test/P54/P54_{name}.nii.gz" for name in MODALITIES], f"{top}/test/P54/P54_MASK.nii.gz")
    write_files(root, [f"{top}/test/P55/P55_{name}.nii.gz" for name in MODALITIES], None)


def isbi2015(root: Path) -> None:
    """Two patients with two visits and two raters, one unlabelled test patient."""
    for visit in ("training01_01", "training01_02", "training02_01", "training02_02"):
        folder = f"training/{visit[:10]}"
        files = [f"{folder}/preprocessed/{visit}_{name}_pp.nii" for name in ("mprage", "t2", "flair", "pd")]
        write_files(root, files, f"{folder}/masks/{visit}_mask1.nii", 2)
        write_label(root / f"{folder}/masks/{visit}_mask2.nii", 5)
    files = [f"testdata_website/test01/preprocessed/test01_01_{name}_pp.nii" for name in ("mprage", "t2", "flair")]
    write_files(root, files, None)


def ljubljana(root: Path) -> None:
    """Two patients in the short names, two in the published ones with brain masks and processing words."""
    for patient in ("patient01", "patient02"):
        write_files(root, [f"{patient}/{n}.nii.gz" for n in ("t1", "t2", "flair", "t1post")], f"{patient}/label.nii.gz")
    for patient in ("patient03", "patient04"):
        stem = f"{patient}/{patient}"
        files = [f"{stem}_{name}_N4_regtoFLAIR_brain.nii.gz" for name in ("T1W", "T2W", "T1WKS")]
        write_files(root, [*files, f"{stem}_FLAIR.nii.gz"], f"{stem}_consensus_gt.nii.gz")
        write_label(root / f"{stem}_brainmask.nii.gz", 100)
        write_label(root / f"{stem}_FLAIR_brainmask.nii.gz", 100)


def general(root: Path) -> None:
    """Three subjects with two visits: sub-1/v1_T1.nii.gz."""
    for subject in ("sub-1", "sub-2", "sub-3"):
        for visit in ("v1", "v2"):
            stem = f"scans/{subject}/{visit}"
            write_files(root, [f"{stem}_{name}.nii.gz" for name in MODALITIES], f"masks/{subject}/{visit}_seg.nii.gz")


def atlas_r1_1(root: Path) -> None:
    """Three sites of two subjects with 0/255 masks. The first subject has two time points, its second scan two masks.

    Beside them what the archive holds besides: a template image and a table.
    """
    for number in range(6):
        subject = f"{31768 + number:06d}"
        for time in ("t01", "t02")[: 1 if number else 2]:
            stem = f"ATLAS_R1.1/Site{number // 2 + 1}/{subject}/{time}/{subject}"
            write_files(root, [f"{stem}_t1w_deface_stx.nii.gz"], None)
            write_label(root / f"{stem}_LesionSmooth_stx.nii.gz", 3 + number, 255)
            if time == "t02":
                write_voxels(root / f"{stem}_LesionSmooth_1_stx.nii.gz", second_mask())
    write_scan(root / "ATLAS_R1.1/standard_mni/MNI152_T1_1mm_stx.nii.gz")
    (root / "ATLAS_R1.1/ATLAS_Meta-Data_Release_1.1_standard_mni.csv").write_text("INDI Subject ID\n031768\n")


def second_mask() -> np.ndarray:
    """A lesion that shares one voxel with that of ``write_label(path, 3, 255)``."""
    mask = np.zeros(SHAPE, np.float32)
    mask[0, 0, 2:5] = 255
    return mask


def atlas_r1_2(root: Path) -> None:
    """Two cohorts of three subjects, each a folder, masks of 0 and 1; native scans beside them."""
    for cohort in (3, 5):
        for subject in (1, 2, 3):
            scan = f"c{cohort:04d}s{subject:04d}t01"
            stem = f"standard_mni/c{cohort:04d}/{scan}/{scan}"
            write_files(root, [f"{stem}_t1w_stx.nii.gz"], f"{stem}_LesionSmooth_stx.nii.gz", 2 * subject)
            write_scan(root / f"native/{scan}/{scan}_t1w.nii.gz")


def atlas_r2_0(root: Path, suffix: str = ".nii.gz") -> None:
    """Two cohorts of four subjects, the two with known problems among them; two unlabelled test scans."""
    top, space = "ATLAS_2", "space-MNI152NLin2009aSym"
    for cohort, subjects in (("r009", (1, 2, 3, 4)), ("r040", (41, 42, 43, 44))):
        for subject in subjects:
            name = f"sub-{cohort}s{subject:03d}"
            stem = f"{top}/Training/{cohort.upper()}/{name}/ses-1/anat/{name}_ses-1_{space}"
            write_files(root, [f"{stem}_T1w{suffix}"], f"{stem}_label-L_desc-T1lesion_mask{suffix}", subject)
        (root / f"{top}/Training/{cohort.upper()}/dataset_description.json").write_text("{}")
    for subject in (1, 2):
        name = f"sub-r050s{subject:03d}"
        stem = f"{top}/Testing/R050/{name}/ses-1/anat/{name}_ses-1_{space}"
        write_files(root, [f"{stem}_T1w{suffix}"], None)
    write_scan(root / f"{top}/MNI152NLin2009aSym.nii.gz")
    (root / f"{top}/20211112_ATLAS_2.0_SupplementaryInfo.csv").write_text("subject\n")


def split_folders(root: Path) -> None:
    """The published division in three folders: cases 1 to 4, 5, and 6 and 7, of which 7 has no label."""
    for part, names in {"train": "1234", "val": "5", "test": "67"}.items():
        for name in names:
            write_files(root, [f"3D/{part}/{name}.nii"], f"3D/{part}/{name}label.nii" if name != "7" else None)


def decathlon(root: Path, suffix: str = "") -> None:
    """Ten labelled scans and two that are not; ``suffix`` follows the name of a scan's file."""
    for number in range(10):
        name = f"p{number:02d}"
        write_files(root, [f"imagesTr/{name}{suffix}.nii.gz"], f"labelsTr/{name}.nii.gz", 1 + number)
    for number in (10, 11):
        write_files(root, [f"imagesTs/p{number}{suffix}.nii.gz"], None)


def case_folders(root: Path) -> None:
    """Five folders of a scan and its label, named in three ways, with other scans beside them."""
    for number in range(5):
        image, label = (("image", "label"), ("mr", "label_auto"), ("t2_tra", "label_rough"))[number % 3]
        write_files(root, [f"scans/case{number}/{image}.nii.gz"], f"scans/case{number}/{label}.nii.gz")
        write_scan(root / f"scans/case{number}/adc.nii.gz", 77)


GENERAL_PATTERNS = {
    **{name: f"**/{{patient}}/{{case}}_{name}.nii.gz" for name in MODALITIES},
    "label": "masks/{patient}/{case}_seg.nii.gz",
}


def write_datalist(root: Path, **sections: Any) -> Path:
    path = root / "datalist.json"
    path.write_text(json.dumps(sections), encoding="utf-8")
    return path


TUMOUR_MODALITIES = ("t1", "t2", "t1ce", "flair")


def write_tumour(path: Path, values: Sequence[int] = (1, 2, 4), voxels: int = 3) -> Path:
    """A label map in which each value has ``voxels`` voxels."""
    label = np.zeros(SHAPE, np.uint8)
    label.reshape(-1)[: voxels * len(values)] = np.repeat(values, voxels)
    return write_voxels(path, label)


def tumour_case(root: Path, stem: str, suffix: str = ".nii.gz", label: str | None = "_seg", voxels: int = 3) -> None:
    """One case of BraTS up to 2021: files ``stem`` + _t1 ... and a segmentation, None for no such file."""
    write_files(root, [f"{stem}_{name}{suffix}" for name in TUMOUR_MODALITIES], None)
    if label is not None:
        write_tumour(root / f"{stem}{label}{suffix}", voxels=voxels)


def brats2019(root: Path) -> None:
    """Six patients of high and three of low grade, and one validation scan."""
    for number in range(9):
        grade, name = ("LGG" if number % 3 == 2 else "HGG"), f"BraTS19_CBICA_A{number}_1"
        tumour_case(root, f"MICCAI_BraTS_2019_Data_Training/{grade}/{name}/{name}", voxels=1 + number)
    tumour_case(root, "MICCAI_BraTS_2019_Data_Validation/BraTS19_UAB_1/BraTS19_UAB_1", label=None)
    (root / "MICCAI_BraTS_2019_Data_Training/survival_data.csv").write_text("BraTS19ID,Age\n")


def brats2020(root: Path) -> None:
    """Five uncompressed cases, of which 355's segmentation is named otherwise; two validation cases beside them."""
    for number in (1, 2, 3, 4, 355):
        folder = f"MICCAI_BraTS2020_TrainingData/BraTS20_Training_{number:03d}"
        stem = f"{folder}/BraTS20_Training_{number:03d}"
        tumour_case(root, stem, ".nii", "_seg" if number < 355 else None)
        if number == 355:
            write_tumour(root / folder / "W39_1998.09.19_Segm.nii")
    for number in (1, 2):
        name = f"BraTS20_Validation_{number:03d}"
        tumour_case(root, f"MICCAI_BraTS2020_TrainingData/{name}/{name}", ".nii", None)
    for table in ("name_mapping", "survival_info"):
        (root / f"MICCAI_BraTS2020_TrainingData/{table}.csv").write_text("Grade\n")


def brats2021(root: Path) -> None:
    for number in (0, 2, 3, 5, 6, 8):
        tumour_case(root, f"BraTS2021_{number:05d}/BraTS2021_{number:05d}")


def brats2023(root: Path) -> None:
    """Six patients, the first three of whom have two time points, meningiomas too; one validation scan."""
    names = [f"BraTS-GLI-{number:05d}-{time:03d}" for number in range(4) for time in (0, 1)[: 1 + (number < 3)]]
    for name in (*names, "BraTS-MEN-00004-000", "BraTS-MEN-00008-000"):
        stem = f"ASNR-MICCAI-BraTS2023-Challenge-TrainingData/{name}/{name}"
        write_files(root, [f"{stem}-{word}.nii.gz" for word in ("t1n", "t2w", "t1c", "t2f")], None)
        write_tumour(root / f"{stem}-seg.nii.gz", (1, 2, 3))
    stem = "ASNR-MICCAI-BraTS2023-GLI-Challenge-ValidationData/BraTS-GLI-00001-002/BraTS-GLI-00001-002"
    write_files(root, [f"{stem}-{word}.nii.gz" for word in ("t1n", "t2w", "t1c", "t2f")], None)


def msd_task01(root: Path) -> None:
    """Five 4D files with label maps and two without."""
    for number in range(1, 8):
        part = "Tr" if number < 6 else "Ts"
        write_scan(root / f"Task01_BrainTumour/images{part}/BRATS_{number:03d}.nii.gz", number, (*SHAPE, 4))
        if part == "Tr":
            write_tumour(root / f"Task01_BrainTumour/labelsTr/BRATS_{number:03d}.nii.gz", (1, 2, 3))
    (root / "Task01_BrainTumour/imagesTr/._BRATS_001.nii.gz").write_bytes(b"resource fork")
    (root / "Task01_BrainTumour/dataset.json").write_text("{}")


def tumour_folders(root: Path) -> None:
    """Five folders of a case, named in two ways, with a brain mask beside the scans."""
    for number in range(5):
        enhanced, label = (("t1c", "label_auto_fused"), ("t1ce", "seg"))[number % 2]
        folder = f"TCGA-{number:02d}"
        write_files(root, [f"{folder}/{name}.nii.gz" for name in ("t1", "t2", enhanced, "flair")], None)
        write_tumour(root / f"{folder}/{label}.nii.gz")
        write_tumour(root / f"{folder}/brainmask.nii.gz")


def write_spine(path: Path, values: Sequence[int] = (1, 2, 11), affine: Any = None) -> Path:
    """A label map of a slab of each value above one of background."""
    label = np.zeros(SHAPE, np.uint8)
    label[:, :, 1 : 1 + len(values)] = values
    return write_voxels(path, label, affine)


def mrspineseg(root: Path, cases: int = 20) -> None:
    """As it is downloaded; three test scans without a mask."""
    for number in range(1, cases + 1):
        write_scan(root / f"train/MR/Case{number}.nii.gz", number)
        write_spine(root / f"train/Mask/mask_case{number}.nii.gz")
    for number in range(1, 4):
        write_scan(root / f"test1/MR/Case{cases + number}.nii.gz", cases + number)


def mrspineseg_scripts(root: Path) -> None:
    """As the published scripts want it, everything twice."""
    for number, stage in ((number, stage) for number in range(1, 11) for stage in ("coarse", "fine")):
        write_scan(root / f"{stage}/in/nii/original_mr/Case{number}.nii.gz", number)
        write_spine(root / f"{stage}/in/nii/mask/mask_case{number}.nii.gz")
        (root / f"{stage}/in/h5py").mkdir(parents=True, exist_ok=True)


OBLIQUE = np.array([[0.3, -0.36, 3.5, 10], [0.4, 0.48, 0.7, -20], [0, 0.8, -2.5, 30], [0, 0, 0, 1]])


def write_metaimage(path: Path, voxels: np.ndarray, affine: Any = OBLIQUE) -> Path:
    """A MetaImage file; ``affine`` in NIfTI's world, which MetaImage turns by 180 degrees around the last axis.

    Axes are made orthogonal, as the format needs them.
    """
    types = {"int16": "MET_SHORT", "uint8": "MET_UCHAR", "float32": "MET_FLOAT", "int64": "MET_LONG_LONG"}
    matrix = np.diag([-1, -1, 1, 1]) @ orthogonal(affine)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)

    def listed(numbers: Any) -> str:
        return " ".join(f"{number:.17g}" for number in np.ravel(numbers))

    header = {
        **{"ObjectType": "Image", "NDims": voxels.ndim, "BinaryData": "True", "BinaryDataByteOrderMSB": "False"},
        **{"CompressedData": "False", "TransformMatrix": listed((matrix[:3, :3] / spacing).T)},
        **{"Offset": listed(matrix[:3, 3]), "ElementSpacing": listed(spacing), "DimSize": listed(voxels.shape)},
        **{"ElementType": types[str(voxels.dtype)], "ElementDataFile": "LOCAL"},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{key} = {value}\n" for key, value in header.items())
    path.write_bytes(text.encode() + voxels.tobytes(order="F"))
    return path


def orthogonal(affine: Any) -> np.ndarray:
    """The nearest affine with right angles and the same spacing."""
    result = np.array(affine, float)
    spacing = np.linalg.norm(result[:3, :3], axis=0)
    left, _, right = np.linalg.svd(result[:3, :3] / spacing)
    result[:3, :3] = left @ right * spacing
    return result


def spider(root: Path, patients: int = 6) -> None:
    """T1 and T2 of all patients, isotropic T2 of the first two, each with a mask."""
    for number in range(1, patients + 1):
        for series in ("t1", "t2", "t2_SPACE")[: 2 + (number < 3)]:
            seed = zlib.crc32(f"{number}{series}".encode())
            voxels = np.random.default_rng(seed).integers(1, 1000, size=SHAPE).astype(np.int16)
            write_metaimage(root / f"images/{number}_{series}.mha", voxels)
            mask = np.zeros(SHAPE, np.uint8)
            mask[:, :, 1:5] = (1, 102, 100, 201)
            write_metaimage(root / f"masks/{number}_{series}.mha", mask)
    (root / "overview.csv").write_text("new_file_name,subset\n")
