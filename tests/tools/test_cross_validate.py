# SPDX-License-Identifier: Apache-2.0
"""Cross-validation in one command: who sees which case, what is written, resume, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from custom_nets.datasets.datalist import read_datalist
from custom_nets.files import file_digest
from custom_nets.registry import available
from custom_nets.training import records
from custom_nets.training.records import RunRecords
from tests.bundle_runs import TINY, list_cases, make_data, run_here
from tests.tools.conftest import Refusal, typed
from tools import _cross_folds, _stages, _steps, cross_validate
from tools._command import run as run_tool

NAME = "rsanet"
FOLDS = 3
OPTIONS: dict[str, Any] = {
    **{"k": FOLDS, "epochs": 2, "val_interval": 1, "device": "cpu", "amp": False, "num_workers": 0, "pictures": 0},
    **{"overlap": 0.25, "spacing": False},
    **TINY[NAME].options,
}
Call = tuple[list[str], dict[str, Any], str]


class Stopped(BaseException):
    """The process ends here."""


def words(name: str, data: Path, folder: Path, **changes: Any) -> list[str]:
    """The options as they are typed."""
    return typed(name, data, **{"output_dir": folder, **OPTIONS, **changes})


def run(data: Path, folder: Path, **changes: Any) -> None:
    run_tool(cross_validate.cross_validate, words(NAME, data, folder, **changes))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four cases to train on and one to validate, in a folder whose name has spaces."""
    folder = make_data(tmp_path_factory.mktemp("cross") / "data of scans", available()[NAME])
    content = json.loads((folder / "datalist.json").read_text(encoding="utf-8"))
    cases = [case for part in ("training", "validation", "testing") for case in content[part]]
    list_cases(folder, training=cases[:4], validation=cases[4:])
    return folder


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Runs of bundles, noted and run in this process; the picture, of which the finished run has one, is not drawn."""
    noted: list[Call] = []
    use(monkeypatch, noted)
    monkeypatch.setattr(cross_validate, "cross_validation_figure", lambda *drawn: None)
    return noted


def use(monkeypatch: pytest.MonkeyPatch, noted: list[Call]) -> None:
    def here(name: str, configs: Sequence[str], overrides: Mapping[str, Any], run_id: str = "run") -> None:
        noted.append((list(configs), dict(overrides), run_id))
        run_here(name, configs, overrides, run_id)

    for module in (_stages, _steps, _cross_folds):
        monkeypatch.setattr(module, "run_bundle", here)
    monkeypatch.setattr(records, "learning_curves", lambda *paths: None)


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Call]]:
    """A run that was stopped within the training of its second fold and gone on with; what it ran."""
    folder = tmp_path_factory.mktemp("finished") / "a run"
    noted: list[Call] = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        use(monkeypatch, noted)
        note: Any = RunRecords._note

        def stopping(self: Any, engine: Any) -> None:
            note(self, engine)
            if engine.state.epoch == 2 and len(noted) == 4:
                raise Stopped

        monkeypatch.setattr(RunRecords, "_note", stopping)
        with pytest.raises(Stopped):
            run(data, folder)
        monkeypatch.setattr(RunRecords, "_note", note)
        run(data, folder)
    return folder, noted


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_file_is_in_its_place(finished: tuple[Path, list[Call]]) -> None:
    folder = finished[0]
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    expected = {"cross_validation.json", "ensemble/ensemble.json"}
    expected |= {f"scores/metrics{end}" for end in ("_per_case.csv", "_summary.json", ".csv", ".png")}
    expected |= {f"predictions/case{number}_T1_seg.nii.gz" for number in range(5)}
    for fold in ("fold1", "fold2", "fold3"):
        expected |= {f"{fold}/datalist.json", f"{fold}/predictions.json", f"{fold}/eval/metrics.csv"}
        expected |= {f"{fold}/models/{name}" for name in ("model.pt", "last.pt", "inputs.json")}
        expected |= {f"{fold}/evaluation/metrics_{name}" for name in ("per_case.csv", "summary.json")}
        expected |= {f"{fold}/evaluation/{name}.json" for name in ("evaluation", "inputs")}
        expected |= {f"ensemble/{fold}/model.pt"}
    assert {file for file in files if "tfevents" not in file and "fingerprint" not in file} == expected


def test_stopped_and_gone_on_with(finished: tuple[Path, list[Call]], data: Path, calls: list[Call]) -> None:
    """What was done is not done again, a training goes on at its last epoch, and a third call does nothing."""
    folder, noted = finished
    one = [("train", "training"), ("evaluate", "run"), ("inference", "run")]
    assert [(configs[0], run_id) for configs, _, run_id in noted] == [*one, one[0], *one, *one]
    trainings = [overrides for configs, overrides, _ in noted if configs[0] == "train"]
    assert [overrides["resume"] for overrides in trainings] == [False, False, True, False]
    assert [len(table(folder / f"fold{number}/eval/metrics.csv")) for number in (1, 2, 3)] == [2, 2, 2]
    results = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".png"]
    before = {path: path.read_bytes() for path in results}
    run(data, folder)
    assert calls == []
    assert {path: path.read_bytes() for path in results} == before


def test_every_case_is_segmented_by_a_model_that_has_not_seen_it(finished: tuple[Path, list[Call]], data: Path) -> None:
    folder = finished[0]
    rows = table(folder / "scores" / "metrics_per_case.csv")
    assert sorted(row["case"] for row in rows) == [f"case{number}_T1.nii.gz" for number in range(5)]
    for number in range(1, FOLDS + 1):
        sections = read_datalist(data, folder / f"fold{number}" / "datalist.json")
        images = [{image for case in cases for image in case["image"]} for cases in sections.values()]
        assert len(set.union(*images)) == sum(map(len, images)) == 5 * 3, "no case is in two lists"
        own = {row["case"] for row in rows if row["fold"] == str(number)}
        assert own == {Path(case["image"][0]).name for case in sections["testing"]}
        assert own == {row["case"] for row in table(folder / f"fold{number}" / "evaluation/metrics_per_case.csv")}


def test_predictions_are_what_was_scored(finished: tuple[Path, list[Call]], data: Path) -> None:
    folder = finished[0]
    for row in table(folder / "scores" / "metrics_per_case.csv"):
        prediction = np.asarray(nibabel.load(folder / "predictions" / row["case"].replace(".nii", "_seg.nii")).dataobj)
        label = np.asarray(nibabel.load(data / row["case"].replace("T1", "label")).dataobj)
        assert int(row["tp"]) == np.count_nonzero(prediction * label)
        assert int(row["fp"]) == np.count_nonzero(prediction * (1 - label))


def test_means_and_spreads(finished: tuple[Path, list[Call]]) -> None:
    folder = finished[0]
    rows = table(folder / "scores" / "metrics_per_case.csv")
    dice = [[float(row["dice"]) for row in rows if row["fold"] == str(number)] for number in (1, 2, 3)]
    means = [np.mean(fold) for fold in dice]
    summary = json.loads((folder / "scores" / "metrics_summary.json").read_text(encoding="utf-8"))
    assert (summary["cases"], summary["cases_per_fold"]) == (5, [len(fold) for fold in dice])
    one = summary["metrics"]["dice"]
    assert one["mean"] == pytest.approx(np.mean(np.concatenate(dice)))
    assert one["std"] == pytest.approx(np.std(np.concatenate(dice), ddof=1))
    assert one["fold_means"] == pytest.approx(means)
    assert one["mean_of_folds"] == pytest.approx(np.mean(means))
    assert one["std_of_folds"] == pytest.approx(np.std(means, ddof=1))
    (line,) = [row for row in table(folder / "scores" / "metrics.csv") if row["metric"] == "dice"]
    assert [float(line[f"fold{number}"]) for number in (1, 2, 3)] == pytest.approx(means)
    assert float(line["std_of_folds"]) == pytest.approx(np.std(means, ddof=1))


def test_the_ensemble_holds_all_models(
    finished: tuple[Path, list[Call]], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished[0]
    content = json.loads((folder / "ensemble" / "ensemble.json").read_text(encoding="utf-8"))
    assert content["bundle"] == NAME and content["version"] == available()[NAME].version
    assert content["checkpoints"] == [f"fold{number}/model.pt" for number in (1, 2, 3)]
    expected = {key: OPTIONS[key] for key in ("filters", "patch_size", "overlap", "spacing", "amp")}
    assert content["options"] == expected
    for checkpoint in content["checkpoints"]:
        fold = Path(checkpoint).parent
        assert file_digest(folder / "ensemble" / checkpoint) == file_digest(folder / fold / "models" / "model.pt")
        assert torch.load(folder / "ensemble" / checkpoint, weights_only=True)
    run(data, folder)
    told = capsys.readouterr().out
    assert f"python -m tools.predict rsanet SCANS OUT_DIR --checkpoint '{folder / 'ensemble'}'" in told
    assert "has one case of its own" in told and "mean ± SD of folds" in told


def test_a_changed_model_is_scored_and_applied_anew(
    finished: tuple[Path, list[Call]], data: Path, calls: list[Call]
) -> None:
    folder = finished[0]
    model = folder / "fold3" / "models" / "model.pt"
    weights = torch.load(model, weights_only=True)
    torch.save({key: value.clone() for key, value in weights.items()}, folder / "other.pt")
    (folder / "other.pt").replace(model)
    changed = file_digest(model) != file_digest(folder / "ensemble" / "fold3" / "model.pt")
    run(data, folder)
    assert [configs[0] for configs, _, _ in calls] == (["evaluate", "inference"] if changed else [])
    assert file_digest(folder / "ensemble" / "fold3" / "model.pt") == file_digest(model)


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"k": 1}, ("k is 1", "at least 2", "-k 5")),
        ({"k": "five"}, ("k is 'five'", "-k 5")),
        ({"k": 6}, ("folds is 6", "number of patients, 5")),
        ({"k": 2}, ("folds is 2", "left to train on")),
        ({"seed": -1}, ("seed is -1",)),
        ({"epochs": 0}, ("epochs is 0", "at least 1")),
        ({"lesion_shares": 1}, ("option --lesion_shares is unknown", "tools.info rsanet")),
        ({"checkpoint": "x.pt"}, ("option --checkpoint is unknown",)),
        ({"overlay": "demos"}, ("overlay is 'demos'", "demos.json")),
        ({"patch_size": 24}, ("patch_size is 24", "three whole numbers")),
        ({"datalist": "gone.json"}, ("gone.json", "does not exist")),
    ],
)
def test_refused_before_the_first_run(
    data: Path, tmp_path: Path, changes: dict[str, Any], fragments: tuple[str, ...], calls: list[Call], refusal: Refusal
) -> None:
    message = refusal(cross_validate.cross_validate, words(NAME, data, tmp_path / "run", **changes))
    assert all(fragment in message for fragment in fragments), message
    assert calls == [] and not (tmp_path / "run").exists()


def test_an_unknown_bundle_is_refused(data: Path, tmp_path: Path, refusal: Refusal) -> None:
    words_of_unet = words("unet", data, tmp_path)
    assert "bundle 'unet' is unknown" in refusal(cross_validate.cross_validate, words_of_unet)


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"seed": 4}, "seed 0, not 4"),
        ({"k": 5}, "k 3, not 5"),
        ({"epochs": 9}, "epochs 2, not 9"),
        ({"lesion_threshold": 0.4}, "options {'lesion_threshold': None}, not {'lesion_threshold': '0.4'}"),
    ],
)
def test_another_recipe_in_the_same_folder_is_refused(
    finished: tuple[Path, list[Call]],
    data: Path,
    changes: dict[str, Any],
    fragment: str,
    calls: list[Call],
    refusal: Refusal,
) -> None:
    message = refusal(cross_validate.cross_validate, words(NAME, data, finished[0], **changes))
    assert "cross_validation.json: is of a run with" in message and "fold*" in message
    assert fragment in message or "data list" in message, message
    assert calls == []


def test_patients_stay_together_and_testing_takes_part_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [
        {
            "image": [f"{number}_{name}.nii" for name in ("T1", "T2", "FLAIR")],
            "label": f"{number}.nii",
            "patient": patient,
        }
        for number, patient in enumerate("AABCDE")
    ]
    list_cases(tmp_path, training=cases[:4], validation=cases[4:5], testing=cases[5:])
    for module in (_stages, _steps, _cross_folds):
        monkeypatch.setattr(module, "run_bundle", stop)
    for with_testing, count in ((False, 4), (True, 5)):
        folder = tmp_path / str(with_testing)
        with pytest.raises(Stopped):
            run(tmp_path, folder, with_testing=with_testing, k=count)
        lists = [read_datalist(tmp_path, folder / f"fold{number + 1}/datalist.json") for number in range(count)]
        own = [sorted(case["patient"] for case in sections["testing"]) for sections in lists]
        assert ["A", "A"] in own and sorted(patient for one in own for patient in one) == list(
            "AABCDE" if with_testing else "AABCD"
        )


def stop(*arguments: Any, **named: Any) -> None:
    raise Stopped
