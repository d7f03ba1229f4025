# SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong with options or data, a bundle's run ends at once with one message, and has written nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from custom_nets.options import MEANINGS
from tests.bundle_runs import BUNDLES, TINY, Runs, list_cases, monai, write

Change = Callable[[Runs], dict[str, Any] | None]


def option(**changes: Any) -> Change:
    return lambda runs: changes


def listed(change: Callable[[dict[str, Any]], Any]) -> Change:
    """Change the content of the data list."""

    def build(runs: Runs) -> None:
        content = json.loads((runs.data / "datalist.json").read_text())
        change(content)
        list_cases(runs.data, **content)

    return build


def first_image(runs: Runs) -> Path:
    return runs.data / f"case0_{runs.bundle.modalities[0]}.nii.gz"


def image_to_segment(runs: Runs) -> Path:
    return runs.data / f"case4_{runs.bundle.modalities[0]}.nii.gz"


def label(runs: Runs) -> Path:
    return runs.data / "case2_label.nii.gz"


def rewritten(file: Callable[[Runs], Path], change: Callable[[np.ndarray], Any], affine: Any = None) -> Change:
    """Change the voxels of a file, in place or by returning others."""

    def build(runs: Runs) -> None:
        path = file(runs)
        image = nibabel.load(path)
        voxels = np.asarray(image.dataobj).astype(np.float32)
        changed = change(voxels)
        write(path, voxels if changed is None else changed, image.affine if affine is None else affine)

    return build


def truncated(runs: Runs) -> None:
    path = first_image(runs)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_order(content: dict[str, Any], runs: Runs) -> None:
    names = runs.bundle.modalities
    content["modality"] = {str(number): name for number, name in enumerate(reversed(names))}


def swapped(runs: Runs) -> dict[str, Any]:
    """Nothing to swap in a bundle of one modality; a bundle that brings channels into order is kept from it."""
    if len(runs.bundle.modalities) < 2:
        pytest.skip("one modality")
    listed(lambda content: other_order(content, runs))(runs)
    return {"reorder_channels": False} if "reorder_channels" in runs.keys("train") else {}


def blocked(name: str) -> Change:
    """A file where a folder should be."""

    def build(runs: Runs) -> dict[str, Any]:
        (runs.folder / "file").write_text("")
        return {name: str(runs.folder / "file" / "folder")}

    return build


def weights_of_another(runs: Runs) -> dict[str, Any]:
    torch.save({"weight": torch.zeros(2, 3)}, runs.folder / "other.pt")
    return {"pretrained": str(runs.folder / "other.pt")}


def network_option(runs: Runs) -> dict[str, Any]:
    key, value, _ = TINY[runs.name].bad_network
    return {f"network_def__{key}": value}


def patch_of_another_dimension(runs: Runs) -> dict[str, Any]:
    return {"patch_size": [32] * (5 - len(TINY[runs.name].options["patch_size"]))}


def nan(voxels: np.ndarray) -> None:
    voxels[3, 4, 5] = np.nan


def unknown_value(voxels: np.ndarray) -> None:
    voxels[:2, 0, 0] = 77


def one_image_more(content: dict[str, Any], section: str = "training") -> None:
    content[section][0]["image"].append(content["training"][1]["image"][0])


# what is wrong -> how it is made, and what the message has to contain: where, what was found, what to do
BAD: dict[str, tuple[Change, tuple[str, ...]]] = {
    "epochs negative": (option(epochs=-1), ("epochs is -1", "at least 1")),
    "epochs a fraction": (option(epochs=2.5), ("epochs is 2.5", "whole number")),
    "val_interval 0": (option(val_interval=0), ("val_interval is 0", "at least 1")),
    "batch_size text": (option(batch_size="two"), ("batch_size is 'two'", "whole number")),
    "num_workers negative": (option(num_workers=-2), ("num_workers is -2", "at least 0")),
    "seed text": (option(seed="lucky"), ("seed is 'lucky'", "whole number")),
    "learning_rate negative": (option(learning_rate=-0.1), ("learning_rate is -0.1", "at least 0")),
    "learning_rate infinite": (option(learning_rate=float("inf")), ("learning_rate is inf", "number")),
    "learning_rate text": (option(learning_rate="1e-3x"), ("learning_rate is '1e-3x'", "number")),
    "amp maybe": (option(amp="maybe"), ("amp is 'maybe'", "True or False")),
    "amp_dtype unknown": (option(amp_dtype="float8"), ("amp_dtype is 'float8'", "bfloat16")),
    "float16 on a CPU": (option(amp=True, amp_dtype="float16"), ("amp_dtype is 'float16'", "use bfloat16")),
    "patch_size of another dimension": (patch_of_another_dimension, ("patch_size is [32, 32", "give ", "as [")),
    "patch_size a number": (option(patch_size=32), ("patch_size is 32", "give ", "as [")),
    "spacing 0": (option(spacing=[1, 0, 1]), ("spacing is [1, 0, 1]", "in mm")),
    "spacing one number": (option(spacing=0), ("spacing is 0", "three sizes")),
    "overlap 1.5": (option(overlap=1.5), ("overlap is 1.5", "from 0")),
    "overlap text": (option(overlap="half"), ("overlap is 'half'", "number")),
    "device without CUDA": (option(device="cuda:99"), ("device is 'cuda:99'", "--device cpu")),
    "device unknown": (option(device="gpu"), ("device is 'gpu'", "cuda:0")),
    "lesion_threshold": (option(lesion_threshold=2), ("lesion_threshold is 2", "0.5")),
    "connectivity": (option(connectivity=7), ("connectivity is 7", "26")),
    "cache_rate": (option(cache_rate=50), ("cache_rate is 50", "0 to 1")),
    "ckpt_dir blocked": (blocked("ckpt_dir"), ("ckpt_dir is", "Not a directory", "name another folder")),
    "output_dir blocked": (blocked("output_dir"), ("output_dir is", "Not a directory", "--output_dir")),
    "network option": (network_option, ("network_def", "--network_def::")),
    "network option unknown": (option(network_def__filtres=3), ("'filtres': 3", "unexpected", "--network_def::")),
    "typo": (option(epoch=3), ("unknown option 'epoch' (3)", "did you mean 'epochs'")),
    "another typo": (option(learning_rat=0.1), ("'learning_rat' (0.1)", "did you mean 'learning_rate'", "train.json")),
    "typo in a group": (option(train__epochs=3), ("'train::epochs' (3)", "did you mean 'epochs'")),
    "option of another workflow": (option(tta=True), ("'tta' (True)", "train.json has no such key")),
    "pretrained missing": (option(pretrained="gone.pt"), ("gone.pt", "no such checkpoint file", "check the path")),
    "pretrained of another network": (weights_of_another, ("other.pt", "unexpected  weight [2, 3]", "same network")),
    "resume missing": (option(resume=True), ("last.pt", "no such checkpoint file", "train first")),
    "resume text": (option(resume="yes"), ("yes", "no such checkpoint file", "check the path")),
    "dataset_dir missing": (
        option(dataset_dir="gone"),
        ("dataset_dir 'gone'", "tools.demo_data", "tools.make_datalist"),
    ),
    "datalist missing": (option(datalist="gone.json"), ("gone.json", "does not exist", "tools.make_datalist")),
    "datalist no JSON": (
        lambda runs: (runs.data / "datalist.json").write_text("{'training': ]") and None,
        ("datalist.json", "not valid JSON", "correct that line"),
    ),
    "training empty": (listed(lambda c: c["training"].clear()), ("training list is empty", "add cases")),
    "validation missing": (listed(lambda c: c.pop("validation")), ("no 'validation' cases", "add them")),
    "case without label": (listed(lambda c: c["training"][0].pop("label")), ("training[0]", "no 'label'", "add")),
    "leakage": (listed(lambda c: c["validation"].append(c["training"][0])), ("leakage", "case0", "keep it in one")),
    "modalities in another order": (swapped, ("lists the modalities as", "expects", "--modalities")),
    "in_channels": (option(in_channels=7), ("case0", "give 7 modalities")),
    "one file too many": (listed(one_image_more), ("case0", "image file", "give")),
    "file missing": (lambda runs: first_image(runs).unlink(), ("case0", "does not exist", "correct the path")),
    "file truncated": (truncated, ("case0", "truncated", "download it again")),
    "NaN voxels": (rewritten(first_image, nan), ("case0", "1 NaN or infinite voxels", "replace them")),
    "other shape": (rewritten(label, lambda v: v[:, :-1]), ("case2_label", ", 43, ", "resample it")),
    "other affine": (
        rewritten(label, lambda v: None, np.diag([1, 1, 2, 1])),
        ("case2_label", "affine differs", "resample it"),
    ),
    "unknown label": (rewritten(label, unknown_value), ("case2_label", "77 (2 voxels)")),
}


@pytest.fixture
def spoilt(runs: Runs) -> Runs:
    """Runs on data of this test's own, beside an earlier run's model."""
    data = runs.folder / "data"
    shutil.copytree(runs.data, data)
    runs.models.mkdir()
    (runs.models / "model.pt").write_bytes(b"the earlier run's")
    return Runs(runs.name, data, runs.folder)


def of_other_bundles(runs: Runs, workflow: str, changes: dict[str, Any]) -> list[str]:
    """What is said of options that only other bundles, or other workflows, have."""
    return [f"'{key}' ({changes[key]!r})" for key in changes if key in MEANINGS and key not in runs.keys(workflow)]


@pytest.mark.parametrize("kind", BAD)
def test_refused_before_anything_is_written(spoilt: Runs, kind: str) -> None:
    build, fragments = BAD[kind]
    changes = build(spoilt) or {}
    message = spoilt.refusal(**changes)
    for fragment in of_other_bundles(spoilt, "train", changes) or fragments:
        assert fragment in message
    assert [path.name for path in spoilt.models.iterdir()] == ["model.pt"]
    assert (spoilt.models / "model.pt").read_bytes() == b"the earlier run's"
    assert not spoilt.eval.exists()


def test_an_unknown_label_tells_what_to_do(spoilt: Runs) -> None:
    rewritten(label, unknown_value)(spoilt)
    assert ("--label_graph FILE" if "label_graph" in spoilt.keys("train") else "map ") in spoilt.refusal()


def test_the_network_says_which_of_its_options_is_wrong(spoilt: Runs) -> None:
    assert TINY[spoilt.name].bad_network[-1] in spoilt.refusal(**network_option(spoilt))


def test_the_data_are_good_before_they_are_spoilt(spoilt: Runs) -> None:
    spoilt.workflow().initialize()
    assert [path.name for path in spoilt.models.iterdir()] == ["model.pt"]
    assert not spoilt.eval.exists()


# of inference and evaluation: what is not shared with a training
BAD_SEGMENTING: dict[str, tuple[Change, tuple[str, ...]]] = {
    "section": (option(section="test"), ("section 'test'", "training, validation, testing")),
    "tta": (option(tta="both"), ("tta is 'both'", "True or False")),
    "typo": (option(checkpont="x.pt"), ("'checkpont' ('x.pt')", "did you mean 'checkpoint'")),
    "option of the training": (option(epochs=3), ("'epochs' (3)", "has no such key")),
    "sw_batch_size": (option(sw_batch_size=0), ("sw_batch_size is 0", "at least 1")),
    "min_lesion_volume": (option(min_lesion_volume=-1), ("min_lesion_volume is -1", "at least 0")),
    "output_dir blocked": (blocked("output_dir"), ("output_dir is", "Not a directory")),
    "file missing": (
        lambda runs: [path.unlink() for path in runs.data.glob("case4_*")] and None,
        ("case4", "does not exist", "correct the path"),
    ),
    "dataset_dir missing": (option(dataset_dir="gone"), ("dataset_dir 'gone'", "tools.demo_data")),
    "one file too many": (listed(lambda c: one_image_more(c, "testing")), ("case4", "image file", "give")),
    "NaN voxels": (rewritten(image_to_segment, nan), ("case4", "1 NaN or infinite voxels", "replace them")),
}


@pytest.mark.parametrize("workflow", ["inference", "evaluate"])
@pytest.mark.parametrize("kind", BAD_SEGMENTING)
def test_refused_before_segmenting(trained: Runs, spoilt: Runs, workflow: str, kind: str) -> None:
    build, fragments = BAD_SEGMENTING[kind]
    changes = {"checkpoint": str(trained.models / "model.pt"), "section": "testing", **(build(spoilt) or {})}
    message = spoilt.refusal(workflow, **changes)
    for fragment in of_other_bundles(spoilt, workflow, changes) or fragments:
        assert fragment in message
    assert not spoilt.eval.exists()


def test_a_key_of_ones_own_may_be_referred_to(spoilt: Runs) -> None:
    """Overlays of users add keys: one that something refers to is no misspelt option."""
    patch = TINY[spoilt.name].options["patch_size"]
    spoilt.workflow(my_patch=patch, patch_size="@my_patch").initialize()
    spoilt.workflow(my={"patch": patch}, patch_size="@my::patch").initialize()
    assert f"unknown option 'my_patch' ({patch})" in spoilt.refusal(my_patch=patch)


def test_an_overlay_for_all_workflows_brings_keys_of_others(trained: Runs, spoilt: Runs) -> None:
    """Such as demo.json: its number of epochs means nothing to an inference, and is no mistake."""
    overlay = ConfigParser.load_config_file(spoilt.config("demo"))
    changes = {"checkpoint": str(trained.models / "model.pt"), **overlay, **TINY[spoilt.name].options}
    spoilt.workflow("inference", **changes).initialize()
    assert "'epochs'" in spoilt.refusal("inference", **{**changes, "epochs": overlay["epochs"] + 1})


def test_experiment_tracking_adds_its_keys(spoilt: Runs) -> None:
    options = spoilt.options("train")
    ConfigWorkflow(str(spoilt.config("train")), logging_file=False, tracking="mlflow", **options).initialize()


@pytest.mark.parametrize("bundle_name", BUNDLES[:1], indirect=True, scope="session")
def test_the_process_says_it_in_one_line(spoilt: Runs) -> None:
    """No traceback, exit status 1; of one bundle, as starting a process takes long."""
    options = [word for key, value in TINY[spoilt.name].options.items() for word in (f"--{key}", f"{value}")]
    ended = monai("--config_file", str(spoilt.config("train")), *options, "--epoch", "3")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("error: unknown option 'epoch' (3), did you mean 'epochs'?")
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("error: ") == 1
