# SPDX-License-Identifier: Apache-2.0
"""Runs of whole bundles on tiny made-up data, for every bundle that can be run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser, ConfigWorkflow
from torch import nn

from custom_nets import GCSN
from custom_nets.errors import InputError
from custom_nets.label_graphs.reading import read_label_graph
from custom_nets.metrics import lesion_metrics, spine_metrics, stroke_metrics, structure_metrics, tumour_metrics
from custom_nets.metrics.structure_summary import case_means
from custom_nets.registry import ROOT, Bundle, available
from tests.forked_commands import python_m

BUNDLES = sorted(available())
START = "start.pt"


def structure_row(prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """Means of a case over the structures of s2anet."""
    rows = structure_metrics(prediction, reference, available()["s2anet"].labels, spacing)
    return {key: value for key, value in case_means([{"case": "", **row} for row in rows])[0].items() if key != "case"}


def spine_row(prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """Scores of a case of spineparsenet, whose values are the nodes' numbers."""
    return spine_metrics(prediction, reference, read_label_graph("mrspineseg"), spacing).case


def warm_start(options: Mapping[str, Any]) -> nn.Module:
    """The first stage of spineparsenet, its norms' statistics as after many steps: else it says the same everywhere."""
    torch.manual_seed(0)
    network = GCSN(graph=read_label_graph("mrspineseg"), width=options["width"])
    for norm in network.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.momentum = None  # the mean over all batches
    with torch.no_grad():
        network(4 * torch.randn(2, 1, *options["patch_size"]))
    return network


def bright_slices(image: np.ndarray, threshold: float) -> np.ndarray:
    """Voxels above a threshold as s2anet scales them, each slice along the last axis by its own limits."""
    low, high = (bound(image, axis=(0, 1), keepdims=True) for bound in (np.min, np.max))
    scaled = np.floor(255 * (image - low) / np.maximum(high - low, 1))
    return (scaled / 255 - 0.196) / 0.205 > threshold


def bright_inside(image: np.ndarray, threshold: float) -> np.ndarray:
    """Voxels above a threshold, z-scored within what is not 0."""
    inside = image != 0
    return inside & (image > image[inside].mean() + threshold * image[inside].std())


@dataclass(frozen=True)
class Tiny:
    """How a bundle's run becomes quick.

    Attributes:
        options: of every workflow: a small network and patch.
        training: options of a training besides.
        segmenting: options of an evaluation or inference besides.
        start: makes the weights that trainings on the made-up data start from.
        shape: voxels of the scans.
        spacing: their size.
        columns: of metrics.csv, beyond those of all bundles.
        deterministic_bfloat16: options with which bfloat16 on a CPU is bit-exact.
        key_metric: column of metrics.csv whose best value picks model.pt, and how: the largest or the smallest.
        steps: steps of the learning rate in an epoch of the training cases.
        training_cases: how many there are, at least two.
        every_voxel: options of a segmentation with which every voxel is seen as it is.
        bright: of a scan so seen, the voxels above a threshold.
        bright_above: a threshold for `bright` above which are the labels alone.
        like_evaluation: options of a training that validates as an evaluation does, of which the evaluation takes those
            that it has.
        row: computes a row of an evaluation's table from prediction, reference and spacing.
        evaluated_alike: whether a training validates on the scans' own grids, as an evaluation does.
        exported: the workflow whose network can be exported to TorchScript.
        bad_network: an option of the network, a value that it refuses, and what it says.
    """

    options: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    segmenting: Mapping[str, Any] = field(default_factory=dict)
    start: Callable[[Mapping[str, Any]], nn.Module] | None = None
    shape: tuple[int, int, int] = (40, 44, 36)
    spacing: tuple[float, float, float] = (1, 1, 1)
    columns: tuple[str, ...] = ()
    deterministic_bfloat16: Mapping[str, Any] = field(default_factory=dict)
    key_metric: tuple[str, Callable[[Iterable[float]], float]] = ("val_mean_dice", max)
    steps: int = 1
    training_cases: int = 2
    every_voxel: Mapping[str, Any] = field(default_factory=dict)
    bright: Callable[[np.ndarray, float], np.ndarray] = bright_inside
    bright_above: float = 1.5
    like_evaluation: Mapping[str, Any] = field(default_factory=dict)
    row: Callable[..., Mapping[str, float]] = lesion_metrics
    evaluated_alike: bool = True
    exported: str = "inference"
    bad_network: tuple[str, Any, str] = ("norm", "XX", "norm 'XX'")


#: A bundle that lands adds its line here.
TINY = {
    "rsanet": Tiny(
        {"filters": [8, 8, 16, 16, 32], "patch_size": [32, 32, 32]},
        columns=("beta_attention_coronal", "beta_attention_sagittal", "beta_attention_axial"),
        # the weight gradient of a convolution over 2 x 2 x 2 voxels varies in oneDNN: 3 x 3 x 3 at the bottleneck
        deterministic_bfloat16={"patch_size": [48, 48, 48]},
    ),
    "s2anet": Tiny(
        {"feature_scale": 16, "patch_size": [32, 32]},
        training={"batch_size": 8, "step_epochs": 2},
        shape=(40, 44, 8),
        spacing=(1, 1, 5),
        key_metric=("val_mean_iou", max),
        every_voxel={"windows": "sliding", "num_slices": 1},
        like_evaluation={"windows": "sliding"},
        bright=bright_slices,
        row=structure_row,
        bad_network=("up", "XX", "up 'XX'"),
    ),
    "s2ca_net": Tiny(
        {
            **{"patch_size": [32, 32, 32], "filters": [4, 8, 16, 32], "embed_channels": [16, 32]},
            **{"encoder_depths": [1, 1], "decoder_depths": [1, 1], "min_enhancing_voxels": 0},
            "windows": "foreground",  # one
        },
        steps=2,
        every_voxel={"windows": "sliding", "intensity": "nonzero", "min_region_voxels": 0},
        row=partial(tumour_metrics, lesion_wise=True),
        bad_network=("context", "XX", "context 'XX'"),
    ),
    "spineparsenet": Tiny(
        {"patch_size": [8, 24, 32], "width": 0.125, "crop_share": 1.0},
        training={"elastic_probability": 0.0, "pretrained": None},
        start=warm_start,
        segmenting={"stages": "coarse"},
        training_cases=4,  # two of the four for each of two processes, a batch
        shape=(8, 44, 36),
        spacing=(4, 1, 1),
        bright=lambda image, threshold: image > threshold,
        bright_above=500,
        row=spine_row,
        evaluated_alike=False,
        exported="train",
        bad_network=("graph_mode", "XX", "graph_mode is 'XX'"),
    ),
    "zoom_resunet": Tiny(
        {"base_width": 4, "patch_size": [24, 24, 24]},
        key_metric=("val_loss", min),
        steps=2,
        every_voxel={"windows": "sliding", "intensity": "zscore"},
        like_evaluation={"validation": "volumes"},
        row=stroke_metrics,
        bad_network=("num_groups", 3, "num_groups 3"),
    ),
}


@dataclass(frozen=True)
class Runs:
    """Runs of one bundle that share a data set and a folder for what they write."""

    name: str
    data: Path
    folder: Path

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def eval(self) -> Path:
        return self.folder / "eval"

    @property
    def bundle(self) -> Bundle:
        return available()[self.name]

    def elsewhere(self, folder: Path) -> Runs:
        return Runs(self.name, self.data, folder)

    def config(self, workflow: str) -> Path:
        assert self.bundle.folder is not None
        return self.bundle.folder / "configs" / f"{workflow}.json"

    def keys(self, workflow: str) -> set[str]:
        """The keys that a workflow of this bundle has."""
        return set(ConfigParser.load_config_file(self.config(workflow)))

    def options(self, workflow: str, **changes: Any) -> dict[str, Any]:
        """Overrides for a quick run, of those that the workflow has."""
        tiny = TINY[self.name]
        options = {"dataset_dir": str(self.data), "output_dir": str(self.eval), "device": "cpu", "amp": False}
        options |= {"num_workers": 0, "pictures": 0, "overlap": 0.25, "spacing": False, **tiny.options}
        options |= {"epochs": 2, "val_interval": 1, "ckpt_dir": str(self.models)}
        options |= {"checkpoint": str(self.models / "model.pt")}
        options |= tiny.segmenting if workflow in ("evaluate", "inference") else tiny.training
        if (self.data / START).is_file():
            options["pretrained"] = str(self.data / START)
        keys = self.keys(workflow)
        options = {key: value for key, value in options.items() if key in keys}
        return {**options, **{key.replace("__", "::"): value for key, value in changes.items()}}

    def workflow(self, workflow: str = "train", **changes: Any) -> ConfigWorkflow:
        """The workflow in this process, not initialized; ``a__b`` stands for the key ``a::b``."""
        return ConfigWorkflow(str(self.config(workflow)), logging_file=False, **self.options(workflow, **changes))

    def run(self, workflow: str = "train", **changes: Any) -> ConfigWorkflow:
        """Run in this process."""
        running = self.workflow(workflow, **changes)
        running.initialize()
        running.run()
        running.finalize()
        return running

    def refusal(self, workflow: str = "train", **changes: Any) -> str:
        """Run in this process and return the message with which the program would end, its exit status being 1."""
        with pytest.raises(SystemExit) as caught:
            self.run(workflow, **changes)
        message = caught.value.code
        assert isinstance(message, str), "only a text is printed and gives exit status 1"
        assert message.startswith("error: ")
        assert message.count("error: ") == 1
        return message

    def arguments(self, workflow: str = "train", **changes: Any) -> list[str]:
        """The same options as they are typed."""
        options = self.options(workflow, **changes)
        return [word for key, value in options.items() for word in (f"--{key}", str(value).replace(" ", ""))]


def monai(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """`python -m monai.bundle run ...` in a process of its own."""
    return python_m("monai.bundle", "run", *words, cwd=cwd)


def torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    """`torchrun -m ...` with two processes, on one thread each."""
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}  # in case it is not installed
    return subprocess.run(
        [*command, "-m", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def train_in_two_processes(runs: Runs, config: str = "train", **changes: Any) -> subprocess.CompletedProcess[str]:
    """The command that a person types; the device is the overlay's choice unless it is given."""
    files = str([str(runs.config(config)), str(runs.config("multi_gpu_train"))]).replace(" ", "")
    return torchrun("monai.bundle", "run", "training", "--config_file", files, *runs.arguments(config, **changes))


def run_here(name: str, configs: Sequence[str], overrides: Mapping[str, Any], run_id: str = "run") -> None:
    """In the place of the tools' `run_bundle`: the same configurations and words, without a process of its own."""
    folder = available()[name].folder
    assert folder is not None
    texts = {
        key: str(value).replace(" ", "") if isinstance(value, list) else str(value) for key, value in overrides.items()
    }
    words = {key: DefaultParseValue(text) for key, text in texts.items()}
    workflow = ConfigWorkflow([str(folder / "configs" / f"{one}.json") for one in configs], logging_file=False, **words)
    try:
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    except SystemExit as stop:
        print(stop, file=sys.stderr)
        raise InputError(f"this run of bundle {name} ended with exit status 1; see above.") from None


def make_data(folder: Path, bundle: Bundle) -> Path:
    """Cases to train, two to validate, one to test: a ball with a few blobs a label, on the bundle's small grid."""
    rng = np.random.default_rng(0)
    tiny = TINY[bundle.name]
    sections: dict[str, list[dict[str, Any]]] = {"training": [], "validation": [], "testing": []}
    folder.mkdir(parents=True, exist_ok=True)
    more = ["training"] * (tiny.training_cases - 2)
    for number, section in enumerate(["training", "training", "validation", "validation", "testing", *more]):
        label = blobs(rng, tuple(bundle.labels), tiny.shape, tiny.spacing)
        images = [f"case{number}_{modality}.nii.gz" for modality in bundle.modalities]
        affine = np.diag([*tiny.spacing, 1])
        for name in images:
            write(folder / name, scan(rng, label, spacing=tiny.spacing), affine)
        write(folder / f"case{number}_label.nii.gz", label, affine)
        sections[section].append({"image": images, "label": f"case{number}_label.nii.gz"})
    list_cases(folder, **sections)
    if tiny.start is not None:
        torch.save(tiny.start(tiny.options).state_dict(), folder / START)
    return folder


def grid_in_mm(shape: tuple[int, ...], spacing: Sequence[float]) -> np.ndarray:
    """Coordinates of all voxels: 3 x shape."""
    return np.indices(shape) * np.reshape(spacing, (3, 1, 1, 1))


def blobs(
    rng: np.random.Generator, labels: tuple[int, ...], shape: tuple[int, ...], spacing: Sequence[float] = (1, 1, 1)
) -> np.ndarray:
    """Three blobs of each label near the centre of 40 mm."""
    grid = grid_in_mm(shape, spacing)
    label = np.zeros(shape, np.uint8)
    for value in [value for value in labels if value] * 3:
        centre = rng.integers(12, 26, 3)
        label[((grid - centre[:, None, None, None]) ** 2).sum(0) < 9] = value
    return label


def scan(
    rng: np.random.Generator, label: np.ndarray, radius: int = 13, spacing: Sequence[float] = (1, 1, 1)
) -> np.ndarray:
    """A noisy ball, brighter where there is a label, in nothing: it is cropped to one window."""
    inside = ((grid_in_mm(label.shape, spacing) - 19) ** 2).sum(0) < radius**2
    return (inside * (300 + 50 * rng.normal(size=label.shape) + 400.0 * label)).astype(np.int16)


def write(path: Path, voxels: np.ndarray, affine: Any = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)
    return path


def list_cases(folder: Path, **sections: Any) -> None:
    (folder / "datalist.json").write_text(json.dumps(sections), encoding="utf-8")
