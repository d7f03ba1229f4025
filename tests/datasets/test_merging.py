# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from custom_nets.datasets.mask_folders import MaskFolder, mask_folders, merge_folder, values_named
from custom_nets.datasets.merging import RULES, Overlap, merge_foreground, merge_masks, processing_order
from custom_nets.datasets.problems import Problem, errors_of
from custom_nets.errors import InputError
from tests.datasets import trees
from tests.golden import draw
from tests.recipe import document

AFFINE = np.array([[-0.7, 0, 0, 90], [0, 0.7, 0.1, -60], [0, -0.1, 6, -72], [0, 0, 0, 1]])
TABLE = {0: "background", 1: "Hip bone, left", 2: "Femur, left", 3: "Femur, right", 4: "Cervix"}
NAMES = {1: "hip_bone_left", 2: "Femur, left", 3: "right-femur"}


def golden_masks() -> tuple[list[np.ndarray], list[int], np.ndarray]:
    golden, salt = document("s2anet")["preprocessing"]["merge"], document("s2anet")["salt"]
    masks = [draw(f"merge{number}", (3, 5, 6), salt) > 0.4 for number in range(4)]
    return masks, golden["order_and_ids"], np.array(golden["label"])


def foreground(*runs: tuple[int, int]) -> dict[int, np.ndarray]:
    """Masks 1, 2 ... on a line, each from a first voxel to behind a last one."""
    return {number: np.arange(*run) for number, run in enumerate(runs, start=1)}


def write_masks(folder: Path, affine: Any = AFFINE, value: float = 1) -> dict[int, np.ndarray]:
    """Hip bone of 10 voxels, left femur of 6 that shares 2 with it, right femur of 4 that shares 1 with both."""
    masks = {}
    for number, run in {1: (0, 10), 2: (8, 14), 3: (9, 13)}.items():
        masks[number] = np.zeros(trees.SHAPE, bool)
        masks[number].reshape(-1)[slice(*run)] = True
        voxels = (masks[number] * value).astype(np.float32 if value % 1 else np.uint8)
        trees.write_voxels(folder / f"{NAMES[number]}.nii.gz", voxels, affine)
    return masks


def merged_voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nibabel.load(path).dataobj)


def found(problems: list[Problem]) -> str:
    return "\n".join(f"{Path(one.file).name}: {one.found} -> {one.advice}" for one in problems)


def test_the_golden_merge() -> None:
    masks, indices, expected = golden_masks()
    label = merge_masks(masks, indices)
    np.testing.assert_array_equal(label, expected)
    assert label.dtype == np.uint8
    assert not np.array_equal(merge_masks(masks[::-1], indices[::-1]), expected), "the order matters"


def test_the_published_formula() -> None:
    masks, indices, _ = golden_masks()
    occupied, label = np.zeros((3, 5, 6), int), np.zeros((3, 5, 6), int)
    for mask, value in zip(masks, indices, strict=True):
        new = mask * (1 - occupied)
        occupied += new
        label += value * new
    np.testing.assert_array_equal(merge_masks(masks, indices), label)


@pytest.mark.parametrize(("value", "dtype"), [(255, np.uint8), (256, np.int16), (32767, np.int16)])
def test_type_of_the_label_map(value: int, dtype: type) -> None:
    label = merge_masks([np.eye(2)], [value])
    assert label.dtype == dtype
    assert label.tolist() == [[value, 0], [0, value]]


def test_too_high_a_value() -> None:
    with pytest.raises(InputError, match="label value 32768 is too high"):
        merge_masks([np.eye(2)], [32768])


def test_overlaps_name_who_got_how_many() -> None:
    merged = merge_foreground((20,), foreground((0, 10), (8, 14), (9, 13), (15, 16)))
    assert merged.overlaps == [Overlap(2, 3, 3), Overlap(1, 2, 2), Overlap(1, 3, 1)]
    assert merged.claimed == {1: 10, 2: 6, 3: 4, 4: 1}
    assert merged.kept == {1: 10, 2: 4, 3: 0, 4: 1}


@pytest.mark.parametrize(
    ("rule", "preferred", "order"),
    [
        ("first", (), [1, 2, 3, 4]),
        ("first", (3, 9, 1), [3, 1, 2, 4]),
        ("error", (), [1, 2, 3, 4]),
        ("last", (), [4, 3, 2, 1]),
        ("last", (3,), [4, 2, 1, 3]),
        ("smallest", (), [2, 3, 4, 1]),
        ("smallest", (4, 3), [2, 4, 3, 1]),
        ("largest", (), [1, 3, 4, 2]),
        ("largest", (4,), [1, 4, 3, 2]),
    ],
)
def test_processing_order(rule: Any, preferred: tuple[int, ...], order: list[int]) -> None:
    assert processing_order({4: 5, 1: 9, 3: 5, 2: 1}, rule, preferred) == order


@pytest.mark.parametrize(
    ("rule", "shared", "kept"),
    [
        ("first", {8: 1, 9: 1, 10: 2, 12: 2}, {1: 10, 2: 4, 3: 0}),
        ("last", {8: 2, 9: 3, 10: 3, 12: 3}, {1: 8, 2: 2, 3: 4}),
        ("smallest", {8: 2, 9: 3, 10: 3, 12: 3}, {1: 8, 2: 2, 3: 4}),
        ("largest", {8: 1, 9: 1, 10: 2, 12: 2}, {1: 10, 2: 4, 3: 0}),
    ],
)
def test_a_folder_by_every_rule(tmp_path: Path, rule: Any, shared: dict[int, int], kept: dict[int, int]) -> None:
    masks = write_masks(tmp_path / "case")
    one = MaskFolder("case", tmp_path / "case", tmp_path / "out.nii.gz")
    done, problems = merge_folder(one, TABLE, rule)
    assert done is not None
    assert done.merged.kept == kept
    assert done.absent == [4]
    voxels = merged_voxels(one.output)
    assert voxels.dtype == np.uint8
    assert {index: int(voxels.reshape(-1)[index]) for index in shared} == shared
    np.testing.assert_array_equal(voxels > 0, masks[1] | masks[2] | masks[3])
    assert [problem.severity for problem in problems] == ["warning"] * (kept[3] == 0)
    assert "all 4 voxel(s) of 'Femur, right' went to other structures" in found(problems) or kept[3]


def test_error_rule_writes_nothing(tmp_path: Path) -> None:
    write_masks(tmp_path / "case")
    one = MaskFolder("case", tmp_path / "case", tmp_path / "out.nii.gz")
    done, problems = merge_folder(one, TABLE, "error")
    assert done is None
    assert len(errors_of(problems)) == 3
    assert "'Hip bone, left' and 'Femur, left' share 2 voxel(s)" in found(problems)
    assert [path.name for path in tmp_path.iterdir()] == ["case"]
    (tmp_path / "case" / "hip_bone_left.nii.gz").unlink()
    (tmp_path / "case" / "right-femur.nii.gz").unlink()
    assert merge_folder(one, TABLE, "error")[0] is not None


@pytest.mark.parametrize("value", [1, 255, 0.00392])
def test_geometry_is_that_of_the_masks(tmp_path: Path, value: float) -> None:
    write_masks(tmp_path / "case", value=value)
    one = MaskFolder("case", tmp_path / "case", tmp_path / "new" / "out.nii.gz")
    assert merge_folder(one, TABLE)[0] is not None
    written, mask = nibabel.load(one.output), nibabel.load(tmp_path / "case" / "right-femur.nii.gz")
    np.testing.assert_array_equal(written.affine, mask.affine)
    assert written.header.get_zooms() == mask.header.get_zooms()
    assert (written.header["sform_code"], written.header["qform_code"]) == (2, 0)
    assert sorted(path.name for path in one.output.parent.iterdir()) == ["out.nii.gz", "out_merge.json"]


#: What is done to a good mask, given its path, and what is then said.
SPOILT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "shape": (
        lambda mask: trees.write_label(mask, shape=(6, 7, 9), affine=AFFINE),
        "right-femur.nii.gz: shape (6, 7, 9), but Femur, left.nii.gz has (6, 7, 8)",
    ),
    "affine": (
        lambda mask: trees.write_label(mask, affine=np.eye(4)),
        "affine differs from Femur, left.nii.gz by up to",
    ),
    "an image": (lambda mask: trees.write_scan(mask, affine=AFFINE), "values besides 0 ("),
    "negative": (lambda mask: trees.write_label(mask, 3, -1, affine=AFFINE), "mask value -1"),
    "infinite": (
        lambda mask: trees.write_voxels(mask, np.full(trees.SHAPE, np.inf, np.float32), AFFINE),
        "mask value inf",
    ),
    "NaN": (lambda mask: trees.write_voxels(mask, np.full(trees.SHAPE, np.nan, np.float32), AFFINE), "mask value nan"),
    "4D": (lambda mask: trees.write_voxels(mask, np.ones((*trees.SHAPE, 2), np.uint8), AFFINE), "mask is 4D"),
    "truncated": (lambda mask: mask.write_bytes(mask.read_bytes()[:60]), "truncated"),
    "unknown": (
        lambda mask: mask.rename(mask.with_name("femur_rihgt.nii.gz")),
        "'femur_rihgt' is not in the label table -> rename it; the closest name there is 'Femur, right'",
    ),
    "twice": (
        lambda mask: trees.write_label(mask.with_name("FEMUR RIGHT.nii"), affine=AFFINE),
        "'Femur, right' has two masks, also FEMUR RIGHT.nii",
    ),
}


@pytest.mark.parametrize(("spoil", "expected"), list(SPOILT.values()), ids=list(SPOILT))
def test_unusable_masks(tmp_path: Path, spoil: Callable[[Path], Any], expected: str) -> None:
    write_masks(tmp_path / "case")
    spoil(tmp_path / "case" / "right-femur.nii.gz")
    done, problems = merge_folder(MaskFolder("case", tmp_path / "case", tmp_path / "out.nii.gz"), TABLE)
    assert done is None
    assert expected in found(errors_of(problems))
    assert not (tmp_path / "out.nii.gz").exists()


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    write_masks(tmp_path / "case")
    (tmp_path / "case" / "Femur, left.nii.gz").write_bytes(b"x")
    trees.write_label(tmp_path / "case" / "bladder.nii.gz")
    trees.write_label(tmp_path / "case" / "right-femur.nii.gz")
    _, problems = merge_folder(MaskFolder("case", tmp_path / "case", tmp_path / "out.nii.gz"), TABLE)
    assert len(problems) == 3
    assert "affine differs from hip_bone_left.nii.gz" in found(problems), "the first mask that can be read"


def test_an_empty_mask_is_a_warning(tmp_path: Path) -> None:
    write_masks(tmp_path / "case")
    trees.write_label(tmp_path / "case" / "cervix.nii.gz", 0, affine=AFFINE)
    done, problems = merge_folder(MaskFolder("case", tmp_path / "case", tmp_path / "out.nii.gz"), TABLE, "last")
    assert done is not None
    assert done.absent == []
    assert [(problem.severity, problem.found) for problem in problems] == [("warning", "no foreground voxel")]


def test_one_case_or_many(tmp_path: Path) -> None:
    write_masks(tmp_path / "split" / "1")
    write_masks(tmp_path / "split" / "2")
    (tmp_path / "split" / "notes").mkdir()
    (tmp_path / "split" / "class.txt").write_text("Cervix:1")
    one = mask_folders(tmp_path / "split" / "1", tmp_path / "one.nii.gz")
    assert one == [MaskFolder("1", tmp_path / "split" / "1", tmp_path / "one.nii.gz")]
    out = tmp_path / "split" / "out"
    many = mask_folders(tmp_path / "split", out)
    assert [(folder.case, folder.output) for folder in many] == [("1", out / "1.nii.gz"), ("2", out / "2.nii.gz")]
    trees.write_label(out / "1.nii.gz")
    assert mask_folders(tmp_path / "split", out) == many, "what an earlier call wrote is no case"
    inside = tmp_path / "split" / "1" / "merged.nii.gz"
    for _ in range(2):
        merged, problems = merge_folder(mask_folders(inside.parent, inside)[0], TABLE, "last")
        assert merged is not None, found(problems)


@pytest.mark.parametrize(
    ("masks", "output", "message"),
    [
        ("gone", "o.nii.gz", "is not a folder"),
        ("empty", "o.nii.gz", "no .nii or .nii.gz file in it"),
        ("split/1", "o", "is one case, so give a file name ending in .nii.gz"),
        ("split", "o.nii.gz", "holds 1 cases in folders, so give a folder"),
        ("mixed", "o", "holds masks, such as Femur, left.nii.gz, beside folders of masks, such as 1"),
    ],
)
def test_folders_that_do_not_fit(tmp_path: Path, masks: str, output: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("split/1", "mixed", "mixed/1"):
        write_masks(tmp_path / folder)
    with pytest.raises(InputError) as caught:
        mask_folders(tmp_path / masks, tmp_path / output)
    assert message in str(caught.value)


def test_values_of_names() -> None:
    assert values_named(["femur right", "CERVIX"], TABLE) == [3, 4]
    with pytest.raises(InputError, match=r"order: 'cervx' is not in the label table: .*'Cervix'"):
        values_named(["cervx"], TABLE)
    assert set(RULES) == {"first", "last", "largest", "smallest", "error"}
