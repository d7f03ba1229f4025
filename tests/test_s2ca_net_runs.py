# SPDX-License-Identifier: Apache-2.0
"""Runs of s2ca_net: what it alone has of channel orders, label conventions, names, presets, windows and cleaning."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from torch import nn

from custom_nets.tumours.cleaning import labels_from_regions, remove_small_regions, suppress_small_enhancing
from custom_nets.tumours.regions import converted
from tests.bundle_runs import Runs, bright_inside, list_cases, train_in_two_processes, write

pytestmark = pytest.mark.parametrize("bundle_name", ["s2ca_net"], indirect=True, scope="session")

#: Left-anterior-superior, axes permuted: nothing of it is the network's own frame.
TURNED = np.array([[0, -1.0, 0, 50], [1.2, 0, 0, -60], [0, 0, 0.9, -40], [0, 0, 0, 1]])
#: Every voxel is seen, and each modality scaled by its own, as `bright_inside` does.
AS_IT_IS = {"windows": "sliding", "intensity": "nonzero", "min_region_voxels": 0, "min_enhancing_voxels": 0}


class OneModalityEach(nn.Module):
    """In the place of the network: of T1, T2, T1CE and FLAIR each decides over one of background, ET, TC and WT."""

    limits = (9.0, 1.3, 1.2, 0.4)

    def __init__(self, **others: Any) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(50.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.scale * (image - image.new_tensor(self.limits).view(-1, 1, 1, 1))


@pytest.fixture
def simple(tmp_path: Path) -> dict[str, Any]:
    """Options with which a run has that network."""
    torch.save(OneModalityEach().state_dict(), tmp_path / "simple.pt")
    target = f"{__name__}.{OneModalityEach.__name__}"
    return {"checkpoint": str(tmp_path / "simple.pt"), "network_def___target_": target, **AS_IT_IS}


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def rows(runs: Runs, name: str = "metrics.csv") -> list[dict[str, str]]:
    with (runs.eval / name).open(encoding="utf-8", newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


def listed(runs: Runs) -> dict[str, Any]:
    return json.loads((runs.data / "datalist.json").read_text())


def overlay(runs: Runs, name: str) -> dict[str, Any]:
    return ConfigParser.load_config_file(runs.config(name))


def on_own_data(runs: Runs, name: str = "data") -> Runs:
    """Runs on a copy of the data, in a folder of their own."""
    data = runs.folder / name / "data"
    shutil.copytree(runs.data, data)
    return Runs(runs.name, data, runs.folder / name)


def predicted(runs: Runs) -> dict[str, np.ndarray]:
    return {str(path.relative_to(runs.eval)): voxels(path) for path in sorted(runs.eval.rglob("*.nii.gz"))}


# channels


@pytest.fixture
def stacked(runs: Runs) -> Runs:
    """The same cases as the Decathlon has them: one 4D file a case, FLAIR first."""
    own = on_own_data(runs, "stacked")
    order = ("FLAIR", "T1", "T1CE", "T2")
    sections = listed(own)
    for case in [case for cases in sections.values() for case in cases]:
        name = case["image"][0].split("_")[0]
        images = [nibabel.load(own.data / f"{name}_{modality}.nii.gz") for modality in order]
        write(own.data / f"{name}_T1.nii.gz", np.stack([image.dataobj for image in images], -1), images[0].affine)
        case["image"] = f"{name}_T1.nii.gz"
    list_cases(own.data, **sections, modality=dict(enumerate(order)))
    return own


def test_4d_files_of_another_order_are_the_list_of_their_channels(
    runs: Runs, stacked: Runs, simple: dict[str, Any]
) -> None:
    for own in (runs, stacked):
        own.run(epochs=1)
        own.run("evaluate", **simple, lesion_wise=False)
        own.run("inference", section="validation", **simple)
    assert rows(runs) == rows(stacked)
    assert rows(runs, "metrics_per_case.csv") == rows(stacked, "metrics_per_case.csv")
    assert float(rows(runs, "metrics_per_case.csv")[0]["dice_wt"]) > 0.5
    pair = predicted(runs), predicted(stacked)
    assert list(pair[0]) == list(pair[1]) == ["case2_T1_seg.nii.gz", "case3_T1_seg.nii.gz"]
    for name, prediction in pair[0].items():
        np.testing.assert_array_equal(prediction, pair[1][name])
        assert set(np.unique(prediction)) == {0, 1, 2, 4}


@pytest.mark.parametrize("workflow", ["train", "inference"])
def test_another_order_is_refused_where_none_is_to_be_put_right(
    stacked: Runs, simple: dict[str, Any], workflow: str
) -> None:
    given = {} if workflow == "train" else simple
    message = stacked.refusal(workflow, reorder_channels=False, **given)
    assert "lists the modalities as FLAIR, T1, T1CE, T2" in message and "expects T1, T2, T1CE, FLAIR" in message


def test_a_modality_that_is_missing_is_refused(runs: Runs) -> None:
    own = on_own_data(runs)
    content = listed(own)
    content["training"][1]["image"].pop()
    list_cases(own.data, **content)
    message = own.refusal()
    for fragment in ("case1", "3 image files", "4 modalities (T1, T2, T1CE, FLAIR)"):
        assert fragment in message


# label conventions


def in_convention(runs: Runs, convention: str, header: bool) -> Runs:
    """The data with label maps of another convention."""
    own = on_own_data(runs, convention)
    for path in own.data.glob("*_label.nii.gz"):
        label = nibabel.load(path)
        write(path, converted(label.dataobj, "brats", convention), label.affine)
    if header:
        list_cases(own.data, **listed(own), label_convention=convention)
    return own


@pytest.mark.parametrize("convention", ["brats2023", "msd"])
@pytest.mark.parametrize("header", [True, False], ids=["auto", "option"])
def test_labels_of_any_convention_are_the_same(
    trained: Runs, runs: Runs, simple: dict[str, Any], convention: str, header: bool
) -> None:
    own = in_convention(runs, convention, header)
    option = {} if header else {"label_convention": convention}
    items = []
    for these, options in ((runs, {}), (own, option)):
        these.run("evaluate", **simple, **options, lesion_wise=False, bootstrap_resamples=10)
        parser = these.workflow(**options).parser
        parser["imports"] += ["$import torch"]
        items.append([parser.get_parsed_content(f"{group}::dataset")[0]["label"] for group in ("train", "validate")])
    assert rows(runs, "metrics_per_case.csv") == rows(own, "metrics_per_case.csv")
    for mine, theirs in zip(*items, strict=True):
        assert torch.equal(mine, theirs)
    target, reference = items[1]
    assert target.shape[0] == 4 and reference.unique().tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize("workflow", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("files", "given", "told"),
    [
        ("brats2023", {}, "brats has 0, 1, 2, 4: give --label_convention brats2023"),
        ("brats", {"label_convention": "msd"}, "msd has 0, 1, 2, 3: give --label_convention brats"),
        ("brats", {"label_convention": "brats21"}, "label_convention is 'brats21': choose one of auto, brats"),
    ],
)
def test_another_convention_than_the_files_is_refused(
    runs: Runs, simple: dict[str, Any], workflow: str, files: str, given: dict[str, Any], told: str
) -> None:
    own = in_convention(runs, files, header=False)
    message = own.refusal(workflow, **given, **({} if workflow == "train" else simple))
    assert told in message
    assert "brats21" in str(given) or "case" in message
    assert not own.eval.exists() and not own.models.exists()


@pytest.mark.parametrize("convention", ["brats2023", "msd"])
def test_predictions_in_another_convention(runs: Runs, simple: dict[str, Any], convention: str) -> None:
    runs.run("inference", **simple)
    other = runs.elsewhere(runs.folder / "other")
    other.run("inference", output_convention=convention, pictures=1, **simple)
    ((name, mine),) = predicted(runs).items()
    assert set(np.unique(mine)) == {0, 1, 2, 4}
    np.testing.assert_array_equal(predicted(other)[name], converted(mine, "brats", convention))
    assert len(list(other.eval.glob("*.png"))) == 1


# names and grids


def turned_cases(runs: Runs, *names: str) -> Runs:
    """The case to test, turned, in folders as the challenges have them."""
    folder = runs.folder / "turned"
    for name in names:
        for modality in runs.bundle.modalities:
            write(folder / f"{name}_{modality.lower()}.nii.gz", voxels(runs.data / f"case4_{modality}.nii.gz"), TURNED)
    cases = [[f"{name}_{modality.lower()}.nii.gz" for modality in runs.bundle.modalities] for name in names]
    list_cases(folder, testing=[{"image": images} for images in cases])
    return Runs(runs.name, folder, runs.folder)


def test_predictions_named_as_their_cases(runs: Runs, simple: dict[str, Any]) -> None:
    names = ("BraTS-GLI-00001-000", "BraTS-GLI-00002-000")
    own = turned_cases(runs, *(f"{name}/{name}" for name in names))
    own.run("inference", output_names="case", **simple)
    assert list(predicted(own)) == [f"{name}.nii.gz" for name in names]
    flair = voxels(runs.data / "case4_FLAIR.nii.gz").astype(np.float64)
    for name in names:
        image = nibabel.load(own.eval / f"{name}.nii.gz")
        assert image.shape == flair.shape and image.get_data_dtype() == np.uint8
        np.testing.assert_allclose(image.affine, TURNED, atol=1e-5)
        found = np.asarray(image.dataobj)
        whole = bright_inside(flair, OneModalityEach.limits[3])
        assert (found[whole] > 0).all() and 100 < whole.sum() < whole.size // 4


def test_cases_of_one_name_are_refused(runs: Runs, simple: dict[str, Any]) -> None:
    own = turned_cases(runs, "a/case", "b/case")
    message = own.refusal("inference", output_names="case", **simple)
    assert "two cases are called 'case'" in message and "--output_names image" in message
    own.run("inference", **simple)
    assert list(predicted(own)) == ["a/case_t1_seg.nii.gz", "b/case_t1_seg.nii.gz"]


# cleaning


def cleaned(
    regions: np.ndarray,
    *,
    min_region_voxels: int,
    min_enhancing_voxels: int,
    suppression: Any = "global",
    nesting: Any = "published",
    **others: Any,
) -> np.ndarray:
    regions = suppress_small_enhancing(
        remove_small_regions(regions, min_region_voxels), min_enhancing_voxels, suppression
    )
    return labels_from_regions(regions, nesting)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"min_region_voxels": 3},
        {"min_enhancing_voxels": 10**6},
        {"min_enhancing_voxels": 200, "suppression": "local"},
        {"nesting": "nested"},
        {"min_region_voxels": 3, "min_enhancing_voxels": 200, "suppression": "local", "nesting": "nested"},
    ],
    ids=str,
)
def test_label_maps_are_cleaned_in_the_published_order(
    runs: Runs, simple: dict[str, Any], options: dict[str, Any]
) -> None:
    """Computed here from the scans."""
    runs.run("inference", **(simple | options))
    scans = [voxels(runs.data / f"case4_{name}.nii.gz").astype(np.float64) for name in runs.bundle.modalities]
    pairs = zip(scans, OneModalityEach.limits, strict=True)
    regions = np.stack([bright_inside(scan, limit) for scan, limit in pairs]).astype(np.uint8)
    plain = cleaned(regions, **AS_IT_IS)
    expected = cleaned(regions, **(AS_IT_IS | options))
    (found,) = predicted(runs).values()
    np.testing.assert_array_equal(found, expected)
    assert (found != plain).any() == bool(options), "the option changes something"


def test_the_threshold_of_regions(trained: Runs, runs: Runs) -> None:
    sizes = []
    for threshold in (0.3, 0.5, 0.7):
        given = {"checkpoint": str(trained.models / "model.pt"), "min_region_voxels": 0}
        runs.run("inference", region_threshold=threshold, **given)
        (found,) = predicted(runs).values()
        sizes.append(np.count_nonzero(found))
    assert sizes[0] > sizes[1] > sizes[2]


# presets and options of training


def last(runs: Runs) -> dict[str, Any]:
    return torch.load(runs.models / "last.pt", weights_only=True)


def test_all_cases_train_without_a_validation(runs: Runs) -> None:
    runs.run(**overlay(runs, "all_cases"), cache_rate=0.5, epochs=1)
    state = last(runs)
    assert sorted(path.name for path in runs.models.iterdir()) == ["last.pt", "model.fingerprint.json", "model.pt"]
    model = torch.load(runs.models / "model.pt", weights_only=True)
    assert all(torch.equal(state["model"][key], value) for key, value in model.items())
    assert state["lr_scheduler"]["last_epoch"] == 4, "two cases to train and two to validate"
    assert not [column for column in rows(runs)[0] if column.startswith("val_")]
    before = rows(runs)
    runs.run(**overlay(runs, "all_cases"), resume=True)
    assert rows(runs)[:1] == before and len(rows(runs)) == 2
    state, model = last(runs)["model"], torch.load(runs.models / "model.pt", weights_only=True)
    assert all(torch.equal(state[key], value) for key, value in model.items()), "the last epoch is the model"


def test_all_cases_need_no_validation_list(runs: Runs) -> None:
    own = on_own_data(runs)
    sections = listed(own)
    list_cases(own.data, training=sections["training"])
    own.run(**overlay(runs, "all_cases"), epochs=1)
    assert last(own)["lr_scheduler"]["last_epoch"] == 2
    with pytest.raises(SystemExit, match="has no 'validation' cases"):
        own.run(epochs=1)


def test_all_cases_in_two_processes(runs: Runs) -> None:
    """MONAI's sampler refuses to share out no cases at all, unless evenly."""
    ended = train_in_two_processes(runs, **overlay(runs, "all_cases"), epochs=1)
    assert ended.returncode == 0, ended.stderr
    assert last(runs)["lr_scheduler"]["last_epoch"] == 2, "four cases in two processes"
    assert (runs.models / "model.pt").is_file()


def test_the_other_recipe(runs: Runs) -> None:
    recipe = overlay(runs, "sgd")
    for key in ("overlap", "min_enhancing_voxels", "epochs"):
        recipe.pop(key)
    recipe |= {"warmup_epochs": 1, "plateau_epochs": 0}
    runs.run(**recipe)
    (group,) = last(runs)["optimizer"]["param_groups"]
    wanted = {"momentum": 0.99, "nesterov": True, "weight_decay": 0.0005, "initial_lr": 0.01}
    assert {key: group[key] for key in wanted} == wanted
    found = [float(row["learning_rate"]) for row in rows(runs)]
    assert found == pytest.approx([1e-5, 0.01])


def test_a_plan_longer_than_the_run_is_refused(runs: Runs) -> None:
    message = runs.refusal(**overlay(runs, "sgd") | {"epochs": 40})
    assert "warmup_epochs is 5, plateau_epochs 45 and epochs 40" in message
    assert not runs.models.exists()


def test_a_host_that_sets_the_number_of_epochs_shortens_the_plan(runs: Runs) -> None:
    """As MONAI Label does, by the trainer's argument."""
    parser = runs.workflow(epochs=400, train__trainer__max_epochs=16).parser
    parser["imports"] += ["$import torch"]
    schedule = parser.get_parsed_content("lr_scheduler").lr_lambdas[0]
    assert [schedule(k) for k in (0, 3, 4)] == [1, 1, 1] and schedule(31) < 0.1  # two steps an epoch, two at the top


def test_the_published_checkpoints_network(runs: Runs) -> None:
    def sizes(**changes: Any) -> dict[str, torch.Size]:
        network = runs.workflow("inference", **changes).parser.get_parsed_content("network_def")
        return {key: value.shape for key, value in network.state_dict().items()}

    plain = {key: overlay(runs, "inference")[key] for key in ("filters", *overlay(runs, "published_checkpoint"))}
    published, paper = sizes(**plain | overlay(runs, "published_checkpoint")), sizes(**plain)
    assert 360 in {size for shape in published.values() for size in shape}
    assert 360 not in {size for shape in paper.values() for size in shape}
    assert len(published) > len(paper), "two more blocks in the decoder"


@pytest.mark.parametrize(
    "options",
    [
        {"deep_supervision": False, "batch_size": 2},
        {"amp": True, "batch_size": 2},
        {"intensity": "volume", "per_modality": True, "image_interpolation": "bilinear", "elastic_probability": 1},
        {
            "local_global": False,
            "context": "none",
            "deformable": "none",
            "intensity": "nonzero",
            "blending": "gaussian",
        },
        {"patch_size": [48, 48, 48], "val_interval": 5},  # the scans have 40 x 44 x 36 voxels
        {"windows": "sliding", "cudnn_benchmark": True, "flip_probability": 1, "spacing": [1.5, 1.5, 1.5]},
    ],
    ids=str,
)
def test_what_is_trained_is_segmented(runs: Runs, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("benchmark", "deterministic"):
        monkeypatch.setattr(torch.backends.cudnn, key, getattr(torch.backends.cudnn, key))
    runs.run(epochs=1, **options)
    assert math.isfinite(float(rows(runs)[0]["train_loss"])) and float(rows(runs)[0]["train_loss"]) > 0
    shared = {key: value for key, value in options.items() if key in runs.keys("inference")}
    runs.run("inference", **shared)
    (found,) = predicted(runs).values()
    assert found.shape == (40, 44, 36) and set(np.unique(found)) <= {0, 1, 2, 4}
    assert all(value.isfinite().all() for value in torch.load(runs.models / "model.pt", weights_only=True).values())


def test_heads_are_weighed(runs: Runs) -> None:
    """The loss of four heads, from full resolution to the deepest, is the weighted sum of that of each."""
    loss = runs.workflow().parser.get_parsed_content("loss")
    generator = torch.Generator().manual_seed(0)
    heads = [torch.randn(1, 4, 4, 4, 4, generator=generator) for _ in range(4)]
    target = (torch.rand(1, 4, 4, 4, 4, generator=generator) > 0.5).float()
    expected = sum(weight * loss.loss(head, target) for weight, head in zip((0.8, 0.6, 0.3, 0.2), heads, strict=True))
    torch.testing.assert_close(loss(heads, target), expected)
    torch.testing.assert_close(loss(heads[0], target), loss.loss(heads[0], target))


# windows


def test_fast_windows_see_the_head_alone(trained: Runs, runs: Runs) -> None:
    given = {"checkpoint": str(trained.models / "model.pt"), "patch_size": [32, 32, 32], "min_region_voxels": 0}
    found = {}
    for name, options in {"published": {"windows": "sliding", "overlap": 0.75}, "fast": overlay(runs, "fast")}.items():
        runs.run("inference", **given, **options)
        (found[name],) = predicted(runs).values()
    # the ball from voxel 7 to 31 along each axis lies in one window of 32, wherever that begins
    outside = np.ones(found["fast"].shape, bool)
    outside[:39, :39, :39] = False
    assert found["published"][outside].any()
    assert not found["fast"][outside].any() and found["fast"].any()
    assert found["published"].shape == found["fast"].shape and (found["published"] != found["fast"]).any()
