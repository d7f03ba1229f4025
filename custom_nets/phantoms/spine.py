# SPDX-License-Identifier: Apache-2.0
"""T2-weighted sagittal MR volumes of a lumbar spine in thick slices, with sacrum, vertebrae and discs.

The patients differ in lordosis, scoliosis, size, fat, wear of the discs, and in how far up the field of view reaches.
Neighbouring vertebrae look alike: which is which can only be told by counting from the sacrum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from custom_nets.label_graphs.reading import read_label_graph
from custom_nets.phantoms.case import Generator, PhantomCase
from custom_nets.phantoms.geometry import Grid
from custom_nets.phantoms.spine_anatomy import LumbarSpine
from custom_nets.phantoms.spine_curve import FIELD
from custom_nets.phantoms.spine_levels import LABELLED
from custom_nets.phantoms.spine_scanner import acquire, stored

MODALITY = "T2"
GRAPH = "mrspineseg"
"""The label graph of the label maps."""
_SUB_SLICES = 3
"""Odd, so that one lies in the middle of the slice."""
_BODIES, _ARCHES, _DISCS = 1, 101, 201
"""First number of each kind of part, see `LumbarSpine.sample`."""


def make_spine(rng: np.random.Generator, grid: Grid) -> PhantomCase:
    """Make one case.

    Args:
        rng: source of randomness; the anatomy does not depend on the grid.
        grid: the voxels, slices along the first axis.

    Returns:
        The image ``T2`` and the label map of the bundle ``spineparsenet``: what lies at the middle of each voxel, while
        the image shows the mean through the thickness of the slice. The axes run as a scanner may store them.
    """
    anatomy, scanner, storage = rng.spawn(3)
    spine = LumbarSpine(anatomy)
    points = grid.points().reshape(3, grid.shape[0], -1)
    section = spine.section(points[1, 0], points[2, 0])
    shape = (grid.shape[0], points.shape[2])
    signal, part = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    for number in range(grid.shape[0]):
        clouds = spine.clouds(points[:, number])
        for step in range(_SUB_SLICES):
            x = points[0, number, 0] + grid.spacing[0] * ((step + 0.5) / _SUB_SLICES - 0.5)
            sampled, found = spine.sample(section, float(x), clouds)
            signal[number] += sampled / _SUB_SLICES
            if step == _SUB_SLICES // 2:
                part[number] = found
    label = labels_of(part.reshape(grid.shape))
    image = acquire(signal.reshape(grid.shape), section.below_skin.reshape(grid.shape[1:]), grid, scanner)
    return stored(PhantomCase({MODALITY: image}, label, grid.affine), storage)


def labels_of(part: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn parts as `LumbarSpine.sample` numbers them into labels.

    A vertebra has its label where its body is in the field, a disc where both its vertebrae are. Arches of neighbours
    that touch one another lose a voxel, so that labels touch as the graph says: vertebrae only discs.

    Args:
        part: numbers of the parts, of any shape.

    Returns:
        Label map of that shape: 0, sacrum 1, vertebrae 2 to 10, discs 11 to 19.
    """
    graph = read_label_graph(GRAPH)
    vertebrae = [graph.labels[node].value for node in graph.nodes("vertebra")]
    discs = [graph.labels[node].value for node in graph.nodes("disc")]
    shown = [bool((part == _BODIES + level).any()) for level in range(LABELLED + 1)]
    values = np.zeros(256, np.uint8)
    for level in range(LABELLED + 1):
        if shown[level]:
            values[[_BODIES + level, _ARCHES + level]] = vertebrae[level]
        if level and shown[level] and shown[level - 1]:
            values[_DISCS + level] = discs[level - 1]
    label = values[part]
    _part_arches(label, (part > _ARCHES) & (part < _DISCS), vertebrae)
    return label


def _part_arches(label: NDArray[np.uint8], arch: NDArray[np.bool_], vertebrae: list[int]) -> None:
    """Take the label off arches where they touch another vertebra, in place."""
    bone = np.isin(label, vertebrae)
    for axis in range(label.ndim):
        below = tuple(slice(None, -1) if k == axis else slice(None) for k in range(label.ndim))
        above = tuple(slice(1, None) if k == axis else slice(None) for k in range(label.ndim))
        meet = bone[below] & bone[above] & (label[below] != label[above])
        for one in (below, above):
            lost = meet & arch[one]
            label[one][lost] = 0
            bone[one][lost] = False
            meet &= ~lost


# 12 slices of 192 x 256 voxels: the field of a real scan, at a third of its fineness within the slice
SPINE = Generator(
    make_spine, extent=FIELD, centre=(0.0, 0.0, 0.0), spacing=(4.4, 1.2, 1.2), header={"label_graph": GRAPH}
)
