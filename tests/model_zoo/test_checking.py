# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from custom_nets.config_linter import BUNDLE_RULES, CONFIG_RULES
from custom_nets.errors import InputError
from custom_nets.model_zoo import code_rules, live_rules
from custom_nets.model_zoo.checking import RULES, check_bundle
from custom_nets.model_zoo.verdicts import Verdict, fails, judged, later, not_checked, read_subject, text_of
from custom_nets.registry import ROOT, available
from tests.model_zoo.spoiled_exports import SPOILED, exported
from tests.spoiled_configs import GONE, put

_FORMATTERS = ("black", "isort", "flake8")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """An export to spoil."""
    return shutil.copytree(sound, tmp_path / sound.name, symlinks=True)


def lines(verdicts: list[Verdict], *words: str) -> list[str]:
    return [str(verdict) for verdict in verdicts if verdict.verdict in words]


@pytest.mark.parametrize("name", available())
def test_no_rule_is_broken_by_the_bundles(name: str) -> None:
    verdicts = check_bundle(ROOT / "bundles" / name, live=False)
    assert lines(verdicts, "fails") == []
    assert "custom_nets is in the bundle" in "\n".join(lines(verdicts, "later"))


def test_each_rule_has_one_verdict_and_an_export_lacks_nothing(folder: Path) -> None:
    verdicts = check_bundle(folder, live=False)
    assert lines(verdicts, "fails", "later") == []
    rules = [*RULES, *BUNDLE_RULES, *CONFIG_RULES]
    assert [verdict.rule for verdict in verdicts] == list(map(text_of, rules))
    assert len({verdict.rule for verdict in verdicts}) == len(rules)
    assert all(len((rule.__doc__ or "").strip().splitlines()) == 1 for rule in (*RULES, *live_rules.RULES))


@pytest.mark.parametrize(
    ("rule", "spoil", "verdict", "told"), SPOILED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_is_spoiled_is_told_by_its_rule(
    rule: str, spoil: Callable[[Path], Any], verdict: str, told: str, folder: Path
) -> None:
    moved = spoil(folder)
    subject = read_subject(moved if isinstance(moved, Path) and moved.is_dir() else folder)
    (one,) = [one for one in RULES if one.__name__ == rule]
    found = judged(text_of(one), one(subject))
    assert found.verdict == verdict and told in found.told, str(found)


def test_every_rule_can_be_broken() -> None:
    tested = {rule for rule, _, _, _ in SPOILED} | {f"{name}_agrees" for name in _FORMATTERS}
    assert {rule.__name__ for rule in RULES} == tested


@pytest.mark.parametrize("tool", _FORMATTERS)
def test_the_zoos_formatters_are_asked_where_they_are_installed(
    tool: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = read_subject(folder)
    (rule,) = [rule for rule in RULES if rule.__name__ == f"{tool}_agrees"]
    monkeypatch.setattr(code_rules, "find_spec", lambda name: None)
    assert judged("", rule(subject)) == Verdict("", "not checked", f"pip install {tool}")
    monkeypatch.setattr(code_rules, "find_spec", lambda name: name)
    (tmp_path / f"{tool}.py").write_text("import sys; print(sys.argv[1]); sys.exit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = judged("", rule(subject))
    assert found.verdict == "fails" and found.told.startswith("1 lines, the first: --"), str(found)


def test_missing_and_foreign_code_is_told(folder: Path) -> None:
    (folder / "custom_nets").unlink()
    shutil.copytree(
        ROOT / "custom_nets", folder / "custom_nets", ignore=shutil.ignore_patterns("__pycache__", "*.json")
    )
    (folder / "custom_nets" / "mine.py").write_text("")
    found = judged("", code_rules.code_is_complete(read_subject(folder)))
    assert "custom_nets/config_linter/metadata_schema_2024.json is missing -> export the bundle again" in found.told
    assert "custom_nets/mine.py is not part of the package" in found.told


def test_a_model_that_large_files_fetch_need_not_be_there(folder: Path) -> None:
    (folder / "models" / "model.pt").unlink()
    (folder / "large_files.yml").write_text("large_files: [{path: models/model.pt, url: 'https://example.org/m.pt'}]")
    (line,) = [str(one) for one in check_bundle(folder, live=False) if one.rule == "models/model.pt is there"]
    assert line.startswith("not checked  models/model.pt is there: is at https://example.org/m.pt: python -m monai.")


def test_the_worst_problem_is_the_verdict_and_many_are_counted() -> None:
    problems = [later("a"), not_checked("b"), *(fails(str(number), "x") for number in range(5))]
    assert judged("rule", problems) == Verdict("rule", "fails", "0 -> x; 1 -> x; 2 -> x; and 2 more")
    assert judged("rule", problems[:2]).verdict == "later"
    assert str(judged("rule", [])) == "ok           rule"


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no folder configs; give the folder of a bundle"):
        check_bundle(tmp_path)


def spoiled_network(folder: Path) -> None:
    put("inference", "network_def::out_channels", 3)(folder)


#: Live rule, what spoils a sound export, the verdict and a part of what must be told.
_LIVE: list[tuple[str, Callable[[Path], Any], str, str]] = [
    ("code_is_the_bundles", lambda folder: None, "fails", "custom_nets is imported from"),
    ("monai_accepts_the_metadata", put("metadata", "copyright", GONE), "fails", "'copyright' is a required property"),
    ("monai_accepts_the_network", spoiled_network, "fails", "output channel number `3` doesn't match: `2`"),
    ("weights_fit", spoiled_network, "fails", "entries disagree"),
    ("weights_fit", lambda folder: (folder / "models" / "model.pt").unlink(), "fails", "there is no model yet"),
    (
        "monai_exports_torchscript",
        put("inference", "network_def", {"_target_": "tests.model_zoo.test_checking.Unscripted"}),
        "fails",
        "ship a traced models/model.ts, or say why not in docs/parity.json",
    ),
    ("torchscript_loads", lambda folder: (folder / "models" / "a.ts").write_text("x"), "fails", "a.ts: "),
    ("onnx_loads", lambda folder: (folder / "models" / "a.onnx").write_text("x"), "fails", "a.onnx: "),
    ("paths_begin_here", put("train", "bundle_root", "elsewhere"), "fails", "train.json has 'elsewhere'"),
    ("train_has_its_properties", put("train", "train::inferer", GONE), "fails", "inferer"),
    (
        "evaluate_has_its_properties",
        put("evaluate", "validate::evaluator::key_val_metric", "$@validate::wrong_metric"),
        "fails",
        "wrong_metric",
    ),
    ("inference_has_its_properties", put("inference", "inferer", GONE), "fails", "inferer"),
    (
        "inference_has_its_properties",
        put("metadata", "bundle", "own"),
        "not checked",
        "no made-up data for a bundle 'own'",
    ),
]


class Unscripted(torch.nn.Module):
    """A network that TorchScript does not take."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        return values[0] * self.weight


@pytest.mark.parametrize(
    ("rule", "spoil", "verdict", "told"), _LIVE, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_does_not_run_is_told_by_its_rule(
    rule: str,
    spoil: Callable[[Path], Any],
    verdict: str,
    told: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(folder)
    if rule == "monai_exports_torchscript":
        torch.save(Unscripted().state_dict(), folder / "models" / "model.pt")
    monkeypatch.chdir(folder)
    found = live_rules.verdict_of(live_rules.Running(read_subject(folder), tmp_path / "scratch"), rule)
    assert found.verdict == verdict and told in found.told, str(found)


def test_every_live_rule_can_be_broken() -> None:
    assert {rule.__name__ for rule in live_rules.RULES} == {rule for rule, _, _, _ in _LIVE}


def test_an_export_runs_with_its_own_code_and_nothing_is_written_into_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "custom_nets").unlink()
    shutil.copytree(ROOT / "custom_nets", folder / "custom_nets", ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(folder.rglob("*"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    verdicts = check_bundle(Path(os.path.relpath(folder)))
    assert lines(verdicts, "fails", "later") == []
    assert [verdict.rule for verdict in verdicts][-len(live_rules.RULES) :] == list(map(text_of, live_rules.RULES))
    assert sorted(folder.rglob("*")) == before


def test_code_that_cannot_be_imported_breaks_a_rule(folder: Path) -> None:
    (folder / "custom_nets").unlink()
    (folder / "custom_nets").mkdir()
    (folder / "custom_nets" / "__init__.py").write_text("")
    (line,) = lines(check_bundle(folder)[-1:], "fails")
    assert "No module named 'custom_nets.model_zoo'" in line
