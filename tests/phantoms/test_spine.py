# SPDX-License-Identifier: Apache-2.0
"""What a synthetic scan of a lumbar spine must look like."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray
from scipy import ndimage

from custom_nets.label_graphs.chains import mrspineseg
from custom_nets.phantoms import GENERATORS, PhantomCase, make_case, write_dataset
from custom_nets.phantoms.geometry import Grid
from custom_nets.phantoms.spine import labels_of
from custom_nets.phantoms.spine_anatomy import LumbarSpine
from custom_nets.phantoms.spine_curve import FIELD, ROOM, Curve, draw_curve
from custom_nets.phantoms.spine_levels import LABELLED, draw_levels
from custom_nets.phantoms.spine_scanner import ORIENTATIONS, stored
from custom_nets.registry import bundle

SEEDS = range(6)
GRAPH = mrspineseg()
VERTEBRAE = [GRAPH.labels[node].value for node in GRAPH.nodes("vertebra")]
DISCS = [GRAPH.labels[node].value for node in GRAPH.nodes("disc")]


@cache
def case(seed: int, spacing: float = 5.5) -> PhantomCase:
    """A case in the order left to right, back to front, from below upwards."""
    made = make_case("spineparsenet", seed, spacing)
    turned = {name: nib.as_closest_canonical(nib.Nifti1Image(v, made.affine)) for name, v in made.images.items()}
    label = nib.as_closest_canonical(nib.Nifti1Image(made.label, made.affine))
    images = {name: np.asarray(image.dataobj) for name, image in turned.items()}
    return PhantomCase(images, np.asarray(label.dataobj), label.affine)


def touching(label: NDArray[np.uint8]) -> set[tuple[int, int]]:
    """Pairs of labels, smaller first, that share a face of a voxel."""
    pairs = set()
    for axis in range(3):
        rows = np.moveaxis(label, axis, 0)
        both = np.stack([rows[:-1].ravel(), rows[1:].ravel()])
        both = np.sort(both[:, (both[0] != both[1]) & (both > 0).all(axis=0)], axis=0)
        pairs |= {(int(one), int(other)) for one, other in np.unique(both, axis=1).T}
    return pairs


def shown(label: NDArray[np.uint8]) -> int:
    """How many vertebrae the label map has."""
    return int(np.isin(VERTEBRAE, label).sum())


def test_the_default_grid_is_thick_sagittal_slices() -> None:
    made = make_case("spineparsenet", 0)
    assert GENERATORS["spineparsenet"].grid().shape == (12, 192, 256)
    assert sorted(made.label.shape) == [12, 192, 256]
    assert (made.images["T2"].dtype, made.label.dtype) == (np.int16, np.uint8)
    sizes = nib.affines.voxel_sizes(made.affine)
    slices = int(np.argmin(made.label.shape))
    assert sizes[slices] == pytest.approx(4.4)
    assert np.delete(sizes, slices) == pytest.approx([1.2, 1.2])
    assert aff2axcodes(made.affine)[slices] in "LR"


@pytest.mark.parametrize("spacing", [4.4, 5.5])
@pytest.mark.parametrize("seed", SEEDS)
def test_labels_are_the_chain_from_the_sacrum_as_far_as_the_field_shows(seed: int, spacing: float) -> None:
    label = case(seed, spacing).label
    count = shown(label)
    assert 7 <= count <= 10
    expected = {*VERTEBRAE[:count], *DISCS[: count - 1]}
    assert set(np.unique(label).tolist()) == {0, *expected}
    edges = {(GRAPH.labels[a].value, GRAPH.labels[b].value) for a, b in GRAPH.edges}
    assert touching(label) == {edge for edge in edges if set(edge) <= expected}


def test_how_far_up_the_field_shows_varies() -> None:
    # levels and curve are drawn first, so this is what cases show
    counts = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        levels = draw_levels(rng)
        curve = draw_curve(rng, levels)
        counts.append(1 + int((np.interp(levels.low, curve.along, curve.points[:, 1]) < FIELD[2] / 2).sum()))
    assert set(counts) == {7, 8, 9, 10}
    assert counts.count(10) < 15 < counts.count(8)


@pytest.mark.parametrize("seed", SEEDS)
def test_labels_follow_one_another_upwards(seed: int) -> None:
    label = case(seed).label
    middle = label.shape[0] // 2
    section = label[middle - 1 : middle + 1]
    count = shown(label)
    order = [value for pair in zip(VERTEBRAE, DISCS, strict=False) for value in pair][: 2 * count - 1]
    bodies = {}
    for value in order[:-1]:  # the uppermost is cut
        parts, number = ndimage.label(section == value)
        sizes = ndimage.sum_labels(section == value, parts, range(1, number + 1))
        bodies[value] = np.nonzero(parts == 1 + int(np.argmax(sizes)))  # without the spinous process
    height = [float(np.mean(bodies[value][2])) for value in order[:-1]]
    assert all(lower < upper for lower, upper in pairwise(height))
    front = [float(np.mean(bodies[value][1])) for value in order[:-1]]
    assert front[0] < max(front) - 3  # the sacrum leans back


def test_vertebrae_grow_downwards_and_have_arches() -> None:
    volumes = np.mean([np.bincount(case(seed).label.ravel(), minlength=20)[:20] for seed in SEEDS], axis=0)
    assert volumes[2:6].mean() > 1.15 * volumes[7]
    assert volumes[11:14].mean() > 1.3 * volumes[16]
    for seed in SEEDS:
        label = case(seed).label
        rows, heights = (np.nonzero((label == 13).any(axis=other))[0] for other in ((0, 2), (0, 1)))
        behind = label[:, : rows.min() - 12]  # the canal at the disc L3/L4
        assert (behind == 4).sum() > 20  # L3's arch
        assert not (behind[:, :, heights] >= 11).any()


@pytest.mark.parametrize("seed", range(12))
def test_everything_labelled_lies_in_the_central_half(seed: int) -> None:
    label = case(seed).label
    quarter = label.shape[1] // 4
    assert not label[:, :quarter].any()
    assert not label[:, label.shape[1] - quarter :].any()


@pytest.mark.parametrize("seed", range(30))
def test_the_spine_fits_into_its_room(seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = draw_levels(rng)
    curve = draw_curve(rng, levels)
    within = np.abs(curve.points[:, 1]) < FIELD[2] / 2
    assert np.ptp(curve.points[within, 0]) < ROOM
    assert 0.75 < curve.scale < 1.12
    assert 40 < FIELD[2] / 2 + np.interp(0, curve.along, curve.points[:, 1]) < 106  # the sacrum shown, mm
    assert np.abs(curve.sway).max() < 10


def test_curves_differ_from_case_to_case() -> None:
    slopes: list[float] = []
    sways: list[float] = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        curve = draw_curve(rng, draw_levels(rng))
        slopes.append(float(np.rad2deg(np.interp(0, curve.along, curve.angle))))
        sways.append(float(np.ptp(curve.sway)))
    assert float(np.std(np.array(slopes))) > 3
    assert 25 < sum(slopes) / 30 < 45
    assert max(sways) > 5 > 2 > min(sways)


def test_straightening_undoes_the_curve() -> None:
    angle = np.deg2rad(np.linspace(40, -20, 601))
    along = np.linspace(0, 300, 601)
    points = 0.9 * 0.5 * np.cumsum(np.stack([np.sin(angle), np.cos(angle)], axis=1), axis=0)
    curve = Curve(along, points, angle, 0.9, 0.02 * along)
    for forward in (-30.0, 0.0, 25.0):
        y, z = curve.behind(np.full(601, -forward))
        s, d = curve.straightened(np.float32(y), np.float32(z))
        assert np.abs(s - along)[5:-5].max() < 0.3
        assert np.abs(d - forward).max() < 0.05
    shift, growth = curve.lateral(np.array([100.0], np.float32))
    assert shift[0] == pytest.approx(2)
    assert growth[0] == pytest.approx(0.02 / 0.9)


def test_intensities_are_a_scanners() -> None:
    means, deviations = [], []
    for seed in SEEDS:
        image = case(seed).images["T2"]
        quarter = image.shape[1] // 4
        central = image[:, quarter : image.shape[1] - quarter]
        means.append(central.mean())
        deviations.append(central.std())
        assert 0 <= image.min() < 20
        assert 900 < image.max() <= 2650
    assert np.mean(means) == pytest.approx(466, rel=0.2)
    assert np.mean(deviations) == pytest.approx(400, rel=0.25)


@pytest.mark.parametrize("seed", SEEDS)
def test_contrast_is_that_of_t2(seed: int) -> None:
    made = case(seed)
    label, image = made.label, made.images["T2"].astype(float)
    middle = slice(label.shape[0] // 2 - 1, label.shape[0] // 2 + 1)
    disc = (label[middle] == 13).any(axis=0)
    back, levels = np.nonzero(disc.any(axis=1))[0].min(), np.nonzero(disc.any(axis=0))[0]
    fluid = np.median(image[middle, back - 10 : back - 2, levels].max(axis=1))  # behind the disc L3/L4
    marrow = np.median(image[np.isin(label, [3, 4])])
    air = np.median(image[:, :3])
    assert fluid > 1.7 * marrow
    assert air < 0.3 * marrow


def test_neighbours_look_alike_while_discs_differ() -> None:
    ratios, discs = [], []
    for seed in SEEDS:
        made = case(seed)
        image = made.images["T2"]
        marrow = [np.median(image[made.label == value]) for value in (2, 3, 4, 5)]
        ratios += [upper / lower for lower, upper in pairwise(marrow)]
        discs += [np.percentile(image[made.label == value], 90) / marrow[1] for value in (11, 12, 13)]
    assert np.abs(np.log(ratios)).mean() < 0.12
    assert np.std(discs) > 0.2  # water and wear


def test_files_run_in_any_direction_and_are_oblique() -> None:
    made = PhantomCase({"T2": np.arange(24, dtype=np.int16).reshape(2, 3, 4)}, np.zeros((2, 3, 4), np.uint8), np.eye(4))
    seen = set()
    for seed in range(40):
        turned = stored(made, np.random.default_rng(seed))
        seen.add("".join(aff2axcodes(turned.affine)))
        back = nib.as_closest_canonical(nib.Nifti1Image(turned.images["T2"], turned.affine))
        assert np.array_equal(back.dataobj, made.images["T2"])
        assert turned.label.shape == turned.images["T2"].shape
        assert nib.affines.voxel_sizes(turned.affine) == pytest.approx([1, 1, 1])
        assert np.abs(nib.affines.obliquity(turned.affine)).max() > np.deg2rad(0.1)
    assert seen == set(ORIENTATIONS)


def test_parts_become_labels_and_touching_arches_are_parted() -> None:
    part = np.array([[1, 201 + 1, 2, 201 + 2, 3, 201 + 3, 0], [0, 101 + 1, 101 + 1, 101 + 2, 101 + 2, 101 + 3, 0]])
    label = labels_of(part.astype(np.uint8)[None])
    # L3's body is not in the field: neither it nor the disc below has a label; the arches of L5 and L4 lose a voxel
    assert label[0, 0].tolist() == [1, 11, 2, 12, 3, 0, 0]
    assert label[0, 1].tolist() == [0, 2, 0, 3, 3, 0, 0]


def test_a_larger_field_shows_vertebrae_without_label() -> None:
    made = make_case("spineparsenet", 0, 6.0, (9, 160, 300))
    assert sorted(made.label.shape) == [9, 160, 300]
    assert made.label.max() == 19
    assert touching(made.label) == {(GRAPH.labels[a].value, GRAPH.labels[b].value) for a, b in GRAPH.edges}


def test_the_patient_does_not_depend_on_the_grid() -> None:
    spine, again = (LumbarSpine(np.random.default_rng(3)) for _ in range(2))
    fine, coarse = Grid((1, 60, 80), (4, 1.5, 1.5), (0, 0, 0)), Grid((1, 20, 27), (4, 4.5, 4.5), (0, 0, 0))
    part = []
    for one, grid in ((spine, fine), (again, coarse)):
        points = grid.points()
        section = one.section(points[1], points[2])
        part.append(one.sample(section, 0.0, one.clouds(points))[1].reshape(grid.shape))
    volumes = [
        np.bincount(np.ravel(found), minlength=256) * size for found, size in zip(part, (1.5**2, 4.5**2), strict=True)
    ]
    large = volumes[0] > 300
    assert large.sum() > 2
    assert np.allclose(volumes[0][large], volumes[1][large], rtol=0.3)


def test_same_seed_same_voxels_other_seed_other_voxels() -> None:
    first, again, other = (make_case("spineparsenet", seed, 6.0) for seed in (1, 1, 2))
    assert np.array_equal(first.images["T2"], again.images["T2"])
    assert np.array_equal(first.label, again.label)
    assert np.array_equal(first.affine, again.affine)
    assert not np.array_equal(first.affine, other.affine)


def test_the_data_list_names_the_graph_and_its_labels(tmp_path: Path) -> None:
    path = write_dataset("spineparsenet", tmp_path, cases=3, spacing=6.0)
    header = json.loads(path.read_text())
    assert header["label_graph"] == "mrspineseg"
    assert header["labels"] == {str(value): name for value, name in bundle("spineparsenet").labels.items()}
    assert header["modality"] == {"0": "T2"}
    assert GRAPH.names == bundle("spineparsenet").labels
    assert len(VERTEBRAE) == LABELLED + 1
