# SPDX-License-Identifier: Apache-2.0
"""The configurations of a bundle, read as files, and which of their options are of a model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from pydoc import locate
from typing import Any

from monai.bundle import ConfigParser

Configs = dict[str, dict[str, Any]]

#: How an argument of the network is given that no option of the bundle sets.
ARGUMENT = "network_def::"
#: Options of one machine or one run: a model's configurations keep their defaults.
OF_A_RUN = {
    *("bundle_root", "dataset_dir", "datalist", "section", "checkpoint", "refinement_checkpoint", "coarse_checkpoint"),
    *("ckpt_dir", "output_dir", "logits_dir", "device", "resume", "pretrained", "num_workers"),
}
#: Network of a stage that is trained by itself -> its options that the whole network calls otherwise, and how.
RENAMED: dict[str, dict[str, str]] = {"custom_nets.ResUNet2d": {"patch_size": "fine_size", "coarse_size": "patch_size"}}


def read_configs(folder: Path) -> Configs:
    """Return the configurations of a bundle by name, metadata left out."""
    paths = sorted((folder / "configs").glob("*.json"))
    return {path.stem: ConfigParser.load_config_file(path) for path in paths if path.stem != "metadata"}


def fast_options(folder: Path) -> dict[str, Any]:
    """Options of inference.json with which a bundle sees a scan in fewer windows: its overlay fast.json, if any."""
    path = folder / "configs" / "fast.json"
    return ConfigParser.load_config_file(path) if path.is_file() else {}


def takes(definition: Mapping[str, Any], argument: str) -> bool:
    """Whether the component that a configuration defines has such an argument."""
    return argument in inspect.signature(locate(str(definition["_target_"]))).parameters  # type: ignore[arg-type]
