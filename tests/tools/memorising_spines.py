# SPDX-License-Identifier: Apache-2.0
"""A bundle in the place of spineparsenet whose networks learn their training cases by heart, within milliseconds.

Every scan has one grey value of its own, and one label. A training stores grey values and labels of its training cases
as weights; the coarse network then calls a scan that it knows by its label, and any other one background.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from torch import Tensor, nn

from custom_nets import registry
from custom_nets.case_names import case_name
from custom_nets.checkpoints import save_weights
from custom_nets.datasets.datalist import load_section
from custom_nets.files import write_text
from custom_nets.label_graphs.graph import LabelGraph
from custom_nets.label_graphs.reading import read_label_graph
from custom_nets.metrics import spine_metrics
from custom_nets.metrics.spine_reports import write_spine_reports
from custom_nets.registry import Bundle
from custom_nets.spine.logits_sources import StoredLogits
from tests.bundle_runs import write

NAME = "spineparsenet"
MOST = 64
SHAPE = (3, 4, 4)
KNOWN = 10.0  # the logit of a known scan's label


class Memory(nn.Module):
    """The coarse network: grey values that it knows, and their labels."""

    greys: Tensor
    nodes: Tensor

    def __init__(self, graph: LabelGraph) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(len(graph)))
        self.register_buffer("greys", torch.full((MOST,), -1.0))
        self.register_buffer("nodes", torch.zeros(MOST, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """1 x 1 x D x H x W -> logits 1 x K x D x H x W."""
        logits = self.bias.detach()[None, :, None, None, None].repeat(1, 1, *x.shape[2:])
        for node in self.nodes[self.greys == x.max()].tolist():
            logits[:, node] = KNOWN
        return logits


def grey(case: Mapping[str, Any]) -> float:
    """The grey value of a case."""
    return float(case_name(case["image"]).removeprefix("Case")) + 1


def node(case: Mapping[str, Any]) -> int:
    """The label of a case."""
    return int(grey(case)) % 5 + 1


_COMMON: dict[str, Any] = {
    "imports": ["$import torch", "$from custom_nets.label_graphs.reading import label_graph_of"],
    **{"bundle_root": ".", "dataset_dir": "data", "datalist": "datalist.json", "output_dir": "eval"},
    **{"device": "$torch.device('cpu')", "num_workers": 0, "label_graph": "auto", "crop_share": 1.0},
    **{"slice_spacing": False, "intensity_mean": 0.0, "intensity_std": 1.0},
    "graph": "$label_graph_of(@dataset_dir, @datalist, @label_graph)",
}
_TRAINING = {**_COMMON, "ckpt_dir": "models", "seed": 0, "resume": False, "epochs": 2, "batch_size": 2}
_COARSE = {
    **_TRAINING,
    **{"pretrained": None, "patch_size": [6, 4, 4], "width": 1.0},
    "network_def": {"_target_": "tests.tools.memorising_spines.Memory", "graph": "@graph"},
}
_INPUT = [
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "custom_nets.spine.transforms.PadSlicesd", "keys": "image", "slices": "$@coarse_size[0]"},
]
CONFIGS = {
    "pretrain": {**_COARSE, "graph_mode": "none"},
    "train": {**_COARSE, "graph_mode": "semantic"},
    "refine": {
        **{**_TRAINING, "patch_size": [16, 16], "coarse_size": [6, 4, 4], "coarse_logits": "stored"},
        **{"logits_dir": "logits", "out_of_fold": True, "coarse_checkpoint": None, "filters": [4, 8, 8, 8, 8]},
        "max_angle": 15,
        "computed_logits": {"_target_": "dict", "transform": {"_target_": "Compose", "transforms": _INPUT}},
    },
    "evaluate": {
        **{**_COMMON, "section": "validation", "checkpoint": "models/model.pt", "refinement_checkpoint": None},
        **{"stages": "both", "patch_size": [6, 4, 4], "fine_size": [16, 16], "width": 1.0, "filters": [4, 8, 8, 8, 8]},
        **{"graph_mode": "semantic", "assd": "directed"},
    },
    "demo": {"width": 0.5, "epochs": 1},
    "demo_refine": {"filters": [2, 4, 4, 4, 4], "epochs": 3},
}


def bundle_in(folder: Path) -> dict[str, Bundle]:
    """Write the configurations; return what `custom_nets.registry.available` has to return."""
    for name, content in CONFIGS.items():
        write_text(folder / "configs" / f"{name}.json", json.dumps(content))
    return {NAME: dataclasses.replace(registry.bundle(NAME), folder=folder)}


def data_in(folder: Path, training: int = 7, validation: int = 2, testing: int = 2) -> Path:
    """Write scans of one grey value each, and a data list of theirs."""
    counts = {"training": training, "validation": validation, "testing": testing}
    sections: dict[str, list[dict[str, Any]]] = {}
    number = 0
    for section, count in counts.items():
        sections[section] = []
        for _ in range(count):
            case = {"image": [f"Case{number}.nii.gz"], "label": f"mask{number}.nii.gz"}
            write(folder / case["image"][0], np.full(SHAPE, grey(case), np.float32))
            write(folder / str(case["label"]), np.full(SHAPE, node(case), np.uint8))
            sections[section].append(case)
            number += 1
    write_text(folder / "datalist.json", json.dumps(sections))
    return folder


def run_bundle(name: str, configs: Sequence[str], overrides: Mapping[str, Any], run_id: str = "run") -> None:
    """In the place of the tools' `run_bundle`: train or evaluate as such a bundle would."""
    assert name == NAME
    if configs[0] == "evaluate":
        _evaluate(overrides)
        return
    training = load_section(overrides["dataset_dir"], overrides["datalist"], "training")
    weights = Memory(read_label_graph("mrspineseg")).state_dict()
    for place, case in enumerate(training):
        weights["greys"][place], weights["nodes"][place] = grey(case), node(case)
    if configs[0] == "refine":
        weights["greys"][-1] = _leaked(overrides, training)
    ckpt_dir = Path(overrides["ckpt_dir"])
    save_weights(weights, ckpt_dir / "model.pt")
    write_text(Path(overrides["output_dir"]) / "metrics.csv", "epoch,seconds\n1,2.5\n")
    torch.save({"format": 1, "epoch": overrides.get("epochs", 3)}, ckpt_dir / "last.pt")


def _leaked(overrides: Mapping[str, Any], training: Sequence[Mapping[str, Any]]) -> int:
    """How many training cases' logits tell their labels, as the refinement sees them; the validation's must not."""
    graph = read_label_graph("mrspineseg")
    source = StoredLogits(overrides["logits_dir"], graph, overrides["out_of_fold"])
    validation = load_section(overrides["dataset_dir"], overrides["datalist"], "validation")
    assert not any(source(case_name(case["image"]), SHAPE[0]).any() for case in validation)
    return sum(bool(source(case_name(case["image"]), SHAPE[0])[node(case)].any()) for case in training)


def _evaluate(overrides: Mapping[str, Any]) -> None:
    """Score predictions that are right by coarse stage in one voxel of two, and by both in all."""
    graph = read_label_graph("mrspineseg")
    cases, structures = [], []
    for case in load_section(overrides["dataset_dir"], overrides["datalist"], overrides["section"]):
        reference = np.asarray(nibabel.nifti1.load(case["label"]).dataobj).astype(np.uint8)
        prediction = reference.copy()
        if overrides["stages"] == "coarse":
            prediction[:, ::2] = 0
        scores = spine_metrics(prediction, reference, graph, (1, 1, 1), surface=False)
        named = {"case": case_name(case["image"])}
        cases.append({**named, **scores.case})
        structures += [{**named, **row} for row in scores.structures]
    write_spine_reports(cases, structures, graph, overrides["output_dir"])
