# SPDX-License-Identifier: Apache-2.0
"""Every kind of unusable data gets a message that names the file, the value found and what to do."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from custom_nets.datasets import check_inference, check_training, load_section, read_datalist
from custom_nets.errors import InputError
from tests.datasets import trees

MODALITIES = ("T1", "T2", "FLAIR")
SHIFTED = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2.5], [0, 0, 0, 1]])


def good_case(name: str) -> dict[str, Any]:
    return {"image": [f"{name}_{modality}.nii.gz" for modality in MODALITIES], "label": f"{name}_seg.nii.gz"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sound data set: a1 and a2 to train on, b1 to validate, c1 to test without a label."""
    for name in ("a1", "a2", "b1"):
        trees.write_files(tmp_path, good_case(name)["image"], good_case(name)["label"])
    trees.write_files(tmp_path, good_case("c1")["image"], None)
    listed(tmp_path)
    return tmp_path


def listed(root: Path, **sections: Any) -> None:
    """Write the data list; named sections replace those of the sound data set, None removes one."""
    sound = {"training": [good_case("a1"), good_case("a2")], "validation": [good_case("b1")]}
    testing = [{"image": good_case("c1")["image"]}]
    merged = {**sound, "testing": testing, **sections}
    trees.write_datalist(root, **{name: cases for name, cases in merged.items() if cases is not None})


def first_case(root: Path, **entries: Any) -> None:
    """Replace entries of a1 in the data list."""
    listed(root, training=[{**good_case("a1"), **entries}, good_case("a2")])


def preflight(root: Path) -> list:
    return check_training(root, "datalist.json", MODALITIES, (0, 1), progress=False)


def cut(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def flipped(path: Path) -> None:
    """One wrong byte in the middle, as a bad disk or copy leaves it."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def with_affine(path: Path, affine: Any, sform_code: int = 1) -> None:
    """Rewrite a file with this affine as it is, also where nibabel would refuse to."""
    voxels = np.asarray(nibabel.load(path).dataobj).astype(np.int16)
    header = nibabel.Nifti1Header()
    header.set_data_shape(trees.SHAPE)
    header.set_data_dtype(np.int16)
    header["sform_code"] = sform_code
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        header[name] = np.asarray(affine, dtype=float)[row]
    header["magic"], header["vox_offset"] = b"n+1", 352
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4) + voxels.tobytes(order="F")))


def voxels(path: Path, change: Callable[[np.ndarray], None], dtype: Any = np.float32) -> None:
    array = np.asarray(nibabel.load(path).dataobj).astype(dtype)
    change(array)
    trees.write_voxels(path, array)


def nan_voxels(array: np.ndarray) -> None:
    array[0, 0, :4] = (np.nan, np.nan, np.inf, -np.inf)


def dicom(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(128) + b"DICM" + bytes(100))
    return path


def rgb(path: Path) -> None:
    array = np.zeros(trees.SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


def four_d(root: Path, channels: int) -> None:
    trees.write_scan(root / "a1_all.nii.gz", shape=(*trees.SHAPE, channels))
    first_case(root, image="a1_all.nii.gz")


def same_voxels(root: Path) -> None:
    shutil.copy(root / "a1_T1.nii.gz", root / "a1_FLAIR.nii.gz")


T1, T2, FLAIR, SEG = (f"a1_{name}.nii.gz" for name in ("T1", "T2", "FLAIR", "seg"))

# what is wrong: how it is made, and what the message has to contain
BAD_FILES: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "missing image": (lambda r: (r / T2).unlink(), (T2, "does not exist", "correct the path")),
    "missing label": (lambda r: (r / SEG).unlink(), (SEG, "does not exist", "correct the path")),
    "empty file": (lambda r: (r / T2).write_bytes(b""), (T2, "0 bytes", "download it again")),
    "gzip cut off": (lambda r: cut(r / T2, 0.5), (T2, "truncated", "download it again")),
    "gzip damaged": (lambda r: flipped(r / T2), (T2, "damaged", "download it again")),
    "nifti cut off": (
        lambda r: (cut(trees.write_scan(r / "a1.nii"), 0.6), first_case(r, image=[T1, "a1.nii", FLAIR])),
        ("a1.nii", "truncated: the header says (6, 7, 8)", "download it again"),
    ),
    "text named nifti": (
        lambda r: (r / T2).write_bytes(gzip.compress(b"<html>please log in</html>" * 20)),
        (T2, "not a NIfTI file", "convert it"),
    ),
    "gzip named .nii": (
        lambda r: (shutil.copy(r / T2, r / "x.nii"), first_case(r, image=[T1, "x.nii", FLAIR])),
        ("x.nii", "gzip-compressed", "rename it to end in .nii.gz"),
    ),
    "plain named .nii.gz": (
        lambda r: (r / T2).write_bytes(gzip.decompress((r / T2).read_bytes())),
        (T2, "not gzip-compressed", "rename it to end in .nii"),
    ),
    "other extension": (
        lambda r: ((r / "x.mha").write_text("x"), first_case(r, image=[T1, "x.mha", FLAIR])),
        ("x.mha", "'.mha'", "convert it to NIfTI"),
    ),
    "dicom file": (
        lambda r: (dicom(r / "IM001"), first_case(r, image=[T1, "IM001", FLAIR])),
        ("IM001", "DICOM", "dcm2niix"),
    ),
    "dicom folder": (
        lambda r: (dicom(r / "series/IM001"), first_case(r, image=[T1, "series", FLAIR])),
        ("series", "folder of DICOM", "dcm2niix"),
    ),
    "folder": (
        lambda r: ((r / "scan").mkdir(), first_case(r, image=[T1, "scan", FLAIR])),
        ("scan", "a folder, not a file", "name the NIfTI file"),
    ),
    "colour voxels": (lambda r: rgb(r / T2), (T2, "not real numbers", "one real value a voxel")),
    "complex voxels": (
        lambda r: voxels(r / T2, lambda a: None, np.complex64),
        (T2, "complex64", "one real value a voxel"),
    ),
    "too few modalities": (
        lambda r: first_case(r, image=[T1, T2]),
        (T1, "2 image files", "3 modalities (T1, T2, FLAIR)"),
    ),
    "too many modalities": (
        lambda r: first_case(r, image=[T1, T2, FLAIR, "a2_T1.nii.gz"]),
        (T1, "4 image files", "3 modalities (T1, T2, FLAIR)"),
    ),
    "4D with 2 channels": (lambda r: four_d(r, 2), ("a1_all.nii.gz", "2 channel(s)", "3 modalities")),
    "one 3D file": (lambda r: first_case(r, image=T1), (T1, "1 channel(s)", "3 modalities")),
    "4D among 3D": (
        lambda r: trees.write_scan(r / T2, shape=(*trees.SHAPE, 2)),
        (T2, "4D, shape (6, 7, 8, 2)", "save it as a 3D volume"),
    ),
    "2D image": (lambda r: trees.write_scan(r / T2, shape=(6, 7)), (T2, "2D, shape (6, 7)", "save it as a 3D volume")),
    "other shape": (
        lambda r: trees.write_scan(r / T2, shape=(6, 7, 9)),
        (T2, "shape (6, 7, 9), but a1_T1.nii.gz has (6, 7, 8)", "resample it"),
    ),
    "other affine": (
        lambda r: trees.write_scan(r / T2, 5, affine=SHIFTED),
        (T2, "differs from a1_T1.nii.gz by up to 2.5 mm", "resample it"),
    ),
    "label shape": (
        lambda r: trees.write_label(r / SEG, shape=(5, 7, 8)),
        (SEG, "shape (5, 7, 8), but a1_T1.nii.gz has (6, 7, 8)", "resample it"),
    ),
    "label affine": (
        lambda r: trees.write_label(r / SEG, affine=np.diag([-1, 1, 1, 1])),
        (SEG, "by up to 10 mm", "resample it"),
    ),
    "singular affine": (
        lambda r: with_affine(r / T2, np.diag([1, 1, 0, 1])),
        (T2, "singular affine, spacing 1 x 1 x 0 mm", "write the header again"),
    ),
    "NaN affine": (
        lambda r: with_affine(r / T2, np.diag([1, np.nan, 1, 1])),
        (T2, "affine holds NaN", "write the header again"),
    ),
    "NaN voxels": (lambda r: voxels(r / T2, nan_voxels), (T2, "4 NaN or infinite voxels", "replace them")),
    "all zero": (
        lambda r: trees.write_voxels(r / T2, np.zeros(trees.SHAPE, np.int16)),
        (T2, "every voxel is 0", "check the export"),
    ),
    "file twice": (
        lambda r: first_case(r, image=[T1, T1, FLAIR]),
        (T1, "T2 is the same file as T1", "give the file of T2"),
    ),
    "voxels twice": (same_voxels, (FLAIR, "FLAIR is voxel for voxel the same as T1", "give the file of FLAIR")),
    "label 255": (
        lambda r: trees.write_label(r / SEG, 7, 255),
        (SEG, "unknown label values 255 (7 voxels)", "map them to the stated labels 0, 1"),
    ),
    "fractional label": (
        lambda r: trees.write_label(r / SEG, 2, 0.5),
        (SEG, "fractional label values 0.5 (2 voxels)", "nearest neighbour"),
    ),
    "NaN label": (
        lambda r: trees.write_label(r / SEG, 2, float("nan")),
        (SEG, "fractional label values nan (2 voxels)", "threshold it"),
    ),
    "4D label": (
        lambda r: trees.write_label(r / SEG, shape=(*trees.SHAPE, 2)),
        (SEG, "label is 4D", "save one 3D label map"),
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_file(root: Path, kind: str) -> None:
    assert preflight(root) == []
    build, fragments = BAD_FILES[kind]
    build(root)
    with pytest.raises(InputError) as caught:
        preflight(root)
    message = str(caught.value)
    line = next(line for line in message.splitlines()[2:] if fragments[1] in line)
    assert line.startswith("error")
    for fragment in fragments:
        assert fragment in line
    assert "a2_" not in message.replace("a2_T1.nii.gz", ""), "a sound case is reported"


BAD_LISTS: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "no folder": (shutil.rmtree, ("is not a folder", "tools.demo_data", "tools.make_datalist")),
    "no list": (lambda r: (r / "datalist.json").unlink(), ("datalist.json", "does not exist", "tools.make_datalist")),
    "no JSON": (
        lambda r: (r / "datalist.json").write_text('{"training": [\n  {"image": "x",}\n]}'),
        ("datalist.json, line 2", "not valid JSON", "correct that line"),
    ),
    "not UTF-8": (lambda r: (r / "datalist.json").write_bytes(b'{"\xff": 1}'), ("not UTF-8", "save it as UTF-8")),
    "a list": (lambda r: (r / "datalist.json").write_text("[]"), ("holds a list", "training, validation, testing")),
    "no section": (lambda r: (r / "datalist.json").write_text("{}"), ("none of the lists", "add at least one")),
    "train": (lambda r: listed(r, train=[good_case("a1")]), ("unknown section 'train'", "rename it to training")),
    "fold_0": (lambda r: listed(r, fold_0=[good_case("a1")]), ("unknown section 'fold_0'", "rename it to one of")),
    "section of another type": (lambda r: listed(r, testing={"image": T1}), ("testing is a dict", "not a list")),
    "case of another type": (lambda r: listed(r, training=["a1.nii.gz"]), ("training[0]: is 'a1.nii.gz'", '{"image"')),
    "no image": (
        lambda r: listed(r, training=[{"t1": T1, "label": SEG}]),
        ("training[0]: has no 'image'", "t1, label"),
    ),
    "image number": (lambda r: first_case(r, image=[T1, 3]), ("training[0]: 'image' is", "3]", "list of paths")),
    "image empty": (lambda r: first_case(r, image=[]), ("training[0]: 'image' is []", "list of paths")),
    "no label": (lambda r: first_case(r, label=None), ("training[0]: has no 'label'", "move the case to testing")),
    "label list": (lambda r: first_case(r, label=[SEG]), ("training[0]: 'label' is [", "not a path")),
    "empty training": (lambda r: listed(r, training=[]), ("training list is empty", "add cases")),
    "no training": (lambda r: listed(r, training=None), ("has no 'training' cases", "add them")),
    "no validation": (lambda r: listed(r, validation=None), ("has no 'validation' cases", "add them")),
    "leakage": (
        lambda r: listed(r, validation=[good_case("a2")]),
        ("leakage", "a2_T1.nii.gz is in training and validation", "keep it in one of them"),
    ),
    "leakage by a link": (
        lambda r: ((r / "b1_T1.nii.gz").unlink(), (r / "b1_T1.nii.gz").symlink_to(r / T1)),
        ("leakage", "a1_T1.nii.gz", "keep it in one of them"),
    ),
    "leakage of a patient": (
        lambda r: listed(
            r, training=[{**good_case("a1"), "patient": "A"}], validation=[{**good_case("a2"), "patient": "A"}]
        ),
        ("patient A is in training and validation", "keep it in one of them"),
    ),
    "modalities in another order": (
        lambda r: listed(r, modality={"0": "FLAIR", "1": "T1", "2": "T2"}),
        ("FLAIR, T1, T2", "expects T1, T2, FLAIR", "--modalities T1,T2,FLAIR"),
    ),
}


@pytest.mark.parametrize("kind", BAD_LISTS)
def test_bad_list(root: Path, kind: str) -> None:
    build, fragments = BAD_LISTS[kind]
    build(root)
    with pytest.raises(InputError) as caught:
        preflight(root)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_an_empty_label_is_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    trees.write_label(root / SEG, 0)
    assert [problem.severity for problem in preflight(root)] == ["warning"]
    for fragment in ("warning", SEG, "label is empty", "check that it belongs to this scan"):
        assert fragment in caplog.text


def test_unknown_orientation_is_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (T1, T2, FLAIR, SEG):
        with_affine(root / name, np.eye(4), sform_code=0)
    assert [problem.severity for problem in preflight(root)] == ["warning"] * 4
    for fragment in (T1, "neither qform nor sform", "take the header from the original scan"):
        assert fragment in caplog.text


def test_header_that_contradicts_its_affine_is_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (T1, T2, FLAIR, SEG):
        with_affine(root / name, np.diag([1, 1, 3, 1]))
    assert [problem.severity for problem in preflight(root)] == ["warning"] * 4
    for fragment in (T1, "header says 1 x 1 x 1 mm a voxel, its affine 1 x 1 x 3 mm", "write the header again"):
        assert fragment in caplog.text


def test_intensities_that_a_network_without_normalisation_does_not_expect(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def warned(bright: tuple[float, float] | None) -> list[str]:
        cases = check_training(root, "datalist.json", MODALITIES, (0, 1), bright=bright, progress=False)
        assert {problem.severity for problem in cases} <= {"warning"}
        return [Path(problem.file).name for problem in cases]

    voxels(root / T1, lambda a: np.multiply(a, 0.25, out=a))  # the others go up to 1000
    voxels(root / T2, lambda a: np.multiply(a, 0.1, out=a))
    assert warned(None) == []
    assert T1 not in warned((128, 300))
    assert T2 in warned((128, 300))
    assert len(warned((128, 300))) == 8
    percentile = float(np.percentile(nibabel.load(root / T2).get_fdata(), 99.9))
    for fragment in (f"99.9th percentile is {percentile:.4g}", "divides by 255", "expects 128 to 300"):
        assert fragment in caplog.text
    assert "--intensity percentile or --intensity zscore" in caplog.text
    found = check_inference(root, "datalist.json", MODALITIES, bright=(128, 300), progress=False)
    assert [problem.severity for problem in found] == ["warning"] * 3


def test_patch_larger_than_the_volume_is_a_warning(root: Path) -> None:
    def warned(patch: tuple[int, ...], spacing: tuple[float, ...] | None = None) -> list[str]:
        found = check_training(root, "datalist.json", MODALITIES, (0, 1), patch, spacing=spacing, progress=False)
        return [problem.found for problem in found]

    assert warned((6, 7, 8)) == []
    assert warned((6, 7, 9)) == ["6x7x8 voxels, smaller than the patch 6x7x9"] * 3
    assert warned((12, 7, 8), spacing=(0.5, 1, 1)) == []
    assert warned((6, 7, 8), spacing=(1, 1, 2)) == ["6x7x4 voxels, smaller than the patch 6x7x8"] * 3


def test_every_problem_is_told_at_once(root: Path) -> None:
    (root / T2).unlink()
    cut(root / "a2_FLAIR.nii.gz", 0.5)
    trees.write_label(root / "b1_seg.nii.gz", 1, 2)
    with pytest.raises(InputError) as caught:
        preflight(root)
    lines = str(caught.value).splitlines()
    assert "3 errors, 0 warnings" in lines[0]
    assert [any(name in line for line in lines[2:]) for name in (T2, "a2_FLAIR.nii.gz", "b1_seg.nii.gz")] == [True] * 3
    listed(root, training=[{"label": 1}, 2], val=[])
    with pytest.raises(InputError, match="4 faults"):
        preflight(root)


def test_affine_tolerance(root: Path) -> None:
    trees.write_scan(root / T2, 5, affine=SHIFTED)
    assert check_training(root, "datalist.json", MODALITIES, (0, 1), affine_tolerance_mm=3, progress=False) == []


def test_one_4d_file_counts_as_all_modalities(root: Path) -> None:
    four_d(root, 3)
    assert preflight(root) == []


def test_inference_needs_no_label_and_evaluation_does(root: Path) -> None:
    assert check_inference(root, "datalist.json", MODALITIES, progress=False) == []
    with pytest.raises(InputError, match=r"testing\[0\] has no 'label'"):
        check_inference(root, "datalist.json", MODALITIES, (0, 1), progress=False)
    (root / "c1_T2.nii.gz").unlink()
    with pytest.raises(InputError, match=r"c1_T2.nii.gz *does not exist"):
        check_inference(root, "datalist.json", 3, progress=False)


def test_an_empty_label_is_no_problem_in_an_evaluation(root: Path) -> None:
    trees.write_label(root / "c1_seg.nii.gz", 0)
    listed(root, testing=[good_case("c1")])
    assert check_inference(root, "datalist.json", MODALITIES, (0, 1), progress=False) == []


def test_sections_are_absolute_and_keep_other_keys(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(root, training=[{**good_case("a1"), "scanner": "X"}, {**good_case("a2"), "image": "a2_T1.nii.gz"}])
    monkeypatch.chdir(root.parent)
    cases = load_section(root.name, "datalist.json", "training")
    assert cases[0] == {
        "image": [str(root / name) for name in (T1, T2, FLAIR)],
        "label": str(root / SEG),
        "scanner": "X",
    }
    assert cases[1]["image"] == [str(root / "a2_T1.nii.gz")]
    assert "label" not in load_section(root, "datalist.json", "training", labelled=False)[0]
    assert set(read_datalist(root)) == {"training", "validation", "testing"}
    with pytest.raises(InputError, match="section 'train' is unknown: use one of training"):
        load_section(root, "datalist.json", "train")


def test_overlap_on_purpose(root: Path) -> None:
    listed(root, validation=[good_case("a1")], overlap_allowed=True)
    assert preflight(root) == []


def test_a_list_elsewhere_is_relative_to_the_folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("lists") / "mine.json"
    elsewhere.write_text(json.dumps({"testing": [{"image": T1}]}))
    assert load_section(root, elsewhere, "testing", labelled=False) == [{"image": [str(root / T1)]}]
