# SPDX-License-Identifier: Apache-2.0
"""Runs of zoom_resunet: what it alone has of stages, windows, intensities, schedules and tables."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from pathlib import Path
from typing import Any, ClassVar

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from torch import nn

from custom_nets import ZoomResUNet
from custom_nets.losses import DiceBCELoss
from custom_nets.schedules import official, sgdr
from custom_nets.volume_crops import lesion_start, region
from tests.bundle_runs import TINY, Runs, list_cases, monai, write

pytestmark = pytest.mark.parametrize("bundle_name", ["zoom_resunet"], indirect=True, scope="session")

SIZE = TINY["zoom_resunet"].options["patch_size"]
WINDOWS = ("centre", "sliding", "whole")
#: Left-posterior-superior, axes permuted.
TURNED = np.array([[0, -1.0, 0, 50], [-1.2, 0, 0, 60], [0, 0, 0.9, -40], [0, 0, 0, 1]])


class Constant(nn.Module):
    """In the place of the network: one logit everywhere; what it sees is kept."""

    seen: ClassVar[list[torch.Tensor]] = []

    def __init__(self, logit: float = 10.0, **others: Any) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(logit))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen.append(image.clone())
        return torch.zeros_like(image) + self.logit


def constant(folder: Path, logit: float) -> dict[str, Any]:
    """Options with which a run gives one logit everywhere."""
    torch.save(Constant(logit).state_dict(), folder / "constant.pt")
    return {"checkpoint": str(folder / "constant.pt"), "network_def___target_": f"{__name__}.Constant"}


def one_scan(runs: Runs, voxels: np.ndarray, affine: Any = None) -> Runs:
    """Runs on one scan to segment."""
    write(runs.folder / "data" / "scan.nii.gz", voxels, affine)
    list_cases(runs.folder / "data", testing=[{"image": "scan.nii.gz"}])
    return Runs(runs.name, runs.folder / "data", runs.folder)


def predicted(runs: Runs) -> nibabel.Nifti1Image:
    (path,) = runs.eval.rglob("*.nii.gz")
    return nibabel.load(path)


def rows(runs: Runs, name: str = "metrics.csv") -> list[dict[str, str]]:
    with (runs.eval / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def noise(shape: tuple[int, ...], top: int = 255) -> np.ndarray:
    return np.random.default_rng(0).integers(1, top, shape).astype(np.int16)


# stages


@pytest.fixture
def checkout(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle in a repository of its own, which is the working folder."""
    root = runs.folder / "checkout"
    shutil.copytree(runs.config("train").parent, root / "bundles" / runs.name / "configs")
    monkeypatch.chdir(root)
    return root / "bundles" / runs.name


def options_of_stage(runs: Runs, **changes: Any) -> dict[str, Any]:
    options = runs.options("train", epochs=1, **changes)
    return {key: value for key, value in options.items() if key not in ("ckpt_dir", "output_dir")}


def test_zoom_out_by_hand_starts_from_the_bundles_model(trained: Runs, runs: Runs, checkout: Path) -> None:
    (checkout / "models").mkdir()
    shutil.copy(trained.models / "model.pt", checkout / "models")
    files = [f"bundles/{runs.name}/configs/{name}.json" for name in ("train", "zoom_out")]
    options = options_of_stage(runs, learning_rate=0, val_interval=5)
    words = [word for key, value in options.items() for word in (f"--{key}", str(value).replace(" ", ""))]
    ended = monai("training", "--config_file", str(files), *words, cwd=checkout.parents[1])
    assert ended.returncode == 0, ended.stderr
    told = ended.stdout + ended.stderr
    assert f"bundles/{runs.name}/models/model.pt: 126 of 126 entries of ZoomResUNet match" in told
    start, end = (
        torch.load(checkout / "models" / f"{place}model.pt", weights_only=True) for place in ("", "zoom_out/")
    )
    assert all(torch.equal(start[key], value) for key, value in end.items()), "with a rate of 0 the start is the end"
    assert (checkout / "eval" / "zoom_out" / "metrics.csv").is_file()


def test_zoom_out_by_hand_without_a_model_is_refused(runs: Runs, checkout: Path) -> None:
    before = sorted(checkout.rglob("*"))
    files = [f"bundles/{runs.name}/configs/{name}.json" for name in ("train", "zoom_out")]
    with pytest.raises(SystemExit) as caught:
        ConfigWorkflow(files, logging_file=False, **options_of_stage(runs)).initialize()
    message = str(caught.value)
    assert f"bundles/{runs.name}/models/model.pt: no such checkpoint file" in message and message.count("error: ") == 1
    assert sorted(checkout.rglob("*")) == before


def test_the_second_stage_has_all_properties_that_monai_asks_for(trained: Runs, runs: Runs) -> None:
    files = [str(runs.config(name)) for name in ("train", "zoom_out")]
    options = runs.options("train", pretrained=str(trained.models / "model.pt"))
    workflow = ConfigWorkflow(files, workflow_type="train", logging_file=False, **options)
    workflow.initialize()
    assert workflow.check_properties() == []


def test_a_narrower_model_may_be_taken_over_in_part(
    trained: Runs, runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    start = str(trained.models / "model.pt")
    assert "entries disagree" in runs.refusal(base_width=8, pretrained=start)
    assert "entries disagree" in runs.refusal(base_width=8, pretrained=start, pretrained_share=0.5)
    with caplog.at_level(logging.INFO):
        runs.run(epochs=1, val_interval=2, base_width=8, pretrained=start, pretrained_share=0.0)
    assert "1 of 126 entries of ZoomResUNet match" in caplog.text, "the bias of the last layer"


# schedule


@pytest.mark.parametrize(("schedule", "restart_epochs"), [("sgdr", 50), ("sgdr", 2), ("official", 1)])
def test_the_rate_of_every_iteration_behind_a_resume(
    trained: Runs, runs: Runs, schedule: str, restart_epochs: int
) -> None:
    """Also where the run so far followed another plan: what comes is as if it had always been this one."""
    shutil.copytree(trained.models, runs.models)
    options = {"schedule": schedule, "restart_epochs": restart_epochs}
    workflow = runs.workflow(epochs=5, val_interval=9, resume=True, **options)
    workflow.initialize()
    trainer = workflow.parser.get_parsed_content("train::trainer")
    used: list[float] = []
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda e: used.append(e.optimizer.param_groups[0]["lr"]))
    workflow.run()
    shares = [
        sgdr(k, 2 * restart_epochs) if schedule == "sgdr" else official(k, 2, restart_epochs) for k in range(6, 10)
    ]
    assert used == pytest.approx([1e-3 * share for share in shares], rel=1e-9, abs=1e-18)
    assert [float(row["learning_rate"]) for row in rows(runs)[3:]] == used[::2]


# selection


def test_the_loss_is_that_of_crops_around_the_lesions(trained: Runs) -> None:
    """Computed here from the files and the model of the best epoch."""
    network = ZoomResUNet(base_width=4)
    network.load_state_dict(torch.load(trained.models / "model.pt", weights_only=True))
    losses = []
    for number in (2, 3):
        image, label = (
            np.asarray(nibabel.load(trained.data / f"case{number}_{name}.nii.gz").dataobj) for name in ("T1", "label")
        )
        inside = region(lesion_start(label, SIZE), SIZE)
        crops = [torch.tensor(volume[inside][None, None] / scale) for volume, scale in ((image, 255), (label, 1))]
        with torch.no_grad():
            losses.append(DiceBCELoss()(network(crops[0].float()), crops[1].float()).item())
    assert min(float(row["val_loss"]) for row in rows(trained)) == pytest.approx(np.mean(losses), rel=1e-4)


def test_an_equal_loss_is_no_better_one(runs: Runs) -> None:
    runs.run(epochs=2, learning_rate=0)
    assert len({row["val_loss"] for row in rows(runs)}) == 1
    assert torch.load(runs.models / "last.pt", weights_only=True)["best_metric_epoch"] == 1


def test_validation_of_whole_volumes_is_what_an_evaluation_finds(runs: Runs) -> None:
    runs.run(epochs=1, validation="volumes")
    (row,) = rows(runs)
    metrics = runs.run("evaluate").parser.get_parsed_content("validate::evaluator").state.metrics
    for name in ("micro_dice", "mean_dice", "precision", "tpr"):
        assert float(row[f"val_{name}"]) == pytest.approx(metrics[name], rel=1e-6), name


@pytest.mark.parametrize("windows", WINDOWS)
def test_whole_volumes_of_any_windows_are_validated(runs: Runs, windows: str) -> None:
    runs.run(epochs=1, validation="volumes", windows=windows)
    assert 0 < float(rows(runs)[0]["val_loss"]) < 2


# windows


@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize("shape", [(40, 31, 36), (40, 7, 36), (9, 25, 14), (5, 6, 7)], ids=str)
def test_what_the_windows_see(runs: Runs, shape: tuple[int, int, int], windows: str) -> None:
    """Everything, or the centred crop; a thinner volume is padded. The scan's frame is not the network's."""
    scan = one_scan(runs, noise(shape), TURNED)
    scan.run("inference", windows=windows, **constant(runs.folder, 10.0))
    image = predicted(scan)
    assert image.shape == shape
    np.testing.assert_allclose(image.affine, TURNED, atol=1e-5)
    expected = np.ones(shape, bool)
    if windows == "centre":
        expected[:] = False
        # axes as the network has them: file's axis 1 reversed, file's axis 0 reversed, file's axis 2
        seen = expected.transpose(1, 0, 2)[::-1, ::-1]
        seen[
            tuple(slice(max((n - s) // 2, 0), max((n - s) // 2, 0) + s) for n, s in zip(seen.shape, SIZE, strict=True))
        ] = True
    np.testing.assert_array_equal(np.asarray(image.dataobj), expected)


def test_the_whole_volume_is_the_crop_of_its_size(trained: Runs, runs: Runs) -> None:
    volume = np.asarray(nibabel.load(trained.data / "case4_T1.nii.gz").dataobj)[:33, :30, :29]
    found = []
    for name, options in {
        "whole": {"windows": "whole"},
        "centre": {"windows": "centre", "patch_size": list(volume.shape)},
        "crop": {"windows": "centre"},
    }.items():
        scan = one_scan(runs.elsewhere(runs.folder / name), volume)
        scan.run("inference", checkpoint=str(trained.models / "model.pt"), lesion_threshold=0.3, **options)
        found.append(np.asarray(predicted(scan).dataobj))
    np.testing.assert_array_equal(found[0], found[1])
    assert 0 < found[0].mean() < 1
    assert (found[0] != found[2]).any()


# intensity


@pytest.mark.parametrize("intensity", ["divide", "percentile", "zscore"])
def test_what_the_network_sees(runs: Runs, intensity: str) -> None:
    volume = noise((24, 24, 24), 400)
    volume[:3] = 0
    scan = one_scan(runs, volume)
    Constant.seen.clear()
    scan.run("inference", intensity=intensity, **constant(runs.folder, 0.0))
    (seen,) = Constant.seen
    wide, inside = volume.astype(np.float64), volume[volume > 0]
    expected = {
        "divide": wide / 255,
        "percentile": wide / np.percentile(wide, 99.9),
        "zscore": np.where(wide > 0, (wide - inside.mean()) / inside.std(), 0),
    }[intensity]
    np.testing.assert_allclose(seen[0, 0].numpy(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("top", "intensity", "warned"),
    [(80, "divide", True), (250, "divide", False), (400, "divide", True), (80, "zscore", False)],
)
def test_a_dim_scan_is_told_where_it_is_divided_by_255(
    runs: Runs, top: int, intensity: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    one_scan(runs, noise((24, 24, 24), top)).run("inference", intensity=intensity, **constant(runs.folder, 0.0))
    told = [record.message for record in caplog.records if "99.9th percentile is" in record.message]
    assert bool(told) is warned
    assert all("--intensity percentile" in line and "scan.nii.gz" in line for line in told)


@pytest.mark.parametrize(
    ("workflow", "key", "choices"),
    [
        *((workflow, "intensity", "divide, percentile, zscore") for workflow in ("train", "inference", "evaluate")),
        *((workflow, "windows", "centre, sliding, whole") for workflow in ("train", "inference", "evaluate")),
        ("train", "schedule", "sgdr, official"),
        ("train", "validation", "crops, volumes"),
        ("evaluate", "assd", "pooled, directed"),
    ],
)
def test_an_unknown_choice_is_refused_with_those_there_are(
    trained: Runs, runs: Runs, workflow: str, key: str, choices: str
) -> None:
    given = {} if workflow == "train" else {"checkpoint": str(trained.models / "model.pt")}
    assert f"{key} is 'other': choose one of {choices}." in runs.refusal(workflow, **given, **{key: "other"})
    assert not runs.eval.exists()


@pytest.mark.parametrize("key", ["lesion_share", "flip_probability", "pretrained_share"])
def test_a_share_is_from_0_to_1(runs: Runs, key: str) -> None:
    assert f"{key} is 1.5: give a share from 0 to 1." in runs.refusal(**{key: 1.5})


# evaluation


def test_empty_masks_are_counted_as_left_out(runs: Runs) -> None:
    data = runs.folder / "data"
    shutil.copytree(runs.data, data)
    label = nibabel.load(data / "case2_label.nii.gz")
    write(data / "case2_label.nii.gz", np.zeros(label.shape, np.uint8), label.affine)
    evaluation = Runs(runs.name, data, runs.folder)
    evaluation.run("evaluate", pictures=2, **constant(runs.folder, -10.0))
    empty, missed = rows(evaluation, "metrics_per_case.csv")
    assert (float(empty["dice"]), float(missed["dice"])) == (1.0, 0.0)
    summary = json.loads((evaluation.eval / "metrics_summary.json").read_text())
    left_out = {key: value["left_out"] for key, value in summary["metrics"].items() if value["left_out"]}
    assert left_out == {"hd": 2, "hd95": 2, "assd": 2, "tpr": 1, "precision": 1}
    assert summary["metrics"]["dice"]["mean"] == 0.5 and summary["metrics"]["assd"]["mean"] is None
    card = (evaluation.eval / "metrics_table.md").read_text()
    assert "left out of a mean" in card and "hd 2" in card and "nan" not in card.lower()
    assert len(list(evaluation.eval.glob("*.png"))) == 2


def test_the_tables_of_an_evaluation(trained: Runs, runs: Runs) -> None:
    options = {"checkpoint": str(trained.models / "model.pt"), "bootstrap_resamples": 50}
    found = {}
    for assd in ("pooled", "directed"):
        runs.run("evaluate", assd=assd, **options)
        found[assd] = json.loads((runs.eval / "metrics_summary.json").read_text())
    assert found["pooled"]["bootstrap"]["resamples"] == 50 and found["pooled"]["cases"] == 2
    means = [one["metrics"]["assd"]["mean"] for one in found.values()]
    assert means[0] != means[1] and all(mean > 0 for mean in means)
    low, high = found["pooled"]["metrics"]["dice"]["ci95"]
    assert low <= found["pooled"]["metrics"]["dice"]["mean"] <= high
    assert (runs.eval / "metrics_table.md").read_text().startswith("| scans | microDSC | DSC | HD mm | ASSD mm |")
