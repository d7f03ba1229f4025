# SPDX-License-Identifier: Apache-2.0
"""Cross-validation of SpineParseNet: the whole pipeline in each fold, with networks that know their cases by heart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from custom_nets import registry
from custom_nets.datasets.datalist import load_section
from custom_nets.files import write_json, write_text
from custom_nets.metrics import spine_reports
from tests.tools import memorising_spines
from tests.tools.conftest import Refusal, typed
from tests.tools.memorising_spines import bundle_in, data_in, grey
from tools import _cross_folds, _stages, _steps, cross_validate
from tools._command import run as run_tool

FOLDS = 2
INFERENCE = {
    **{key: memorising_spines.CONFIGS["evaluate"][key] for key in ("width", "filters", "stages", "fine_size")},
    **{"patch_size": [6, 4, 4], "tta": False, "network_def": {}},
}
Call = tuple[str, dict[str, Any]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Call]:
    """Runs of the bundle, noted."""
    noted: list[Call] = []

    def note(name: str, configs: Sequence[str], overrides: Mapping[str, Any], run_id: str = "run") -> None:
        noted.append((configs[0], dict(overrides)))
        if configs[0] == "inference":
            for case in load_section(overrides["dataset_dir"], overrides["datalist"], overrides["section"]):
                stem = Path(case["image"][0]).name.removesuffix(".nii.gz")
                write_text(Path(overrides["output_dir"]) / f"{stem}_seg.nii.gz", "")
        else:
            memorising_spines.run_bundle(name, configs, overrides, run_id)

    fake = bundle_in(tmp_path / "bundle")
    write_json(tmp_path / "bundle" / "configs" / "inference.json", INFERENCE)
    monkeypatch.setattr(registry, "available", lambda: fake)
    monkeypatch.setattr(spine_reports, "spine_figure", lambda *arguments: arguments[-1])
    monkeypatch.setattr(cross_validate, "cross_validation_figure", lambda *drawn: None)
    for module in (_stages, _steps, _cross_folds):
        monkeypatch.setattr(module, "run_bundle", note)
    return noted


def words(data: Path, folder: Path, **options: Any) -> list[str]:
    given = {"k": FOLDS, "output_dir": folder, "inner_folds": 2, "width": 0.5, **options}
    return typed("spineparsenet", data, **given)


def run(data: Path, folder: Path, **options: Any) -> None:
    run_tool(cross_validate.cross_validate, words(data, folder, **options))


def test_each_fold_is_a_pipeline_that_has_not_seen_its_own_cases(tmp_path: Path, calls: list[Call]) -> None:
    data, folder = data_in(tmp_path / "data", training=10), tmp_path / "run"
    run(data, folder)
    one = [*["pretrain", "train"] * 3, "refine", "evaluate", "evaluate", "inference"]
    assert [config for config, _ in calls] == one * FOLDS
    for number in range(1, FOLDS + 1):
        fold = folder / f"fold{number}"
        own = {grey(case) for case in load_section(data, fold / "datalist.json", "testing")}
        assert len(own) == 6
        for model in fold.rglob("models/coarse/model.pt"):
            assert not own & set(torch.load(model, weights_only=True)["greys"].tolist())
    predicted = [overrides for config, overrides in calls if config == "inference"]
    assert [str(overrides["checkpoint"]) for overrides in predicted] == [
        str(folder / f"fold{number}" / "models" / "model.pt") for number in range(1, FOLDS + 1)
    ]
    assert {(overrides["width"], overrides["stages"]) for overrides in predicted} == {(0.5, "both")}
    assert {path.name for path in (folder / "predictions").iterdir()} == {f"Case{n}_seg.nii.gz" for n in range(12)}
    summary = json.loads((folder / "scores" / "metrics_summary.json").read_text(encoding="utf-8"))
    assert summary["cases_per_fold"] == [6, 6]
    ensemble = json.loads((folder / "ensemble" / "ensemble.json").read_text(encoding="utf-8"))
    assert ensemble["options"]["width"] == 0.5 and ensemble["options"]["stages"] == "both"
    assert not {"dataset_dir", "datalist", "section", "pictures"} & set(ensemble["options"])
    calls.clear()
    run(data, folder)
    assert calls == []


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"inner_folds": 9}, ("inner folds", "folds is 9", "number of patients, 4")),
        ({"logits": "none"}, ("logits is 'none'", "out_of_fold")),
        ({"epochs": 3}, ("option --epochs is unknown", "--refine_epochs")),
    ],
)
def test_refused_before_the_first_run(
    tmp_path: Path, changes: dict[str, Any], fragments: tuple[str, ...], calls: list[Call], refusal: Refusal
) -> None:
    data = data_in(tmp_path / "data", training=10)
    message = refusal(cross_validate.cross_validate, words(data, tmp_path / "run", **changes))
    assert all(fragment in message for fragment in fragments), message
    assert calls == [] and not (tmp_path / "run").exists()
