# SPDX-License-Identifier: Apache-2.0
"""Bundles with small networks, and made-up scans for them as MONAI Label takes them: one file a scan."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser

from custom_nets.checkpoints import save_weights
from custom_nets.files import write_json
from custom_nets.model_zoo.model_options import read_configs, with_options
from custom_nets.phantoms import make_case
from custom_nets.registry import available

CASES = 3
#: Options that make networks small, and keep the scans' voxels.
OPTIONS = {
    "rsanet": {"filters": [8, 8, 16, 16, 32], "patch_size": [32, 32, 32], "spacing": False},
    "s2anet": {"feature_scale": 16, "patch_size": [64, 64], "batch_size": 8, "step_epochs": 2},
    "s2ca_net": {
        **{"patch_size": [32, 32, 32], "filters": [4, 8, 16, 32], "embed_channels": [16, 32]},
        **{"encoder_depths": [1, 1], "decoder_depths": [1, 1], "min_enhancing_voxels": 0, "overlap": 0.25},
    },
    "spineparsenet": {
        **{"patch_size": [8, 24, 32], "fine_size": [32, 64], "width": 0.125, "filters": [4, 8, 8, 16, 16]},
        **{"crop_share": 1.0, "elastic_probability": 0.0},
    },
    "zoom_resunet": {"base_width": 4, "patch_size": [24, 24, 24], "windows": "sliding"},
}
#: Voxel size of the scans in mm.
SPACING = {"rsanet": 5.0, "s2anet": 6.0, "s2ca_net": 5.0, "spineparsenet": 6.0, "zoom_resunet": 5.0}


def make_bundle(name: str, folder: Path, options: Mapping[str, Any] | None = None) -> Path:
    """Copy a bundle to ``folder``/NAME, with small networks, or as ``options`` say, and random weights."""
    target = folder / name
    shutil.copytree(available()[name].folder, target, ignore=shutil.ignore_patterns("models", "eval"))
    for config, content in with_options(read_configs(target), options or OPTIONS[name]).items():
        write_json(target / "configs" / f"{config}.json", content)
    torch.manual_seed(0)
    parser = ConfigParser()
    parser.read_config(target / "configs" / "inference.json")
    network = parser.get_parsed_content("network_def")
    save_weights(network.state_dict(), target / "models" / "model.pt")
    return target


def write_scans(name: str, images: Path, labels: Path) -> list[str]:
    """Write scans as NAME_N.nii.gz, tilted as patients lie, several modalities as one 4D file; return their ids."""
    ids = [f"{name}_{number}" for number in range(CASES)]
    for number, id in enumerate(ids):
        case = make_case(name, [7, number], SPACING[name])
        affine = tilted(case.affine)
        channels = [case.images[modality] for modality in available()[name].modalities]
        voxels = np.stack(channels, axis=-1) if len(channels) > 1 else channels[0]
        for folder, array in ((images, voxels), (labels, case.label)):
            folder.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, affine), folder / f"{id}.nii.gz")
    return ids


def tilted(affine: np.ndarray) -> np.ndarray:
    """Turn a volume by 5 degrees about the first axis."""
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(np.pi / 36), -np.sin(np.pi / 36)], [np.sin(np.pi / 36), np.cos(np.pi / 36)]]
    return turn @ affine
