# SPDX-License-Identifier: Apache-2.0
"""Runs of spineparsenet: its three trainings after one another, both stages in one inference, and what they refuse."""

from __future__ import annotations

import csv
import json
import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from custom_nets.checkpoints import read_checkpoint, save_weights
from custom_nets.label_graphs.reading import read_label_graph
from custom_nets.spine.weights import join_stages
from custom_nets.training.reproducible import SeedEpoch
from tests.bundle_runs import Runs, list_cases, train_in_two_processes, write
from tests.test_resume import Interrupted, assert_same_run
from tests.tools.small_spines import AFFINE, OPTIONS, SHAPE, data_in
from tools import coarse_logits

#: Of all stages, of the first and of the second.
SHARED = {"crop_share": 1.0, "width": OPTIONS["width"]}
COARSE = {**SHARED, "patch_size": OPTIONS["coarse_size"]}
FINE = {"crop_share": 1.0, "patch_size": OPTIONS["fine_size"], "coarse_size": OPTIONS["coarse_size"]} | {
    key: OPTIONS[key] for key in ("filters", "width")
}
BOTH = {**COARSE, "fine_size": OPTIONS["fine_size"], "filters": OPTIONS["filters"]}
#: Axes permuted, left and right exchanged: nothing of it is the network's own frame.
TURNED = np.array([[0, 0, -4.0, 50], [1, 0, 0, -60], [0, 1, 0, -40], [0, 0, 0, 1]])


def stage(runs: Runs, name: str, **changes: Any) -> dict[str, Any]:
    """Options of a training, in a folder of its own; one epoch."""
    size = FINE if name == "refine" else COARSE
    given = {"ckpt_dir": str(runs.models / name), "output_dir": str(runs.eval / name), "epochs": 1, "batch_size": 2}
    if name == "refine":
        given |= {"coarse_checkpoint": str(runs.models / "train" / "model.pt"), "coarse_logits": "computed"}
        given |= {"logits_dir": str(runs.folder / "logits")}
    return {**given, "elastic_probability": 0.0, **size, **changes}


@pytest.fixture(scope="module")
def spines(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The three trainings, one epoch each; read what they wrote, write nowhere."""
    folder = tmp_path_factory.mktemp("spines")
    runs = Runs("spineparsenet", data_in(folder / "data"), folder)
    runs.run("pretrain", **stage(runs, "pretrain"))
    runs.run("train", **stage(runs, "train", pretrained=str(runs.models / "pretrain" / "model.pt")))
    runs.run("refine", **stage(runs, "refine"))
    return runs


@pytest.fixture
def own(spines: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Runs on the same data, which write into this test's folder."""
    monkeypatch.setattr("custom_nets.training.records.learning_curves", lambda *paths: None)
    return spines.elsewhere(tmp_path)


def checkpoints(spines: Runs, **changes: Any) -> dict[str, Any]:
    """Options of an evaluation or inference of both stages."""
    models = spines.models
    given = {"checkpoint": str(models / "train" / "model.pt"), **BOTH, "stages": "both"}
    return {**given, "refinement_checkpoint": str(models / "refine" / "model.pt"), **changes}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def on_scan(runs: Runs, scan: np.ndarray, affine: np.ndarray, **header: Any) -> Runs:
    """Runs on one scan to segment."""
    data = runs.folder / "data"
    write(data / "scan.nii.gz", scan, affine)
    list_cases(data, testing=[{"image": "scan.nii.gz"}], **header)
    return Runs(runs.name, data, runs.folder)


def segmented(runs: Runs, spines: Runs, name: str = "one", **changes: Any) -> nibabel.Nifti1Image:
    """The label map that an inference writes."""
    folder = runs.folder / name
    runs.run("inference", output_dir=str(folder), **checkpoints(spines, **changes))
    (path,) = folder.rglob("*.nii.gz")
    return nibabel.load(path)


def some_scan(spines: Runs) -> np.ndarray:
    return voxels(spines.data / "Case5.nii.gz")


# the three trainings


def test_the_training_starts_from_the_pre_training(spines: Runs, own: Runs, caplog: pytest.LogCaptureFixture) -> None:
    start = str(spines.models / "pretrain" / "model.pt")
    with caplog.at_level(logging.INFO):
        own.run("train", **stage(own, "train", pretrained=start, learning_rate=0))
    assert "332 of 345 entries of GCSN match" in caplog.text
    before, after = (torch.load(path, weights_only=True) for path in (start, own.models / "train" / "model.pt"))
    learnt = [name for name in before if "running_" not in name and "num_batches" not in name]
    assert all(torch.equal(before[name], after[name]) for name in learnt), "with a rate of 0 the start is the end"


def test_without_a_pre_training_it_starts_anew_and_says_so(
    own: Runs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(own.config("train").parent, own.folder / "bundles" / own.name / "configs")
    monkeypatch.chdir(own.folder)
    default = ConfigParser.load_config_file(own.config("train"))["pretrained"]
    with caplog.at_level(logging.WARNING):
        own.workflow("train", **stage(own, "train", pretrained=default)).initialize()
    assert "models/pretrain/model.pt is not there: training starts from random weights" in caplog.text


@pytest.mark.parametrize("loss_name", ["pixelwise", "fpfn"])
@pytest.mark.parametrize("name", ["train", "refine"])
def test_losses_of_the_border(spines: Runs, own: Runs, name: str, loss_name: str) -> None:
    models = str(spines.models / "train" / "model.pt")
    changes = {"coarse_checkpoint": models} if name == "refine" else {}
    own.run(name, **stage(own, name, loss_name=loss_name, **changes))
    (mine,), (plain,) = (rows(runs.eval / name / "metrics.csv") for runs in (own, spines))
    assert 0 < float(mine["train_loss"]) != float(plain["train_loss"])


@pytest.mark.parametrize("graph_mode", ["none", "global_reasoning", "transfer"])
def test_other_graphs_train_and_segment(own: Runs, graph_mode: str) -> None:
    own.run("train", **stage(own, "train", graph_mode=graph_mode))
    checkpoint = str(own.models / "train" / "model.pt")
    labels = segmented(own, own, graph_mode=graph_mode, stages="coarse", checkpoint=checkpoint)
    assert labels.shape == SHAPE


@pytest.mark.parametrize("name", ["pretrain", "train", "refine"])
def test_ended_at_any_moment_and_resumed(spines: Runs, own: Runs, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded = SeedEpoch.__call__

    def seed_epoch(self: Any, engine: Any) -> None:
        if engine.state.epoch == 2:
            raise Interrupted
        seeded(self, engine)

    shared = {"coarse_checkpoint": str(spines.models / "train" / "model.pt")} if name == "refine" else {}
    found = []
    for place in ("whole", "broken"):
        runs = own.elsewhere(own.folder / place)
        folders = {"ckpt_dir": str(runs.models), "output_dir": str(runs.eval)}
        options = stage(runs, name, epochs=2, elastic_probability=0.5, **folders, **shared)
        if place == "broken":
            with monkeypatch.context() as patch:
                patch.setattr(SeedEpoch, "__call__", seed_epoch)
                with pytest.raises(Interrupted):
                    runs.run(name, **options)
            options["resume"] = True
        runs.run(name, **options)
        found.append(runs)
    assert_same_run(*found)


@pytest.mark.parametrize("name", ["pretrain", "refine"])
def test_the_other_trainings_have_all_properties_that_monai_asks_for(spines: Runs, own: Runs, name: str) -> None:
    given = {"coarse_checkpoint": str(spines.models / "train" / "model.pt")} if name == "refine" else {}
    workflow = own.workflow(name, **stage(own, name, **given))
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_the_refinement_in_two_processes(spines: Runs, own: Runs) -> None:
    data = data_in(own.folder / "data", validation=2)
    runs = replace(own, data=data)
    options = stage(runs, "refine", coarse_checkpoint=str(spines.models / "train" / "model.pt"))
    ended = train_in_two_processes(runs, "refine", **options)
    assert ended.returncode == 0, ended.stderr
    weights = torch.load(runs.models / "refine" / "model.pt", weights_only=True)
    assert not any(name.startswith("module.") for name in weights)
    told = re.findall(r"process (\d), epoch 1: (val_[^\n]*)", ended.stdout + ended.stderr)
    assert len(told) == 2 and len({score for _, score in told}) == 1, "both processes know the scores of all cases"


# the coarse logits of the refinement


def stored(spines: Runs, folder: Path, *sections: str) -> str:
    """The folder of stored logits, in-sample."""
    for section in sections:
        coarse_logits.main(
            str(spines.data),
            checkpoint=str(spines.models / "train" / "model.pt"),
            out=str(folder),
            section=section,
            device="cpu",
            amp=False,
            num_workers=0,
            **COARSE,
        )
    return str(folder)


def test_stored_and_computed_logits_train_alike(spines: Runs, own: Runs) -> None:
    folder = stored(spines, own.folder / "logits", "training", "validation")
    checkpoint = str(spines.models / "train" / "model.pt")
    found = []
    for source in ("stored", "computed"):
        runs = own.elsewhere(own.folder / source)
        options = {"coarse_logits": source, "logits_dir": folder, "out_of_fold": False, "coarse_checkpoint": checkpoint}
        runs.run("refine", **stage(runs, "refine", **options))
        found.append(torch.load(runs.models / "refine" / "model.pt", weights_only=True))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-3, atol=1e-4)


def test_the_first_stage_may_lie_in_a_file_of_both(spines: Runs, own: Runs) -> None:
    both = own.folder / "both.pt"
    models = spines.models
    join_stages(models / "train" / "model.pt", models / "refine" / "model.pt", both)
    own.run("refine", **stage(own, "refine", coarse_checkpoint=str(both)))
    found = [torch.load(runs.models / "refine" / "model.pt", weights_only=True) for runs in (spines, own)]
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        ({"coarse_logits": "stored"}, ("Case0.npz", "tools.coarse_logits")),
        ({"coarse_checkpoint": "gone.pt"}, ("gone.pt: no such checkpoint file",)),
        ({"coarse_logits": "both"}, ("coarse_logits is 'both'", "stored, computed")),
        ({"patch_size": [32, 60]}, ("patch_size is [32, 60]", "multiples of 16")),
        ({"coarse_size": [16, 32]}, ("coarse_size is [16, 32]", "[18,128,256]")),
    ],
)
def test_a_refinement_without_logits_is_refused(
    spines: Runs, own: Runs, options: dict[str, Any], fragments: tuple[str, ...]
) -> None:
    given = {"coarse_checkpoint": str(spines.models / "train" / "model.pt"), **options}
    message = own.refusal("refine", **stage(own, "refine", **given))
    for fragment in fragments:
        assert fragment in message
    assert not own.models.exists() and not own.eval.exists()


def test_in_sample_logits_are_refused_unless_they_are_wanted(spines: Runs, own: Runs) -> None:
    folder = stored(spines, own.folder / "logits", "training", "validation")
    message = own.refusal("refine", **stage(own, "refine", coarse_logits="stored", logits_dir=folder))
    assert "Case0" in message and "out_of_fold" in message


# evaluation and inference


@pytest.mark.parametrize("stages", ["both", "coarse"])
def test_evaluation_scores_what_inference_writes(spines: Runs, own: Runs, stages: str) -> None:
    given = checkpoints(spines, stages=stages)
    own.run("evaluate", **given)
    (row,) = rows(own.eval / "metrics_per_case.csv")
    own.run("inference", output_dir=str(own.folder / "predicted"), section="validation", **given)
    (path,) = (own.folder / "predicted").rglob("*.nii.gz")
    accuracy = (voxels(path) == voxels(spines.data / "mask4.nii.gz")).mean()
    assert float(row["accuracy"]) == pytest.approx(accuracy, rel=1e-6)
    assert json.loads((own.eval / "metrics_summary.json").read_text())["cases"] == 1


def test_one_file_of_both_stages_is_the_two_files(spines: Runs, own: Runs) -> None:
    both = own.folder / "both.pt"
    join_stages(spines.models / "train" / "model.pt", spines.models / "refine" / "model.pt", both)
    scan = on_scan(own, some_scan(spines), AFFINE)
    single = segmented(scan, spines, "single", checkpoint=str(both), refinement_checkpoint=None)
    np.testing.assert_array_equal(single.dataobj, segmented(scan, spines, "two").dataobj)


@pytest.mark.parametrize("stages", ["both", "coarse"])
def test_the_label_map_lies_on_the_scan_however_it_is_stored(spines: Runs, own: Runs, stages: str) -> None:
    """The same spine, stored in another order of axes and directions, gets the same labels at the same places."""
    voxel = some_scan(spines)
    plain = segmented(on_scan(own.elsewhere(own.folder / "a"), voxel, AFFINE), spines, stages=stages)
    stored_otherwise = np.ascontiguousarray(voxel.transpose(1, 2, 0)[:, :, ::-1])
    turned = segmented(on_scan(own.elsewhere(own.folder / "b"), stored_otherwise, TURNED), spines, stages=stages)
    assert turned.shape == stored_otherwise.shape and turned.get_data_dtype() == np.uint8
    np.testing.assert_allclose(turned.affine, TURNED, atol=1e-5)
    assert nibabel.aff2axcodes(turned.affine) == nibabel.aff2axcodes(TURNED)
    np.testing.assert_array_equal(np.asarray(turned.dataobj), np.asarray(plain.dataobj).transpose(1, 2, 0)[:, :, ::-1])


@pytest.mark.parametrize("shape", [(1, 20, 24), (9, 31, 17)], ids=str)
@pytest.mark.parametrize("options", [{"windows": "sliding"}, {"crop_share": 0.5}, {"slice_spacing": 6.0}], ids=str)
def test_any_number_of_slices_of_any_size(
    spines: Runs, own: Runs, shape: tuple[int, int, int], options: dict[str, Any]
) -> None:
    voxel = np.random.default_rng(0).integers(1, 900, shape).astype(np.int16)
    labels = segmented(on_scan(own, voxel, AFFINE), spines, **options)
    assert labels.shape == shape
    np.testing.assert_allclose(labels.affine, AFFINE)
    outside = np.ones(shape, bool)
    outside[:, shape[1] // 4 : shape[1] - shape[1] // 4] = "crop_share" not in options
    assert "crop_share" not in options or not np.asarray(labels.dataobj)[outside].any()


def test_values_are_those_of_the_label_graph(own: Runs) -> None:
    """SPIDER's discs are 201 and more; a file's other value for a label trains as that label."""
    data = data_in(own.folder / "data")
    graph = read_label_graph("spider")
    for path in data.glob("mask*.nii.gz"):
        label = voxels(path)
        values = {1: 101, 2: 2, 11: 201}  # 101: a first vertebra that is seen in part
        write(path, np.vectorize(lambda value, of=values: of.get(value, 0))(label).astype(np.uint8), AFFINE)
    content = json.loads((data / "datalist.json").read_text())
    list_cases(data, **content, label_graph="spider")
    runs = replace(own, data=data)
    runs.run("train", **stage(runs, "train"))
    checkpoint = str(runs.models / "train" / "model.pt")
    weights = torch.load(checkpoint, weights_only=True)
    (last,) = [name for name in weights if name.endswith("bias") and len(weights[name]) == len(graph)][-1:]
    weights[last][graph.nodes("disc")[0]] += 1e4
    torch.save(weights, checkpoint)
    labels = segmented(runs, runs, stages="coarse", checkpoint=checkpoint)
    assert set(np.unique(labels.dataobj)) <= set(graph.names) and labels.get_data_dtype() == np.uint8
    assert 201 in np.unique(labels.dataobj)


def test_the_order_of_the_labels_is_reported(spines: Runs, own: Runs) -> None:
    segmented(own, spines)
    assert (own.folder / "one" / "order_check.csv").read_text().startswith("case,")


@pytest.mark.parametrize("options", [{"tta": True}, {"keep_largest": True}], ids=str)
def test_mirrored_and_cleaned(spines: Runs, own: Runs, options: dict[str, Any]) -> None:
    found = [np.asarray(segmented(own, spines, name, **given).dataobj) for name, given in (("a", {}), ("b", options))]
    assert found[0].shape == found[1].shape
    if "keep_largest" in options:
        changed = found[0] != found[1]
        assert not found[1][changed].any(), "what is taken away becomes background"


def opposite_weights(path: Path, spines: Runs) -> Path:
    """Write weights of the second stage that prefer what the trained ones do not."""
    trained = read_checkpoint(spines.models / "refine" / "model.pt")
    save_weights({name: -value if "classify" in name else value for name, value in trained.items()}, path)
    return path


def test_the_second_stage_alone_may_lie_in_a_file_of_both(spines: Runs, own: Runs) -> None:
    both = own.folder / "both.pt"
    join_stages(spines.models / "train" / "model.pt", spines.models / "refine" / "model.pt", both)
    given = {"stages": "refine", "logits_dir": stored(spines, own.folder / "logits", "testing")}
    expected = segmented(own, spines, "own", **given)
    found = segmented(own, spines, "none", **given, checkpoint=str(both), refinement_checkpoint=None)
    np.testing.assert_array_equal(found.dataobj, expected.dataobj)
    other = opposite_weights(own.folder / "opposite.pt", spines)
    found = segmented(own, spines, "other", **given, checkpoint=str(both), refinement_checkpoint=str(other))
    assert (np.asarray(found.dataobj) != np.asarray(expected.dataobj)).any(), "what is named wins over the file of both"


def test_the_second_stage_alone_on_stored_logits_is_both(spines: Runs, own: Runs) -> None:
    """But for the half precision in which they are stored."""
    folder = stored(spines, own.folder / "logits", "testing")
    both = np.asarray(segmented(own, spines, "both").dataobj)
    gone = {"stages": "refine", "logits_dir": folder, "checkpoint": "gone.pt"}
    assert (np.asarray(segmented(own, spines, "refine", **gone).dataobj) == both).mean() > 0.99
    for changes, told in (({"tta": True}, "tta mirrors volumes"), ({"logits_dir": "nothing"}, "nothing/Case5.npz")):
        assert told in own.refusal("inference", **checkpoints(spines, **{**gone, **changes}))
    assert not own.eval.exists()


# what is refused


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"refinement_checkpoint": "gone.pt"}, ("gone.pt: no such checkpoint file",)),
        ({"refinement_checkpoint": None}, ("holds the first stage alone", "refine.json", "--stages coarse")),
        ({"stages": "fine"}, ("stages is 'fine'", "both, coarse, refine")),
        ({"fine_size": [60, 64]}, ("fine_size is [60, 64]", "multiples of 16")),
        ({"filters": [4, 8]}, ("filters is [4, 8]", "five")),
        ({"filters": [4, 4, 4, 4, 4]}, ("is no checkpoint of this", "entries disagree")),
        ({"width": 0.125}, ("is no checkpoint of this", "entries disagree")),
        ({"label_graph": "gone.json"}, ("label_graph is 'gone.json'", "mrspineseg, spider", "exists")),
    ],
)
def test_an_inference_that_cannot_be_is_refused(
    spines: Runs, own: Runs, changes: dict[str, Any], fragments: tuple[str, ...]
) -> None:
    message = own.refusal("inference", **checkpoints(spines, **changes))
    for fragment in fragments:
        assert fragment in message
    assert not own.eval.exists()


@pytest.mark.parametrize("text", ["{", '{"labels": []}', "[]"])
def test_a_broken_label_graph_is_refused(own: Runs, text: str) -> None:
    path = own.folder / "graph.json"
    path.write_text(text)
    message = own.refusal("train", **stage(own, "train", label_graph=str(path)))
    assert str(path) in message


def test_unknown_values_name_the_option(own: Runs) -> None:
    message = own.refusal("train", **stage(own, "train", label_graph="spider"))
    assert "label_graph" in message and "11" in message
