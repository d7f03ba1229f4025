# SPDX-License-Identifier: Apache-2.0
"""All trainings of SpineParseNet in one command: who sees which label, resume, nothing stale, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from custom_nets import registry
from custom_nets.case_names import case_name
from custom_nets.checkpoints import save_weights
from custom_nets.datasets.datalist import load_section
from custom_nets.files import file_digest, write_json
from custom_nets.label_graphs.chains import mrspineseg
from custom_nets.label_graphs.reading import read_label_graph
from custom_nets.metrics import spine_reports
from custom_nets.spine.coarse_logits import read_logits, read_provenance
from custom_nets.spine.folds import fold_of_cases
from tests.tools import memorising_spines
from tests.tools.memorising_spines import KNOWN, bundle_in, data_in, node
from tools import _spine_plan, _spine_steps, _stages, _steps, coarse_logits, spine_pipeline
from tools._command import run as run_tool

GRAPH = read_label_graph("mrspineseg")
Call = tuple[list[str], dict[str, Any]]


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven cases to train on, in a folder whose name has spaces."""
    return data_in(tmp_path_factory.mktemp("spines") / "data of scans")


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Call]]:
    """Runs of the bundle, noted."""
    noted: list[Call] = []

    def note(name: str, configs: list[str], overrides: dict[str, Any], run_id: str = "run") -> None:
        noted.append((configs, overrides))
        memorising_spines.run_bundle(name, configs, overrides, run_id)

    fake = bundle_in(tmp_path_factory.mktemp("bundle"))
    monkeypatch.setattr(registry, "available", lambda: fake)
    monkeypatch.setattr(spine_reports, "spine_figure", lambda *arguments: arguments[-1])
    for module in (_stages, _steps):
        monkeypatch.setattr(module, "run_bundle", note)
    yield noted


def run(data: Path, folder: Path, **options: Any) -> None:
    """The tool, as it is typed."""
    given = {"output_dir": folder, "folds": 3, **options}
    typed = {key: str(value).replace(" ", "") if isinstance(value, list) else value for key, value in given.items()}
    run_tool(spine_pipeline.spine_pipeline, [str(data), *(f"--{key}={value}" for key, value in typed.items())])


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def leaked(folder: Path) -> int:
    """How many training cases' labels the refinement saw in the logits."""
    return int(torch.load(folder / "models" / "refine" / "model.pt", weights_only=True)["greys"][-1])


def known(checkpoint: Path) -> set[float]:
    """The grey values that a coarse network was trained on."""
    greys = torch.load(checkpoint, weights_only=True)["greys"]
    return set(greys[greys > 0].tolist())


def test_each_file_is_in_its_place(data: Path, tmp_path: Path, calls: list[Call]) -> None:
    run(data, tmp_path)
    coarse = [*(f"folds/fold{fold}/" for fold in (1, 2, 3)), ""]
    expected = {"spine_pipeline.json", "models/model.pt", "models/model.json"}
    expected |= {f"folds/fold{fold}/datalist.json" for fold in (1, 2, 3)}
    expected |= {f"logits/Case{number}.npz" for number in range(9)}
    for place, name in [*((place, name) for place in coarse for name in ("pretrain", "coarse")), ("", "refine")]:
        expected |= {f"{place}models/{name}/{file}" for file in ("model.pt", "last.pt", "inputs.json")}
        expected |= {f"{place}eval/{name}/metrics.csv"}
    tables = ("metrics_per_case.csv", "metrics_per_structure.csv", "metrics_summary.json", "metrics_table.md")
    expected |= {f"eval/evaluation/{stages}/{file}" for stages in ("coarse", "both") for file in tables}
    expected |= {f"eval/evaluation/{stages}/inputs.json" for stages in ("coarse", "both")}
    assert set(files(tmp_path)) == expected
    assert [configs[0] for configs, _ in calls] == ["pretrain", "train"] * 4 + ["refine", "evaluate", "evaluate"]


def test_no_case_sees_its_own_label(data: Path, tmp_path: Path) -> None:
    """The coarse networks know by heart what they were trained on: none of it comes back in the logits."""
    run(data, tmp_path)
    assert leaked(tmp_path) == 0
    training = load_section(data, "datalist.json", "training")
    for case, fold in zip(training, fold_of_cases(training, 3), strict=True):
        name = case_name(case["image"])
        path = tmp_path / "logits" / f"{name}.npz"
        assert not read_logits(path, GRAPH, name, 3, out_of_fold=True).any()
        folder = tmp_path / "folds" / f"fold{fold + 1}"
        assert read_provenance(path).checkpoint == file_digest(folder / "models" / "coarse" / "model.pt")
        for stage in ("pretrain", "coarse"):
            assert memorising_spines.grey(case) not in known(folder / "models" / stage / "model.pt")
    everyone = {memorising_spines.grey(case) for case in training}
    assert known(tmp_path / "models" / "coarse" / "model.pt") == everyone, "the final network learns from all"


def test_in_sample_logits_do_tell_the_label(data: Path, tmp_path: Path, calls: list[Call]) -> None:
    """As published, and the proof that the networks of these tests would give a leak away."""
    run(data, tmp_path, logits="in_sample")
    assert leaked(tmp_path) == 7
    assert [configs[0] for configs, _ in calls] == ["pretrain", "train", "refine", "evaluate", "evaluate"]
    assert calls[2][1]["out_of_fold"] is False and not (tmp_path / "folds").exists()
    for case in load_section(data, "datalist.json", "training"):
        name = case_name(case["image"])
        logits = read_logits(tmp_path / "logits" / f"{name}.npz", GRAPH, name, 3)
        assert (logits[node(case)] == KNOWN).all() and logits.sum() == KNOWN * logits[0].size


def test_a_wrong_wiring_is_caught(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline that predicted a fold's cases with the final network would be refused by the refinement."""
    prediction = _spine_steps.predict

    def wrong(dataset_dir: Path, datalist: str, section: str, *rest: Any) -> tuple[int, int]:
        return prediction(dataset_dir, datalist, "training" if section == "testing" else section, *rest)

    monkeypatch.setattr(_spine_steps, "predict", wrong)
    with pytest.raises(SystemExit):
        run(data, tmp_path)
    assert not (tmp_path / "models" / "refine" / "model.pt").exists()


def test_both_networks_are_in_the_model(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path)
    weights = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    for prefix, name in (("coarse", "coarse"), ("refinement", "refine")):
        part = torch.load(tmp_path / "models" / name / "model.pt", weights_only=True)
        assert all(torch.equal(weights.pop(f"{prefix}.{key}"), value) for key, value in part.items())
    assert not weights


def test_what_is_told(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(data, tmp_path)
    told = capsys.readouterr().out
    assert "[1/16] fold 1 of 3: pre-training" in told and "[16/16] evaluation, both stages" in told
    assert "coarse stage alone, validation cases" in told and "both stages, validation cases" in told
    assert "dice_all: 0.6667 -> 1.0000, the refinement gains +0.3333" in told
    assert told.endswith(f"the model: {tmp_path / 'models' / 'model.pt'}\n")
    assert json.loads((tmp_path / "spine_pipeline.json").read_text())["seconds"] == 9 * 2.5


def test_options_reach_their_stages(data: Path, tmp_path: Path, calls: list[Call]) -> None:
    sizes = {"coarse_size": [8, 4, 4], "fine_size": [32, 32]}
    own = {"graph_mode": "none", "crop_share": 0.5, "refine_batch_size": 8, "pretrain_epochs": 5, "section": "testing"}
    run(data, tmp_path, overlay="demo", seed=3, **sizes, **own)
    pretrain, train = (next(call for call in calls if call[0][0] == name) for name in ("pretrain", "train"))
    refine, coarse, both = calls[-3:]
    assert [configs for configs, _ in (pretrain, train, refine, coarse, both)] == [
        *(["pretrain", "demo"], ["train", "demo"], ["refine", "demo_refine"], ["evaluate"], ["evaluate"])
    ]
    assert "graph_mode" not in pretrain[1] and train[1]["graph_mode"] == "none"
    assert pretrain[1]["epochs"] == 5 and not {"epochs", "batch_size"} & set(train[1])
    assert train[1]["pretrained"] == Path(pretrain[1]["ckpt_dir"]) / "model.pt"
    assert refine[1]["batch_size"] == 8 and refine[1]["patch_size"] == [32, 32]
    assert refine[1]["coarse_size"] == coarse[1]["patch_size"] == both[1]["patch_size"] == [8, 4, 4]
    assert all(overrides["crop_share"] == 0.5 for _, overrides in (train, refine, coarse, both))
    for _, overrides in (coarse, both):
        assert overrides["fine_size"] == [32, 32] and overrides["section"] == "testing"
        assert (
            overrides["width"] == 0.5 and overrides["filters"] == [2, 4, 4, 4, 4] and overrides["graph_mode"] == "none"
        )
        assert not {"epochs", "seed", "logits_dir"} & set(overrides)
    assert [overrides["stages"] for _, overrides in (coarse, both)] == ["coarse", "both"]
    assert read_provenance(tmp_path / "logits" / "Case0.npz").coarse_size == (8, 4, 4)


def test_the_second_call_does_nothing(data: Path, tmp_path: Path, calls: list[Call]) -> None:
    run(data, tmp_path)
    before, count = files(tmp_path), len(calls)
    run(data, tmp_path, device="cpu", num_workers=1, refine_num_workers=2)
    assert len(calls) == count and files(tmp_path) == before


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run that was not killed, made by the first test that wants it."""
    return tmp_path_factory.mktemp("whole") / "run"


@pytest.mark.parametrize(
    ("number", "after"), [*((number, False) for number in range(11)), (1, True), (8, True), (10, True)]
)
def test_killed_at_any_run_and_resumed(
    data: Path,
    tmp_path: Path,
    whole: Path,
    number: int,
    after: bool,
    calls: list[Call],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before a run has written anything, or when its files are there but nobody has noted it."""
    ran = memorising_spines.run_bundle

    def killed(*arguments: Any) -> None:
        if len(calls) == number + 1:
            if after:
                ran(*arguments)
            raise Killed
        ran(*arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(memorising_spines, "run_bundle", killed)
        run(data, tmp_path / "run")
    run(data, tmp_path / "run")
    again = 1 if not after or number >= 9 else 0  # an evaluation that nobody has noted is done again
    assert len(calls) == 11 + again
    places = [(configs[0], overrides["output_dir"]) for configs, overrides in calls]
    assert len(set(places)) == 11
    run(data, whole)
    compare(tmp_path / "run", whole)


def compare(one: Path, other: Path) -> None:
    """The same files with the same weights, logits and scores."""
    assert set(files(one)) == set(files(other))
    for path in one.rglob("*.pt"):
        first, second = (torch.load(file, weights_only=True) for file in (path, other / path.relative_to(one)))
        assert str(first) == str(second), path
    for path in one.glob("logits/*.npz"):
        first, second = (np.load(file) for file in (path, other / path.relative_to(one)))
        assert np.array_equal(first["logits"], second["logits"])
    for path in one.glob("eval/evaluation/*/metrics_*"):
        assert path.read_bytes() == (other / path.relative_to(one)).read_bytes()


@pytest.mark.parametrize("number", [0, 2, 5, 8])
def test_killed_while_logits_are_written(
    data: Path, tmp_path: Path, number: int, calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = np.savez_compressed, []

    def killed(path: Path, **arrays: Any) -> None:
        saved.append(path)
        save(path, **arrays)
        if len(saved) == number + 1:
            path.write_bytes(path.read_bytes()[:100])
            raise Killed

    monkeypatch.setattr(np, "savez_compressed", killed)
    with pytest.raises(Killed):
        run(data, tmp_path / "run")
    run(data, tmp_path / "run")
    assert len(saved) == 9 + 1 and len(calls) == 11


def change(checkpoint: Path) -> None:
    weights = torch.load(checkpoint, weights_only=True)
    weights["greys"][50] = 999
    save_weights(weights, checkpoint)


def test_logits_of_a_checkpoint_that_has_changed_are_computed_again(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(data, tmp_path)
    before = files(tmp_path / "logits")
    change(tmp_path / "folds" / "fold2" / "models" / "coarse" / "model.pt")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(data, tmp_path)
    message = capsys.readouterr().err
    assert f"{tmp_path / 'models' / 'refine'}: was trained from another coarse network 2" in message
    after = files(tmp_path / "logits")
    own = load_section(data, tmp_path / "folds" / "fold2" / "datalist.json", "testing")
    changed = {f"{case_name(case['image'])}.npz" for case in own}
    assert {name for name in before if before[name] != after[name]} == changed


def test_what_depends_on_a_changed_network_is_done_again(data: Path, tmp_path: Path, calls: list[Call]) -> None:
    run(data, tmp_path)
    calls.clear()
    change(tmp_path / "models" / "refine" / "model.pt")
    run(data, tmp_path)
    assert [configs[0] for configs, _ in calls] == ["evaluate", "evaluate"]
    refined = torch.load(tmp_path / "models" / "model.pt", weights_only=True)["refinement.greys"]
    assert float(refined[50]) == 999


def listed(folder: Path, **sections: str) -> str:
    """Another data list of the same scans, by their numbers."""
    cases = {
        section: [{"image": f"Case{number}.nii.gz", "label": f"mask{number}.nii.gz"} for number in numbers]
        for section, numbers in sections.items()
    }
    return str(write_json(folder / "listed.json", cases))


def test_a_data_list_that_has_changed_does_not_leak(
    data: Path, tmp_path: Path, calls: list[Call], capsys: pytest.CaptureFixture[str]
) -> None:
    """A case more would be dealt out anew, into folds whose networks may have been trained on it."""
    rest = {"validation": "78", "testing": "9"}
    given = {"datalist": listed(tmp_path, training="012345", **rest)}
    run(data, tmp_path / "run", **given)
    calls.clear()
    listed(tmp_path, training="0123456", **rest)
    message = refusal(data, tmp_path / "run", capsys, **given)
    assert "fold1/models/pretrain: was trained from another data list" in message and "train it anew" in message
    assert calls == []


def test_a_label_graph_that_has_changed_is_refused(
    data: Path, tmp_path: Path, calls: list[Call], capsys: pytest.CaptureFixture[str]
) -> None:
    graph = write_json(tmp_path / "graph.json", GRAPH.to_config())
    run(data, tmp_path / "run", label_graph=graph)
    calls.clear()
    write_json(graph, {**GRAPH.to_config(), "self_loop": 1.0})
    assert "digest of the label graph" in refusal(data, tmp_path / "run", capsys, label_graph=graph)
    assert calls == []


def test_other_cases_are_scored_anew(data: Path, tmp_path: Path, calls: list[Call]) -> None:
    rest = {"training": "012345", "validation": "78"}
    given = {"datalist": listed(tmp_path, testing="9", **rest), "section": "testing"}
    run(data, tmp_path / "run", **given)
    calls.clear()
    listed(tmp_path, testing="96", **rest)
    run(data, tmp_path / "run", **given)
    assert [configs[0] for configs, _ in calls] == ["evaluate", "evaluate"]


def test_a_damaged_file_of_logits_is_computed_again(data: Path, tmp_path: Path, calls: list[Call]) -> None:
    run(data, tmp_path)
    calls.clear()
    path = tmp_path / "logits" / "Case3.npz"
    path.write_bytes(path.read_bytes()[:200])
    run(data, tmp_path)
    assert calls == [] and read_logits(path, GRAPH, "Case3", 3).shape == (20, 3, 4, 4)


def refusal(data: Path, folder: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    """The one line with which the tool ends."""
    with pytest.raises(SystemExit) as caught:
        run(data, folder, **options)
    assert caught.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


REFUSED: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"widths": 1}, ("option --widths is unknown", "tools.info")),
    ({"epochs": 3}, ("option --epochs is unknown", "--refine_epochs")),
    ({"checkpoint": "x.pt"}, ("option --checkpoint is unknown",)),
    ({"refine_patch_size": 3}, ("option --refine_patch_size is unknown",)),
    ({"refine_width": 3}, ("option --refine_width is unknown",)),
    (
        {"train_crop_share": 0.7},
        ("option --train_crop_share is unknown here; give it for all stages, as --crop_share",),
    ),
    ({"refine_datalist": "x.json"}, ("option --refine_datalist is unknown here; give it for all",)),
    ({"logits": "oof"}, ("logits is 'oof'", "out_of_fold, in_sample")),
    ({"overlay": "demos"}, ("overlay is 'demos'", "demos.json")),
    ({"refine_epochs": 0}, ("epochs is 0", "at least 1")),
    ({"label_graph": "spines"}, ("label_graph is 'spines'", "mrspineseg, spider")),
    ({"datalist": "gone.json"}, ("gone.json", "does not exist")),
    ({"folds": 1}, ("folds is 1",)),
    ({"coarse_size": [6, 4]}, ("patch_size is [6, 4]", "slices, rows and columns")),
    ({"fine_size": [16, 8]}, ("patch_size is [16, 8]", "multiples of 16")),
    ({"refine_max_angle": 999}, ("max_angle is 999",)),
    ({"assd": "mean"}, ("assd is 'mean'",)),
]


@pytest.mark.parametrize("more", [{}, {"cross_validate": 3}])
@pytest.mark.parametrize(("options", "fragments"), REFUSED)
def test_refused_before_anything_is_written(
    data: Path,
    tmp_path: Path,
    options: dict[str, Any],
    fragments: tuple[str, ...],
    more: dict[str, Any],
    calls: list[Call],
    capsys: pytest.CaptureFixture[str],
) -> None:
    message = refusal(data, tmp_path / "run", capsys, **options, **more)
    assert all(fragment in message for fragment in fragments), message
    assert calls == [] and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "fragment"), [({"folds": 9}, "folds is 9"), ({"section": "test"}, "section 'test'")]
)
def test_a_plan_that_the_data_do_not_allow(
    data: Path, tmp_path: Path, options: dict[str, Any], fragment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fragment in refusal(data, tmp_path / "run", capsys, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"seed": 4}, "options {'seed': None}, not {'seed': '4'}"),
        ({"folds": 2}, "folds 3, not 2"),
        ({"logits": "in_sample"}, "folds 3, not None"),
        ({"refine_epochs": 9}, "refine_epochs 2, not 9"),
        ({"coarse_size": [8, 4, 4]}, "coarse_size [6, 4, 4], not [8, 4, 4]"),
    ],
)
def test_another_recipe_in_the_same_folder_is_refused(
    data: Path, tmp_path: Path, options: dict[str, Any], fragment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(data, tmp_path)
    before = files(tmp_path)
    message = refusal(data, tmp_path, capsys, **options)
    assert "spine_pipeline.json: is of a run with" in message and fragment in message, message
    assert files(tmp_path) == before


@pytest.mark.parametrize("place", ["models/last.pt", "models/coarse/last.pt", "folds/fold2/models/pretrain/last.pt"])
def test_a_training_of_another_command_is_not_taken_for_a_stage(
    data: Path, tmp_path: Path, place: str, calls: list[Call], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_bytes(b"of train.json")
    message = refusal(data, tmp_path, capsys)
    assert str(tmp_path / place) in message and "another --output_dir" in message
    assert calls == []


def test_cross_validation_is_nested(
    data: Path, tmp_path: Path, calls: list[Call], capsys: pytest.CaptureFixture[str]
) -> None:
    """No network within an outer fold has seen a test case of it, and every case is tested once."""
    run(data, tmp_path, cross_validate=4, folds=2)
    root = tmp_path / "cross_validation"
    tested = []
    for fold in range(1, 5):
        folder = root / f"fold{fold}"
        testing = load_section(data, folder / "datalist.json", "testing")
        tested += [case_name(case["image"]) for case in testing]
        checkpoints = [*folder.rglob("coarse/model.pt"), *folder.rglob("pretrain/model.pt")]
        assert len(checkpoints) == 6 and leaked(folder) == 0
        for checkpoint in [*checkpoints, folder / "models" / "refine" / "model.pt"]:
            assert not {memorising_spines.grey(case) for case in testing} & known(checkpoint), checkpoint
        assert not any((folder / "logits" / f"{name}.npz").exists() for name in tested[-len(testing) :])
    assert sorted(tested) == sorted(f"Case{number}" for number in range(11))
    for stages, dice in (("coarse", 2 / 3), ("both", 1.0)):
        with (root / "evaluation" / stages / "metrics_per_case.csv").open() as table:
            assert sorted(row["case"] for row in csv.DictReader(table)) == sorted(tested)
        summary = json.loads((root / "evaluation" / stages / "metrics_summary.json").read_text())
        assert summary["metrics"]["dice_all"] == pytest.approx({"mean": dice, "std": 0, "n": 11, "left_out": 0})
    told = capsys.readouterr().out
    assert "[fold 4 of 4, 1/13] fold 1 of 2: pre-training" in told and "over 11 scans" in told
    before, count = files(tmp_path), len(calls)
    run(data, tmp_path, cross_validate=4, folds=2)
    assert len(calls) == count and files(tmp_path) == before
    assert "cross_validate 4, not 5" in refusal(data, tmp_path, capsys, cross_validate=True, folds=2)


@pytest.mark.parametrize(("options", "fragment"), [({"cross_validate": 12}, "12"), ({"cross_validate": 1}, "is 1")])
def test_outer_folds_that_cannot_be(
    data: Path, tmp_path: Path, options: dict[str, Any], fragment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fragment in refusal(data, tmp_path / "run", capsys, **options)
    assert not (tmp_path / "run").exists()


def test_the_logits_tool_by_itself(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(data, tmp_path, logits="in_sample")
    options = ["--checkpoint", str(tmp_path / "models/coarse/model.pt"), "--out", str(tmp_path / "own")]
    for counts in ("2 cases were written, those of 0 were there", "0 cases were written, those of 2 were there"):
        run_tool(coarse_logits.main, [str(data), *options, "--section", "testing"])
        assert f"{tmp_path / 'own'}: the coarse logits of {counts}" in capsys.readouterr().out
    provenance = read_provenance(tmp_path / "own" / "Case9.npz")
    assert provenance.trained_on == tuple(sorted(f"Case{number}" for number in range(7)))
    assert provenance.preprocessing["crop_share"] == 1.0
    run_tool(coarse_logits.main, [str(data), *options, "--section", "testing", "--crop_share", "0.5"])
    assert "2 cases were written" in capsys.readouterr().out, "computed otherwise"
    fewer = write_json(tmp_path / "fewer.json", mrspineseg(3).to_config())
    for more, fragment in (
        (["--widths", "1"], "option --widths is unknown"),
        (["--epochs", "1"], "option --epochs is unknown"),
        (["--overlay", "demos"], "overlay is 'demos'"),
        (["--label_graph", "spines"], "label_graph is 'spines'"),
        (["--label_graph", str(fewer)], "no checkpoint of this Memory"),
    ):
        with pytest.raises(SystemExit) as caught:
            run_tool(coarse_logits.main, [str(data), *options, *more])
        assert caught.value.code == 2 and fragment in capsys.readouterr().err


def test_the_plan_knows_its_stages(data: Path, tmp_path: Path) -> None:
    plan = _spine_plan.Plan(data, tmp_path, 3, "out_of_fold", "validation", None, {})
    assert len(plan.stages) == 9 and len({stage.ckpt_dir for stage in plan.stages}) == 9
