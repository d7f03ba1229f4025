# SPDX-License-Identifier: Apache-2.0
"""Labels that touch, counted by hand and by brute force, and the graphs that follow."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from custom_nets.errors import InputError
from custom_nets.label_graphs.chains import mrspineseg, spider
from custom_nets.label_graphs.contacts import Survey, face_contacts, joined_by_contact, labels_for, survey_files
from custom_nets.label_graphs.graph import Label
from tests.datasets import trees


def column(*values: int, faces: int = 4) -> np.ndarray:
    """Slabs of labels one above the other, each with ``faces`` voxels in a layer."""
    return np.repeat(np.repeat(np.array(values, np.uint8)[None, None], 2, 2), faces, 0)


def test_slabs() -> None:
    assert face_contacts(column(2, 12, 3, 0, 4)) == {(2, 12): 4, (3, 12): 4}
    assert face_contacts(column(0, 0)) == face_contacts(column(7)) == {}


def test_brute_force() -> None:
    label_map = np.random.default_rng(0).integers(0, 4, (4, 5, 6)) * 20000  # beyond 16 bits when combined
    expected: Counter[tuple[int, int]] = Counter()
    for place in product(*map(range, label_map.shape)):
        for axis in range(3):
            other = tuple(index + (axis == number) for number, index in enumerate(place))
            if other[axis] < label_map.shape[axis]:
                pair = sorted((int(label_map[place]), int(label_map[other])))
                if pair[0] > 0 and pair[0] != pair[1]:
                    expected[pair[0], pair[1]] += 1
    assert face_contacts(label_map.astype(np.uint16)) == dict(expected)
    assert len(expected) == 3


def test_corners_do_not_count() -> None:
    assert face_contacts(np.array([[1, 0], [0, 2]])) == {}


def test_survey_of_files(tmp_path: Path) -> None:
    paths = [
        trees.write_voxels(tmp_path / "a.nii.gz", column(2, 12, 3)),
        trees.write_voxels(tmp_path / "b.nii.gz", column(2, 12, faces=1)),
    ]
    survey = survey_files(paths, progress=False)
    assert survey == Survey(Counter({2: 10, 12: 10, 3: 8}), Counter({2: 2, 12: 2, 3: 1}), survey.contacts)
    assert survey.contacts == {(2, 12): 5, (3, 12): 4}


@pytest.mark.parametrize("value", [1.5, -1, 70000])
def test_files_that_are_no_label_map(tmp_path: Path, value: float) -> None:
    voxels = np.zeros(trees.SHAPE, np.float32)
    voxels[0, 0, 0] = value
    with pytest.raises(InputError, match=r"a.nii.gz: holds other values than whole numbers 0 to 65535"):
        survey_files([trees.write_voxels(tmp_path / "a.nii.gz", voxels)], progress=False)
    with pytest.raises(InputError, match=r"gone.nii.gz: does not exist"):
        survey_files([tmp_path / "gone.nii.gz"], progress=False)


def test_a_chain_is_found() -> None:
    """A whole column of MRSpineSeg's labels gives the published graph."""
    names = mrspineseg()
    stacked = [value for disc in range(11, 20) for value in (disc - 10, disc)] + [10]
    assert joined_by_contact(labels_for(range(20), names), face_contacts(column(*stacked))) == names


def test_threshold() -> None:
    labels = labels_for([2, 12, 3], mrspineseg())
    contacts = {(2, 12): 100, (3, 12): 3}
    assert joined_by_contact(labels, contacts).edges == ((1, 3), (2, 3))
    assert joined_by_contact(labels, contacts, 3).edges == ((1, 3),)
    assert joined_by_contact(labels, contacts, 100).edges == ()


def test_values_of_one_label_count_together() -> None:
    labels = labels_for([1, 101, 201], spider())
    assert [label.name for label in labels] == ["background", "L5", "L5/S1"]
    contacts = {(1, 201): 2, (101, 201): 2, (1, 101): 50}
    assert joined_by_contact(labels, contacts, 3).edges == ((1, 2),)
    assert joined_by_contact(labels, contacts, 4).edges == ()


def test_names_of_values() -> None:
    assert labels_for([2, 40], mrspineseg())[1:] == [Label(2, "L5", "vertebra"), Label(40, "label 40")]
    assert labels_for([0, 2], None) == [Label(0, "background"), Label(2, "label 2")]
