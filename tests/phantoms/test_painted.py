# SPDX-License-Identifier: Apache-2.0
"""Lesion masks painted into a healthy head."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from custom_nets.datasets import read_datalist
from custom_nets.errors import InputError
from custom_nets.phantoms import make_case
from custom_nets.phantoms.painted import Host, measured_host, paint_case, paint_infarct
from custom_nets.phantoms.painted_dataset import write_painted


@cache
def host() -> Host:
    made = make_case("rsanet", 3, 3.0)
    return measured_host(made.images["T1"], made.affine)


def ball(middle: tuple[int, int, int] = (33, 34, 32), radius: float = 6) -> NDArray[np.bool_]:
    index = np.indices(host().voxels.shape)
    return np.sqrt(sum((axis - at) ** 2 for axis, at in zip(index, middle, strict=True))) <= radius


def test_the_levels_of_the_tissues_are_found() -> None:
    found, image = host(), host().voxels
    assert found.fluid < 0.45 * found.white
    assert 0.6 * found.white < found.grey < 0.95 * found.white
    assert found.white == pytest.approx(np.percentile(image[image > 0], 80), rel=0.1)
    assert found.head[image > 0].mean() > 0.97


@pytest.mark.parametrize("seed", [0, 1])
def test_without_variation_nothing_but_the_lesion_changes(seed: int) -> None:
    made = paint_case(host(), ball(), np.random.default_rng(seed), vary=False)
    assert np.array_equal(made.label, ball() & host().head)
    assert np.array_equal(made.affine, host().affine)
    factor = 255 / np.percentile(host().voxels, 99.9)
    far = ndimage.distance_transform_edt(~ball()) * 3 > 4  # mm
    assert np.abs(made.images["T1"] - host().voxels * factor)[far].max() <= 0.5 + 1e-3
    assert (made.images["T1"] <= host().voxels * factor + 0.5).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_cavity_is_like_fluid_and_the_rim_is_grey(seed: int) -> None:
    image, distance = paint_infarct(host(), ball(radius=8), np.random.default_rng(seed)), ball_depth(8)
    assert np.median(image[distance > 15]) < 0.5 * (host().fluid + host().grey)
    assert np.median(image[distance > 15]) > 0.8 * host().fluid
    rim = image[(distance > 0) & (distance <= 3) & (host().voxels > host().grey)]
    assert np.median(image[distance > 15]) < np.median(rim) < host().white


def ball_depth(radius: float) -> NDArray[np.float64]:
    return ndimage.distance_transform_edt(ball(radius=radius) & host().head) * 3.0


def test_a_mask_is_clipped_to_the_head_and_refused_outside() -> None:
    edge = paint_case(host(), ball((46, 32, 32), 8), np.random.default_rng(0), vary=False)
    assert 0 < edge.label.sum() < ball((46, 32, 32), 8).sum()
    assert not edge.images["T1"][~host().head & (host().voxels == 0)].any()
    with pytest.raises(InputError, match="no voxel of the mask lies in the head"):
        paint_case(host(), ball((1, 1, 1), 1), np.random.default_rng(0))


def test_cases_of_one_host_differ_and_keep_scale_and_volume() -> None:
    made = [paint_case(host(), ball(), np.random.default_rng(seed)) for seed in range(6)]
    middles = [ndimage.center_of_mass(case.label)[0] for case in made]
    assert {middle > 25 for middle in middles} == {True, False}  # some are flipped left to right
    for case in made:
        assert case.label.sum() == pytest.approx(ball().sum(), rel=0.2)
        assert 225 <= np.percentile(case.images["T1"], 99.9) <= 285
        lesion = case.images["T1"][case.label > 0]
        assert np.median(lesion) < 0.75 * np.percentile(case.images["T1"][case.images["T1"] > 0], 75)
        assert (case.images["T1"] == 0).mean() > 0.5  # background stays empty
    again = paint_case(host(), ball(), np.random.default_rng(5))
    assert np.array_equal(again.images["T1"], made[5].images["T1"])


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_an_image_without_a_head_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="give a T1 of a healthy head"):
        measured_host(np.full((20, 20, 20), value), np.eye(4))


def save(path: Path, voxels: NDArray[np.generic], affine: NDArray[np.float64] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(voxels, host().affine if affine is None else affine).to_filename(path)
    return path


@pytest.fixture
def material(tmp_path: Path) -> tuple[Path, Path]:
    """An image, and a folder of four masks."""
    image = save(tmp_path / "t1.nii.gz", np.float32(host().voxels))
    for number in range(4):
        save(tmp_path / "masks" / f"m{number}.nii.gz", np.uint8(ball((33, 26 + 4 * number, 32))))
    return image, tmp_path / "masks"


def test_a_data_set_in_the_form_of_the_house(material: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = (
        write_painted(*material, tmp_path / name, cases=4, seed=1, validation=1, testing=1).parent for name in "ab"
    )
    sections = read_datalist(first)
    assert {name: len(cases) for name, cases in sections.items()} == {"training": 2, "validation": 1, "testing": 1}
    for path in sorted(first.iterdir()):
        assert path.read_bytes() == (second / path.name).read_bytes()
    case = sections["training"][0]
    image, label = (nib.Nifti1Image.from_filename(path) for path in (case["image"][0], case["label"]))
    assert np.allclose(image.affine, host().affine)
    assert np.array_equal(image.affine, label.affine)
    assert set(np.unique(label.dataobj)) == {0, 1}
    with pytest.raises(InputError, match="another data set"):
        write_painted(*material, first, cases=3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cases": 5}, "holds 4 masks .* too few for 5 cases"),
        ({"cases": 0}, "cases is 0"),
        ({"cases": 3, "seed": -1}, "seed is -1"),
        ({"cases": 3, "testing": 1.5}, "testing is 1.5"),
        ({"cases": 3, "validation": 2, "testing": 1}, "3 cases with 2 for validation and 1 for testing leave none"),
    ],
)
def test_bad_options_write_nothing(
    material: tuple[Path, Path], tmp_path: Path, options: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        write_painted(*material, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def break_mask(masks: Path, fault: str) -> None:
    voxels, affine = np.float32(ball()), host().affine.copy()
    if fault == "shape":
        voxels = voxels[:-1]
    elif fault == "affine":
        affine[0, 3] += 5
    elif fault == "empty":
        voxels[:] = 0
    elif fault == "nan":
        voxels[0, 0, 0] = np.nan
    elif fault == "values":
        voxels[0, 0, 0] = 3
    save(masks / "m2.nii.gz", voxels, affine)
    if fault == "damaged":
        (masks / "m2.nii.gz").write_bytes(b"no gzip")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("shape", "is not that of"),
        ("affine", "its affine differs"),
        ("empty", "the mask is empty"),
        ("nan", "NaN or infinite"),
        ("values", "give a mask of 0 and 1"),
        ("damaged", "gzip"),
    ],
)
def test_a_bad_mask_is_named_before_anything_is_written(
    material: tuple[Path, Path], tmp_path: Path, fault: str, words: str
) -> None:
    break_mask(material[1], fault)
    with pytest.raises(InputError, match=f"m2.nii.gz.*{words}"):
        write_painted(*material, tmp_path / "out", cases=4)
    assert not (tmp_path / "out").exists()


def test_a_bad_image_is_named(material: tuple[Path, Path], tmp_path: Path) -> None:
    image, masks = material
    with pytest.raises(InputError, match=r"nowhere.nii.gz: does not exist"):
        write_painted(tmp_path / "nowhere.nii.gz", masks, tmp_path / "out", cases=3)
    with pytest.raises(InputError, match=r"mask_dir .* is not a folder"):
        write_painted(image, tmp_path / "nowhere", tmp_path / "out", cases=3)
    voxels = host().voxels.copy()
    voxels[0, 0, :2] = np.nan
    save(image, voxels)
    with pytest.raises(InputError, match=r"t1.nii.gz: 2 voxels are NaN"):
        write_painted(image, masks, tmp_path / "out", cases=3)
    save(image, np.stack([host().voxels] * 2, axis=-1))
    with pytest.raises(InputError, match="one T1 with three axes"):
        write_painted(image, masks, tmp_path / "out", cases=3)
