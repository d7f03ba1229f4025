# SPDX-License-Identifier: Apache-2.0
"""The viewer's volumes: what is where in the body, its values, and the size; and where the viewer looks."""

from __future__ import annotations

import base64
import gzip

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine

from custom_nets.errors import InputError
from custom_nets.report.case_volumes import CaseVolumes
from custom_nets.report.embedding import embedded_volumes
from custom_nets.report.focus import focus_points

AFFINE = np.array([[1.0, 0.1, 0.0, -40.0], [-0.1, 1.0, 0.0, -50.0], [0.0, 0.0, 3.0, 20.0], [0.0, 0.0, 0.0, 1.0]])
PLACES = np.array([0, 0, 0, 1, 0, 0, 0, 2], dtype=np.uint8)  # labels 3 and 7


def volumes(noise: float = 20.0) -> CaseVolumes:
    """A body with two structures, and air around it."""
    image = np.full((60, 50, 24), np.nan, dtype=np.float32)
    image[8:50, 6:44, 2:22] = np.random.default_rng(0).normal(100, noise, (42, 38, 20))
    labels = np.zeros(image.shape, dtype=np.int32)
    labels[10:31, 10:31, 5:14], labels[34:46, 30:42, 10:20] = 3, 7
    uncertainty = (labels == 7).astype(np.float32) * 0.3
    return CaseVolumes(image, (60.0, 140.0), labels, labels, uncertainty, AFFINE, [])


def read(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def centre(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return np.asarray(apply_affine(affine, np.argwhere(values).mean(axis=0)))


@pytest.mark.parametrize("most", [10**7, 20_000, 4_000])
def test_structures_stay_where_they_are_and_files_fit(most: int) -> None:
    case = volumes()
    made = embedded_volumes(case, PLACES, most)
    assert made.size <= most
    assert (max(made.factors) > 1) == (most < 10**7)
    shapes = {read(text).shape for text in (made.image, made.prediction, made.reference, made.uncertainty)}
    assert len(shapes) == 1
    voxel = max(made.spacing)
    for label, place in ((3, 1), (7, 2)):
        found = read(made.prediction)
        moved = centre(np.asarray(found.dataobj) == place, found.affine) - centre(case.segmentation == label, AFFINE)
        assert np.abs(moved).max() <= 0.51 * voxel
    grey = read(made.image)
    assert (
        np.abs(centre(np.asarray(grey.dataobj) > 60, grey.affine) - centre(np.isfinite(case.image), AFFINE)).max()
        < voxel
    )


def test_values_of_whole_volumes() -> None:
    case = volumes()
    made = embedded_volumes(case, PLACES, 10**7)
    grey, labels, spread = (np.asarray(read(text).dataobj) for text in (made.image, made.prediction, made.uncertainty))
    assert grey.dtype == labels.dtype == spread.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1, 2}
    body = tuple(slice(low, high) for low, high in ((8, 50), (6, 44), (2, 22)))
    stored = grey[2:-2, 2:-2, 2:-2]
    assert stored.shape == case.image[body].shape
    assert stored.min() == 1 and stored.max() == 255
    assert not grey[:2].any()
    assert np.corrcoef(stored.ravel(), case.image[body].clip(60, 140).ravel())[0, 1] > 0.999
    assert made.uncertainty_highest == pytest.approx(0.3)
    assert (spread == np.where(labels == 2, 255, 0)).all()


def test_finest_axis_is_reduced_first() -> None:
    factors = embedded_volumes(volumes(), PLACES, 40_000).factors
    assert factors[2] == 1 and factors[0] > 1


def test_volumes_that_cannot_be_made_small_enough_are_refused() -> None:
    with pytest.raises(InputError, match="raise --page_mb"):
        embedded_volumes(volumes(), PLACES, 100)


def test_viewer_looks_inside_the_largest_part_of_a_structure() -> None:
    labels = np.zeros((30, 30, 30), dtype=np.int32)
    labels[2:4, 2:4, 2:4] = 1
    labels[20:25, 10:15, 10:15] = 1
    ring = np.hypot(*np.mgrid[-10:11, -10:11])
    labels[4:25, 4:25, 27] = np.where((ring > 7) & (ring < 10), 5, 0)
    points = focus_points(labels, AFFINE)
    assert set(points) == {1, 5}
    assert np.allclose(points[1], apply_affine(AFFINE, (22, 12, 12)), atol=0.01)
    voxel = np.rint(apply_affine(np.linalg.inv(AFFINE), points[5])).astype(int)
    assert labels[tuple(voxel)] == 5
