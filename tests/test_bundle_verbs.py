# SPDX-License-Identifier: Apache-2.0
"""Functions of `monai.bundle` that need no network connection, of every bundle: ONNX, loading, reading.

The others are in test_bundle_properties.py. Those that ask the Model Zoo's server (`get_bundle_info`,
`get_bundle_versions`, `get_all_bundles_list`, `download`) know published bundles only; `trt_export` needs a GPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, create_workflow, load, load_bundle_config, onnx_export
from torch import nn

from custom_nets.registry import ROOT, available
from tests.bundle_runs import TINY

NAMES = list(available())
#: Passes over the checks of a training, which want its data.
WITHOUT_DATA = {"init_id": "nothing"}


def small_options(name: str, workflow: str) -> dict[str, Any]:
    """Options of a small network, of those that the workflow has."""
    keys = ConfigParser.load_config_file(folder_of(name) / "configs" / f"{workflow}.json")
    return {key: value for key, value in TINY[name].options.items() if key in keys}


def folder_of(name: str) -> Path:
    return ROOT / "bundles" / name


def network_of(name: str, workflow: str) -> nn.Module:
    """A small one, filled at random."""
    torch.manual_seed(0)
    made = create_workflow(
        config_file=str(folder_of(name) / "configs" / f"{workflow}.json"),
        workflow_type="train" if workflow == "train" else "inference",
        args_file={**WITHOUT_DATA, "logging_file": False, **small_options(name, workflow)},
    )
    return made.network_def


@pytest.mark.parametrize("name", NAMES)
def test_monai_loads_the_network_with_its_weights(name: str, tmp_path: Path) -> None:
    network = network_of(name, "train")
    bundle = tmp_path / name
    (bundle / "models").mkdir(parents=True)
    (bundle / "configs").symlink_to(folder_of(name) / "configs")
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    given = {**WITHOUT_DATA, "logging_file": False, **small_options(name, "train")}
    loaded = load(name, bundle_dir=str(tmp_path), args_file=given, device="cpu")
    assert type(loaded) is type(network)
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_monai_reads_what_a_bundle_says_of_itself(name: str) -> None:
    """In place of `get_bundle_info`, which asks the Model Zoo's server."""
    parser = load_bundle_config(str(folder_of(name)), "train.json", "inference.json")
    shown = parser["_meta_"]
    assert shown["name"] and shown["version"] in shown["changelog"]
    assert shown["network_data_format"]["outputs"]["pred"]["channel_def"]["0"] == "background"
    assert parser["network_def"]["_target_"].startswith("custom_nets.")


@pytest.mark.forms
@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_exported_to_onnx(name: str, tmp_path: Path) -> None:
    """Of a network of stages, that does more than a network, the first one. The smallest input of the metadata."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    workflow = TINY[name].exported
    network = network_of(name, workflow).eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    configs, patch = folder_of(name) / "configs", TINY[name].options["patch_size"]
    channels = ConfigParser.load_config_file(configs / "metadata.json")["network_data_format"]["inputs"]["image"]
    shape = [1, channels["num_channels"], *patch]
    onnx_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.onnx"),
        ckpt_file=str(tmp_path / "model.pt"),
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / f"{workflow}.json"),
        input_shape=shape,
        converter_kwargs={"input_names": ["image"], "output_names": ["pred"]},
        **small_options(name, workflow),
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", options, ["CPUExecutionProvider"])
    image = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    (found,) = session.run(["pred"], {"image": image.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, network(image), rtol=1e-3, atol=1e-4)
