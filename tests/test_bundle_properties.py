# SPDX-License-Identifier: Apache-2.0
"""What MONAI and the Model Zoo ask of a bundle, of every bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, verify_metadata, verify_net_in_out

from custom_nets.config_linter.metadata_rules import SCHEMA
from custom_nets.options import WORKFLOWS
from custom_nets.phantoms import write_dataset
from custom_nets.registry import ROOT, available
from tests.bundle_runs import TINY, monai

NAMES = list(available())
CPU: dict[str, Any] = {"device": "cpu", "amp": False, "num_workers": 0}


def configs(name: str, *files: str) -> list[str]:
    return [str(ROOT / "bundles" / name / "configs" / f"{file}.json") for file in files]


def network_of(name: str, workflow: str = "inference") -> torch.nn.Module:
    torch.manual_seed(0)
    parser = ConfigParser()
    parser.read_config(configs(name, workflow))
    parser["patch_size"] = patch_of(name)
    return parser.get_parsed_content("network_def")


def patch_of(name: str) -> list[int]:
    """A small one; there are networks that are built for theirs."""
    return TINY[name].options["patch_size"]


@pytest.fixture(scope="module", params=NAMES)
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A bundle's name and a folder with the smallest phantoms, and weights as they are before training."""
    folder = tmp_path_factory.mktemp(request.param)
    write_dataset(request.param, folder / "data", cases=4, spacing=6.0)
    torch.save(network_of(request.param).state_dict(), folder / "model.pt")
    return request.param, folder


@pytest.mark.parametrize(
    ("files", "kind"), [(["train"], "train"), (["train", "evaluate"], "train"), (["inference"], "inference")], ids=str
)
def test_every_property_that_monai_asks_for_is_there(
    prepared: tuple[str, Path], files: Sequence[str], kind: str, tmp_path: Path
) -> None:
    name, folder = prepared
    overrides = {**CPU, "dataset_dir": str(folder / "data"), "output_dir": str(tmp_path / "eval")}
    overrides["patch_size"] = patch_of(name)
    if files == ["train"]:
        overrides["ckpt_dir"] = str(tmp_path / "models")
    else:
        overrides["checkpoint"] = str(folder / "model.pt")
    workflow = ConfigWorkflow(configs(name, *files), workflow_type=kind, logging_file=False, **overrides)
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.finalize()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_paths_are_right_from_the_repository_and_from_the_bundle(
    name: str, workflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for start, expected in ((ROOT, f"bundles/{name}"), (ROOT / "bundles" / name, ".")):
        monkeypatch.chdir(start)
        parser = ConfigParser()
        parser.read_config(configs(name, workflow))
        assert parser.get_parsed_content("bundle_root") == expected
        assert Path(parser.get_parsed_content("dataset_dir")).resolve() == ROOT / "data" / name
        assert (start / parser.get_parsed_content("output_dir")).resolve().is_relative_to(ROOT / "bundles" / name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("workflow", ["train", "inference"])
def test_the_command_starts_and_tells_in_one_line_what_is_missing(name: str, workflow: str, tmp_path: Path) -> None:
    bundle = ROOT / "bundles" / name
    start = ROOT if workflow == "train" else bundle
    missing = tmp_path / "missing"
    run_id, option = ("training", "dataset_dir") if workflow == "train" else ("evaluating", "checkpoint")
    outputs = {"train": ["--ckpt_dir", str(tmp_path)], "inference": []}[workflow]
    config = (bundle / "configs" / f"{workflow}.json").relative_to(start)
    words = [run_id, "--config_file", str(config), f"--{option}", str(missing), *outputs]
    ended = monai(*words, "--output_dir", str(tmp_path), "--device", "cpu", cwd=start)
    assert ended.returncode == 1, ended.stderr
    told = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and str(missing) in told[0], ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("name", NAMES)
def test_the_metadata_follow_the_schema_without_network(name: str) -> None:
    verify_metadata(meta_file=configs(name, "metadata")[0], filepath=SCHEMA)


@pytest.mark.parametrize("name", NAMES)
def test_the_network_takes_and_gives_what_the_metadata_say(name: str) -> None:
    (inference,), (metadata,) = configs(name, "inference"), configs(name, "metadata")
    data_format = ConfigParser.load_config_file(metadata)["network_data_format"]
    small: dict[str, Any] = {"patch_size": patch_of(name)}
    for side, tensor in (("inputs", "image"), ("outputs", "pred")):
        if data_format[side][tensor]["spatial_shape"] == ConfigParser.load_config_file(inference)["patch_size"]:
            # of a network that is built for its patch; the others' shapes are rules
            small[f"_meta_::network_data_format::{side}::{tensor}::spatial_shape"] = patch_of(name)
    verify_net_in_out(net_id="network_def", meta_file=metadata, config_file=inference, device="cpu", **small)


def test_the_network_is_exported_to_torchscript_by_scripting(prepared: tuple[str, Path]) -> None:
    """Of a network of stages, that does more than a network, the first one."""
    name, folder = prepared
    workflow = TINY[name].exported
    (config,), (metadata,) = configs(name, workflow), configs(name, "metadata")
    network, exported = network_of(name, workflow).eval(), folder / "model.ts"
    torch.save(network.state_dict(), folder / "exported.pt")
    ckpt_export(
        net_id="network_def",
        filepath=str(exported),
        ckpt_file=str(folder / "exported.pt"),
        meta_file=metadata,
        config_file=config,
        patch_size=patch_of(name),
    )
    image_format = ConfigParser.load_config_file(metadata)["network_data_format"]["inputs"]["image"]
    shape = (1, image_format["num_channels"], *patch_of(name))
    volume = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(str(exported))(volume), network(volume), rtol=1e-4, atol=1e-5)
