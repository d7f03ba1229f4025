# SPDX-License-Identifier: Apache-2.0
"""Mean and deviation of slices: the golden numbers, the geometry of volumes, the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from custom_nets.datasets import load_section
from custom_nets.errors import InputError
from custom_nets.slices.preparation import SlicePreparation
from custom_nets.slices.statistics import dataset_statistics, intensity_statistics
from custom_nets.spine.statistics import crop_statistics
from tests.datasets import trees
from tests.golden import draw
from tests.recipe import arrays, document
from tools._command import run
from tools.intensity_statistics import main

GOLDEN = document("s2anet")["preprocessing"]["mean_std"]


def golden_volume(root: Path) -> list[dict[str, Any]]:
    """The golden slices as a thick axial volume on disk, stored so that axes have to be swapped and turned."""
    salt = document("s2anet")["salt"]
    slices = np.round(200 + 80 * draw("volume", (4, 10, 12), salt)).astype(np.int16)  # S, P, L
    stored = slices.transpose(1, 2, 0)[:, ::-1]  # P, R, S
    affine = np.array([[0, 0.7, 0, 0], [-0.7, 0, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1]])
    return [{"image": [str(trees.write_voxels(root / "volume.nii.gz", stored, affine))]}]


def test_golden_statistics() -> None:
    mean, std = intensity_statistics(arrays("s2anet")["prep_pil_nearest"])
    np.testing.assert_array_equal(np.round(mean, 4), GOLDEN["per_channel_mean"])
    np.testing.assert_array_equal(np.round(std, 4), GOLDEN["per_channel_std"])


def test_golden_statistics_of_a_file(tmp_path: Path) -> None:
    measured = dataset_statistics(golden_volume(tmp_path), SlicePreparation((16, 16)), progress=False)
    np.testing.assert_array_equal(np.round(measured.mean, 4), GOLDEN["per_channel_mean"])
    np.testing.assert_array_equal(np.round(measured.std, 4), GOLDEN["per_channel_std"])
    assert (measured.windows, measured.black) == (4, 0)


def test_the_deviation_is_not_pooled() -> None:
    images = np.stack([np.full((1, 4, 4), 10), np.full((1, 4, 4), 200)]).astype(np.uint8)
    mean, std = intensity_statistics(images)
    assert mean == pytest.approx([105 / 255])
    assert std == pytest.approx([0])


def test_no_image() -> None:
    with pytest.raises(InputError, match="no slice to measure"):
        intensity_statistics([])


def gradient(root: Path, spacing: tuple[float, float, float]) -> list[dict[str, Any]]:
    """A volume in R, A, S whose voxels tell where they are: 100 i + 10 j + k."""
    i, j, k = np.indices((4, 5, 6))
    path = trees.write_voxels(root / "g.nii.gz", (100 * i + 10 * j + k).astype(np.int16), np.diag([*spacing, 1]))
    return [{"image": [str(path)]}]


@pytest.mark.parametrize(
    ("spacing", "plane", "slices"),
    [
        ((1, 1, 5), "auto", 6),
        ((1, 5, 1), "auto", 5),
        ((5, 1, 1), "auto", 4),
        ((1, 1, 1), "auto", 6),
        ((5, 1, 5), "auto", 6),
        ((1, 1, 5), "coronal", 5),
        ((1, 1, 5), "sagittal", 4),
        ((5, 1, 1), "axial", 6),
    ],
)
def test_slices_are_those_of_the_plane(
    tmp_path: Path, spacing: tuple[float, float, float], plane: str, slices: int
) -> None:
    cases = gradient(tmp_path, spacing)
    measured = dataset_statistics(cases, SlicePreparation(), slices=1, plane=plane, progress=False)
    assert measured.windows == slices
    assert len(measured.mean) == 1


def test_windows_repeat_the_ends_and_black_slices_are_counted(tmp_path: Path) -> None:
    voxels = np.zeros((2, 2, 3), np.int16)
    voxels[0, 0, 0], voxels[..., 1] = 7, 5  # means of the scaled slices: 1/4, 0, 0
    cases = [{"image": [str(trees.write_voxels(tmp_path / "a.nii.gz", voxels, np.diag([1, 1, 5, 1])))]}]
    measured = dataset_statistics(cases, SlicePreparation(), progress=False)
    assert measured.mean == pytest.approx([1 / 6, 1 / 12, 0])
    assert measured.black == 2
    wide = dataset_statistics(cases, SlicePreparation(), slices=5, progress=False)
    assert wide.mean == pytest.approx([3 / 12, 2 / 12, 1 / 12, 0, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"slices": 2}, "slices is 2: give an odd number"), ({"plane": "oblique"}, r"plane is 'oblique': .*axial")],
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataset_statistics(gradient(tmp_path, (1, 1, 5)), SlicePreparation(), progress=False, **options)


def test_volumes_that_cannot_be_measured(tmp_path: Path) -> None:
    cases = gradient(tmp_path, (1, 1, 5))
    trees.write_voxels(tmp_path / "4d.nii.gz", np.ones((2, 2, 2, 2), np.int16))
    for images, message in (
        (cases[0]["image"] * 2, "a case of 2 images"),
        ([str(tmp_path / "4d.nii.gz")], "4d.nii.gz: 4D"),
        ([str(tmp_path / "gone.nii.gz")], "gone.nii.gz: does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            dataset_statistics([{"image": images}], SlicePreparation(), progress=False)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden_volume(tmp_path)
    trees.write_datalist(tmp_path, training=[{"image": "volume.nii.gz", "label": "volume.nii.gz"}])
    run(main, [str(tmp_path), "--size=16,16"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 volumes, 4 slices, 0 of them black"
    assert [line.split() for line in lines[1:5]] == [
        ["slice", "mean", "std"],
        *(
            [offset, f"{mean:.4f}", f"{std:.4f}"]
            for offset, mean, std in zip(
                ("-1", "0", "+1"), GOLDEN["per_channel_mean"], GOLDEN["per_channel_std"], strict=True
            )
        ),
    ]
    assert lines[5] == "--intensity_mean 0.4780 --intensity_std 0.1912"
    run(main, [str(tmp_path), "--size=16", "--slices=1"])
    assert capsys.readouterr().out.splitlines()[-1] == lines[5]
    run(main, [str(tmp_path), "--size=None", "--plane=coronal", "--intensity=percentile"])
    assert "10 slices" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size=16,16,16"], "size is [16, 16, 16]"),
        (["--intensity=max"], "intensity is 'max'"),
        (["--section=validation"], "has no 'validation' cases"),
        (["--slices=4"], "slices is 4"),
        (["--slices=three"], "slices is 'three': give a whole number"),
    ],
)
def test_wrong_command_lines(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    golden_volume(tmp_path)
    trees.write_datalist(tmp_path, training=[{"image": "volume.nii.gz", "label": "volume.nii.gz"}])
    with pytest.raises(SystemExit) as stop:
        run(main, [str(tmp_path), *options])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error


def spines(root: Path) -> np.ndarray:
    """Two scans, one stored I, P, L as int16 and the other R, A, S; the voxels of their central halves."""
    one, other = (np.rint(466 + 379 * draw(f"spine{n}", shape)) for n, shape in enumerate([(5, 14, 6), (4, 9, 7)]))
    turned = one.transpose(2, 1, 0)[::-1, ::-1, ::-1].astype(np.int16)
    affine = np.array([[0, 0, -4.4, 0], [0, -0.7, 0, 0], [-0.7, 0, 0, 0], [0, 0, 0, 1]])
    trees.write_voxels(root / "one.nii.gz", turned, affine)
    trees.write_voxels(root / "other.nii.gz", other.astype(np.float32), np.diag([4.4, 0.7, 0.7, 1]))
    trees.write_datalist(root, training=[{"image": f"{n}.nii.gz", "label": f"{n}.nii.gz"} for n in ("one", "other")])
    return np.concatenate([one[:, 3:11].ravel(), other[:, 2:7].ravel()])  # int(14 / 4) = 3, int(9 / 4) = 2


def test_constants_of_spines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voxels = spines(tmp_path)
    measured = crop_statistics(load_section(tmp_path), progress=False)
    assert (measured.mean, measured.std) == pytest.approx((voxels.mean(), voxels.std()), rel=1e-12)
    sizes = (240, 140)
    assert sum(n * mean for n, (mean, _) in zip(sizes, measured.of_case, strict=True)) / 380 == pytest.approx(
        measured.mean
    )
    run(main, [str(tmp_path), "--bundle=spineparsenet"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 volumes, whose means lie between ")
    assert lines[1] == f"--intensity_mean {voxels.mean():.4f} --intensity_std {voxels.std():.4f}"
    run(main, [str(tmp_path), "--bundle=spineparsenet", "--crop_share=1"])
    assert capsys.readouterr().out.splitlines()[1] != lines[1]


def test_the_deviation_of_spines_is_pooled(tmp_path: Path) -> None:
    """Two constant scans have no deviation each, but together; far from 0 it does not cancel."""
    cases = []
    for number, value in enumerate((1e8, 1e8 + 2)):
        voxels = np.full((2, 4, 2), value, np.float64)
        cases.append({"image": [str(trees.write_voxels(tmp_path / f"{number}.nii.gz", voxels))]})
    measured = crop_statistics(cases, progress=False)
    assert measured.mean == 1e8 + 1
    assert measured.std == pytest.approx(1, rel=1e-9)
    assert [std for _, std in measured.of_case] == [0, 0]


def test_spines_that_cannot_be_measured(tmp_path: Path) -> None:
    trees.write_voxels(tmp_path / "nan.nii.gz", np.full((2, 4, 2), np.nan, np.float32))
    trees.write_voxels(tmp_path / "4d.nii.gz", np.ones((2, 4, 2, 2), np.int16))
    trees.write_voxels(tmp_path / "ok.nii.gz", np.ones((2, 4, 2), np.int16))
    for images, share, message in (
        (["nan.nii.gz"], 0.5, "nan.nii.gz: has NaN or infinite voxels"),
        (["4d.nii.gz"], 0.5, "4d.nii.gz: 4D"),
        (["ok.nii.gz", "ok.nii.gz"], 0.5, "a case of 2 images"),
        (["ok.nii.gz"], 1.5, "crop_share is 1.5"),
    ):
        with pytest.raises(InputError, match=message):
            crop_statistics([{"image": [str(tmp_path / name) for name in images]}], share, progress=False)
    with pytest.raises(InputError, match="no volume to measure"):
        crop_statistics([], progress=False)


def test_other_bundles_have_no_constants(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spines(tmp_path)
    with pytest.raises(SystemExit):
        run(main, [str(tmp_path), "--bundle=rsanet"])
    assert "bundle is 'rsanet': only s2anet and spineparsenet" in capsys.readouterr().err
