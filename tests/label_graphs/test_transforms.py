# SPDX-License-Identifier: Apache-2.0
"""From a file's labels to nodes of a graph and back: values, types, metadata, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from custom_nets.errors import InputError
from custom_nets.label_graphs.chains import mrspineseg, spider
from custom_nets.label_graphs.graph import Label, LabelGraph
from custom_nets.label_graphs.transforms import LabelsToNodesd, NodesToLabelsd

AFFINE = torch.diag(torch.tensor([4.4, 0.7, 0.7, 1.0], dtype=torch.float64))


def label_map(values: Any, dtype: torch.dtype = torch.float32) -> MetaTensor:
    tensor = torch.tensor(values, dtype=dtype).reshape(1, 1, 1, -1)
    return MetaTensor(tensor, affine=AFFINE, meta={"filename_or_obj": "mask_case7.nii.gz"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int16, torch.uint8])
def test_values_become_node_numbers_and_keep_their_metadata(dtype: torch.dtype) -> None:
    data = {"label": label_map([0, 1, 9, 100, 201, 203], dtype), "image": "untouched"}
    found = LabelsToNodesd("label", spider())(data)
    assert found["label"].flatten().tolist() == [0, 1, 9, 19, 10, 12]
    assert found["label"].dtype == torch.uint8 and found["image"] == "untouched"
    assert found["label"].meta["filename_or_obj"] == "mask_case7.nii.gz"
    assert torch.equal(found["label"].affine, AFFINE)
    assert data["label"].flatten().tolist() == [0, 1, 9, 100, 201, 203], "the input is not changed"


def test_other_values_of_a_label_become_its_node_and_then_its_value() -> None:
    chain = Compose([LabelsToNodesd("label", spider()), NodesToLabelsd("label", spider())])
    assert chain({"label": label_map([101, 103, 3])})["label"].flatten().tolist() == [1, 3, 3]


@pytest.mark.parametrize(
    ("values", "dtype"), [([0, 5, 255], torch.uint8), ([0, 5, 256], torch.int16), ([0, 5, 40000], torch.uint16)]
)
def test_back_to_values_in_the_smallest_usual_type(values: list[int], dtype: torch.dtype) -> None:
    graph = LabelGraph(tuple(Label(value, f"label {value}") for value in values), ())
    nodes = label_map([2, 0, 1, 2], torch.uint8)
    found = NodesToLabelsd("pred", graph)({"pred": nodes})["pred"]
    assert found.dtype == dtype and found.numpy().ravel().tolist() == [values[node] for node in (2, 0, 1, 2)]
    assert isinstance(found, MetaTensor) and torch.equal(found.affine, AFFINE)


def test_every_label_of_a_graph_comes_back() -> None:
    graph = mrspineseg()
    chain = Compose([LabelsToNodesd("label", graph), NodesToLabelsd("label", graph)])
    found = chain({"label": np.arange(20.0).reshape(1, 4, 5)})["label"]
    np.testing.assert_array_equal(found, np.arange(20).reshape(1, 4, 5))


@pytest.mark.parametrize(
    ("value", "shown"), [(20.0, "20"), (2.5, "2.5"), (-1.0, "-1"), (70000.0, "70000"), (float("nan"), "nan")]
)
def test_a_value_that_is_no_label_is_refused_by_file_and_value(value: float, shown: str) -> None:
    with pytest.raises(InputError, match=rf"mask_case7.nii.gz: 2 voxels hold {shown}, which is no label of the graph"):
        LabelsToNodesd("label", mrspineseg())({"label": label_map([0, value, 3, value])})


@pytest.mark.parametrize("node", [20, 255])
def test_a_number_that_is_no_node_is_refused(node: int) -> None:
    with pytest.raises(InputError, match=rf"mask_case7.nii.gz: holds 0 to {node}, but the graph's nodes are 0 to 19"):
        NodesToLabelsd("pred", mrspineseg())({"pred": label_map([0, node], torch.uint8)})


def test_more_labels_than_a_byte_holds_are_refused() -> None:
    graph = LabelGraph(tuple(Label(value, f"label {value}") for value in range(257)), ())
    for transform in (LabelsToNodesd, NodesToLabelsd):
        with pytest.raises(InputError, match="has 257 labels: label maps in memory hold at most 256"):
            transform("label", graph)


def test_a_missing_key_is_an_error_unless_allowed() -> None:
    with pytest.raises(KeyError):
        LabelsToNodesd("label", mrspineseg())({"image": 0})
    assert LabelsToNodesd("label", mrspineseg(), allow_missing_keys=True)({"image": 0}) == {"image": 0}
