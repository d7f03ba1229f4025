# SPDX-License-Identifier: Apache-2.0
"""The dictionary transforms of brain tumours: from logits to labels, from labels to the target, and their metadata."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose
from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.tumours.transforms import (
    LabelsFromRegionsd,
    OutputConventiond,
    RegionsFromLogitsd,
    RemoveSmallRegionsd,
    SuppressSmallEnhancingd,
    TumourLabelsd,
    TumourRegionsd,
)
from tests.recipe import arrays

GOLDEN = arrays("s2ca_net")
AFFINE = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))


def meta(array: np.ndarray | Tensor) -> MetaTensor:
    return MetaTensor(torch.as_tensor(array), affine=AFFINE, meta={"filename_or_obj": "case.nii.gz"})


def labels(convention: str = "brats") -> MetaTensor:
    values = {"brats": [0, 1, 2, 4], "brats2023": [0, 1, 2, 3], "msd": [0, 2, 1, 3]}[convention]
    return meta(torch.tensor(values, dtype=torch.float32).view(1, 1, 2, 2))


@pytest.mark.parametrize("threshold", [400, 30, 5000])
def test_the_golden_chain_from_logits_to_labels(threshold: int) -> None:
    chain = Compose(
        [
            RegionsFromLogitsd("pred"),
            RemoveSmallRegionsd("pred"),
            SuppressSmallEnhancingd("pred", threshold),
            LabelsFromRegionsd("pred"),
        ]
    )
    logits = meta(GOLDEN["chain.logits"][0])
    result = chain({"pred": logits})["pred"]
    np.testing.assert_array_equal(result[0], GOLDEN[f"chain.labels_{threshold}"])
    assert result.dtype == torch.uint8 and result.meta["filename_or_obj"] == "case.nii.gz"
    assert torch.equal(result.affine, AFFINE)
    np.testing.assert_array_equal(logits, GOLDEN["chain.logits"][0], "the input is not changed")


@pytest.mark.parametrize("nesting", ["published", "nested"])
def test_the_golden_target_of_labels_and_back(nesting: Any) -> None:
    parts = meta(GOLDEN["labels.input"][1])
    data = TumourRegionsd("label")(TumourLabelsd("label", "brats2023")({"label": parts}))
    np.testing.assert_array_equal(data["label"], GOLDEN["labels.overlap"][1])
    assert data["label"].dtype == torch.float32 and torch.equal(data["label"].affine, AFFINE)
    back = OutputConventiond("label", "brats2023")(LabelsFromRegionsd("label", nesting)(data))["label"]
    np.testing.assert_array_equal(back, parts)


@pytest.mark.parametrize("convention", ["brats", "brats2023", "msd"])
def test_labels_of_every_convention_become_brats_and_back(convention: str) -> None:
    found = TumourLabelsd("label", convention)({"label": labels(convention)})
    assert found["label"].flatten().tolist() == [0, 1, 2, 4]
    assert found["label"].dtype == torch.uint8 and found["label"].meta["filename_or_obj"] == "case.nii.gz"
    written = OutputConventiond("label", convention)(found)["label"]
    assert torch.equal(written.float(), labels(convention))


def test_a_logit_of_zero_is_inside() -> None:
    logits = torch.tensor([-1e-3, 0.0, 1e-3]).expand(4, 1, 1, 3)
    assert RegionsFromLogitsd("pred")({"pred": logits})["pred"][0].flatten().tolist() == [0, 1, 1]
    small = RegionsFromLogitsd("pred")({"pred": torch.full((4, 1, 1, 1), -1e-3).to(torch.bfloat16)})
    assert small["pred"].sum() == 0, "a half-precision sigmoid would round up to one half"


@pytest.mark.parametrize(("threshold", "inside"), [(0.2, 2), (0.7, 1)])
def test_a_lower_threshold_finds_more(threshold: float, inside: int) -> None:
    logits = torch.tensor([-2.0, 0.0, 2.0]).expand(4, 1, 1, 3)
    assert RegionsFromLogitsd("pred", threshold)({"pred": logits})["pred"][1].sum() == inside


def test_options_reach_the_arithmetic() -> None:
    data = {"pred": meta(GOLDEN["post.input"][0])}
    removed = RemoveSmallRegionsd("pred", min_voxels=40)(data)["pred"]
    np.testing.assert_array_equal(removed, GOLDEN["post.remove_40"][0])
    local = SuppressSmallEnhancingd("pred", threshold=30, mode="local")(data)["pred"]
    np.testing.assert_array_equal(local, GOLDEN["post.suppress_30_overlap_local"][0])
    alone = torch.tensor([0, 1, 0, 1]).view(4, 1, 1, 1)  # ET within WT but not within TC
    assert LabelsFromRegionsd("pred")({"pred": alone})["pred"].item() == 2
    assert LabelsFromRegionsd("pred", nesting="nested")({"pred": alone})["pred"].item() == 4
    for off in (RemoveSmallRegionsd("pred", 0), SuppressSmallEnhancingd("pred", 0)):
        np.testing.assert_array_equal(off(data)["pred"], GOLDEN["post.input"][0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TumourLabelsd("x", "brats2020"), "'brats2020': choose one of brats"),
        (lambda: OutputConventiond("x", "auto"), "'auto': choose one of brats"),
        (lambda: RegionsFromLogitsd("x", 1.0), "threshold is 1.0; choose a probability"),
        (lambda: RemoveSmallRegionsd("x", -1), "min_voxels is -1: give a number of voxels"),
        (lambda: SuppressSmallEnhancingd("x", -1), "threshold is -1"),
        (lambda: SuppressSmallEnhancingd("x", mode="all"), "mode is 'all': choose global or local"),  # type: ignore[arg-type]
        (lambda: LabelsFromRegionsd("x", "all"), "nesting is 'all': choose published or nested"),  # type: ignore[arg-type]
        (lambda: TumourRegionsd("x")({"x": torch.zeros(2, 3, 3, 3)}), r"shape \[2, 3, 3, 3\]: give 1 x D x H x W"),
        (lambda: RegionsFromLogitsd("x")({"x": torch.zeros(3, 2, 2, 2)}), r"shape \[3, 2, 2, 2\]: give 4 x D"),
    ],
)
def test_wrong_use_is_answered_with_the_value_found(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_transforms_work_from_a_config() -> None:
    module = "custom_nets.tumours.transforms"
    config = {
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": f"{module}.RegionsFromLogitsd", "keys": "pred"},
                {"_target_": f"{module}.RemoveSmallRegionsd", "keys": "pred", "min_voxels": 10},
                {"_target_": f"{module}.SuppressSmallEnhancingd", "keys": "pred", "threshold": 30, "mode": "global"},
                {"_target_": f"{module}.LabelsFromRegionsd", "keys": "pred", "nesting": "published"},
                {"_target_": f"{module}.OutputConventiond", "keys": "pred", "convention": "brats2023"},
            ],
        }
    }
    result = ConfigParser(config).get_parsed_content("postprocessing")({"pred": meta(GOLDEN["chain.logits"][0])})
    expected = GOLDEN["chain.labels_30"]
    np.testing.assert_array_equal(result["pred"][0], np.where(expected == 4, 3, expected))
