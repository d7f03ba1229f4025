# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from custom_nets.errors import InputError
from custom_nets.volume_plan.scans import Grid, read_grids, read_scans
from custom_nets.volume_plan.survey import describe, survey
from tests.volume_plan.masks import as_scans, block

MASK = block((10, 12, 14), (1, 2, 3), (3, 4, 5))
AFFINE = np.array([[1.0, 0, 0, -5], [0, 2.0, 0, -7], [0, 0, 3.0, -9], [0, 0, 0, 1]])


def written(path: Path, axes: str, values: np.ndarray = MASK) -> dict[str, str]:
    ras, wanted = (nibabel.orientations.axcodes2ornt(tuple(codes)) for codes in ("RAS", axes))
    image = nibabel.Nifti1Image(values.astype(np.int16), AFFINE)
    nibabel.save(image.as_reoriented(nibabel.orientations.ornt_transform(ras, wanted)), path)
    return {"case": path.name, "label": str(path)}


@pytest.mark.parametrize("axes", ["RAS", "LPS", "ASL", "SLP", "IRA"])
def test_every_orientation_gives_the_same_scan(tmp_path: Path, axes: str) -> None:
    case = written(tmp_path / "label.nii.gz", axes)
    (grid,), (scan,) = read_grids([case]), read_scans([case])
    assert np.array_equal(scan.mask, MASK)
    assert grid.same_as(scan.grid)
    assert grid.same_as(Grid((10, 12, 14), AFFINE))
    assert grid.spacing == (1.0, 2.0, 3.0)


def test_any_positive_value_is_lesion_and_a_last_axis_of_one_is_dropped(tmp_path: Path) -> None:
    values = MASK * np.where(np.indices(MASK.shape)[0] == 2, 255, 3)
    case = {"case": "a", "label": str(tmp_path / "a.nii")}
    nibabel.save(nibabel.Nifti1Image(values[..., None].astype(np.int16), AFFINE), case["label"])
    (scan,) = read_scans([case])
    assert np.array_equal(scan.mask, MASK)


def test_grids_differ_by_shape_or_affine() -> None:
    grid = Grid((10, 12, 14), AFFINE)
    moved = AFFINE + 0.5 * np.eye(4)[:, [3, 0, 1, 2]].T
    assert not grid.same_as(Grid((10, 12, 15), AFFINE))
    assert not grid.same_as(Grid((10, 12, 14), moved))


def test_lesions_of_a_scan(tmp_path: Path) -> None:
    (scan,) = read_scans([written(tmp_path / "a.nii.gz", "LPS", MASK | block(MASK.shape, (9, 11, 13), (1, 1, 1)))])
    lesions = describe(scan)
    assert (lesions.voxels, lesions.components) == (61, 2)
    assert lesions.volume_ml == pytest.approx(61 * 6 / 1000)
    assert (lesions.first, lesions.last) == ((1, 2, 3), (9, 11, 13))
    assert lesions.centroid == pytest.approx(np.argwhere(scan.mask).mean(axis=0))


def test_all_broken_labels_are_named_at_once(tmp_path: Path) -> None:
    good = written(tmp_path / "good.nii.gz", "RAS")
    (tmp_path / "text.nii.gz").write_text("no scan")
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 3, 3, 2), np.uint8), AFFINE), tmp_path / "two.nii.gz")
    cases = [good, *({"case": name, "label": str(tmp_path / f"{name}.nii.gz")} for name in ("text", "two", "gone"))]
    with pytest.raises(InputError, match="3 errors") as caught:
        read_grids(cases, tmp_path)
    for found in ("gone.nii.gz", "does not exist", "not gzip-compressed", "shape (3, 3, 3, 2), not one volume"):
        assert found in str(caught.value)


def test_a_singular_affine_is_refused(tmp_path: Path) -> None:
    case = {"case": "a", "label": str(tmp_path / "a.nii")}
    image = nibabel.Nifti1Image(MASK.astype(np.uint8), AFFINE)
    image.set_sform(np.diag([1.0, 1, 0, 1]), 1, update_affine=True)
    image.to_filename(case["label"])
    with pytest.raises(InputError, match="singular affine"):
        read_grids([case])


def test_a_cut_file_is_named_when_its_voxels_are_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2, (40, 40, 40))
    case = written(tmp_path / "a.nii.gz", "RAS", values)
    whole = Path(case["label"]).read_bytes()
    Path(case["label"]).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.nii\.gz: truncated or damaged gzip file.*copy or download it again"):
        list(read_scans([case]))


def test_scans_without_lesion_are_named_and_count_nowhere() -> None:
    empty = np.zeros_like(MASK)
    found = survey(as_scans([empty, MASK, empty]), [(4, 4, 4)], MASK.shape)
    assert found.without_lesion == ["case0", "case2"]
    assert len(found.lesions) == len(found.crops[(4, 4, 4)].scans) == 1
    assert found.occurrence is not None
    assert found.occurrence.share.max() == 1.0


def test_no_lesion_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="none of the 2 training labels has a voxel above 0"):
        survey(as_scans([np.zeros_like(MASK)] * 2), [(4, 4, 4)], None)
