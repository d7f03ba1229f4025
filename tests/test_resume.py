# SPDX-License-Identifier: Apache-2.0
"""A run that ends at any moment and is resumed gives what an uninterrupted one gives, bit for bit."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from custom_nets.fingerprints import read_fingerprint
from custom_nets.training.records import RunRecords
from custom_nets.training.reproducible import SeedEpoch
from custom_nets.training.run_state import RunState, resume_from
from tests.bundle_runs import TINY, Runs
from tests.forked_commands import python_m
from tests.killed_runs import MOMENTS


class Interrupted(BaseException):
    """Ends a run in this process as a kill would, past every `except Exception`."""


def last(runs: Runs) -> dict[str, Any]:
    return torch.load(runs.models / "last.pt", weights_only=True)


def table(runs: Runs) -> list[dict[str, str]]:
    with (runs.eval / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


def assert_same(a: Any, b: Any, place: str = "") -> None:
    """Equal to the last bit, whatever the nesting."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a.keys() - {"seconds"}:
            assert_same(a[key], b[key], f"{place} {key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), place
        for number, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{place} {number}")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, place
        assert torch.equal(a, b), place
    else:
        assert a == b, place


def assert_same_run(a: Runs, b: Runs) -> None:
    assert_same(last(a), last(b))
    models = [torch.load(runs.models / "model.pt", weights_only=True) for runs in (a, b)]
    assert_same(*models)
    assert table(a) == table(b)


def interrupted(runs: Runs, monkeypatch: pytest.MonkeyPatch, epoch: int = 2, **changes: Any) -> None:
    """Train up to the start of an epoch."""
    seeded = SeedEpoch.__call__

    def seed_epoch(self: Any, engine: Any) -> None:
        if engine.state.epoch == epoch:
            raise Interrupted
        seeded(self, engine)

    with monkeypatch.context() as patch:
        patch.setattr(SeedEpoch, "__call__", seed_epoch)
        with pytest.raises(Interrupted):
            runs.run(**changes)


@pytest.fixture(scope="module")
def killed(trained: Runs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Runs]:
    """Runs of three epochs, each killed at another moment."""
    runs = {moment: trained.elsewhere(tmp_path_factory.mktemp(moment)) for moment in MOMENTS}
    arguments = {moment: (run.name, str(run.data), str(run.folder), {"epochs": 3}) for moment, run in runs.items()}
    ended = python_m("tests.killed_runs", json.dumps(arguments))
    assert ended.returncode == 0, ended.stderr
    return runs


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_resumed(
    trained: Runs, killed: dict[str, Runs], moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_nets.training.records.learning_curves", lambda *paths: None)
    runs = killed[moment]
    first = moment == "while_the_first_last_pt_is_written"
    assert (runs.models / "last.pt").exists() is not first
    runs.run(epochs=3, resume=not first)
    assert_same_run(trained, runs)
    written = {path.name for path in runs.models.iterdir() if "previous" not in path.name}
    assert written == {"last.pt", "model.pt", "model.fingerprint.json"}
    assert read_fingerprint(runs.models / "model.pt") == read_fingerprint(trained.models / "model.pt")


@pytest.mark.parametrize("workers", [0, 2])
def test_any_number_of_loader_processes(
    trained: Runs, runs: Runs, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(runs, monkeypatch, epochs=3, num_workers=workers)
    assert last(runs)["epoch"] == 1
    runs.run(epochs=3, num_workers=2 - workers, resume="true")
    assert_same_run(trained, runs)


def test_bfloat16_is_reproducible(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"amp": True, **TINY[runs.name].deterministic_bfloat16}
    other = runs.elsewhere(tmp_path / "other")
    runs.run(**options)
    interrupted(other, monkeypatch, **options)
    other.run(resume=True, **options)
    assert_same_run(runs, other)


def test_resumed_after_the_last_epoch_nothing_changes(trained: Runs, runs: Runs) -> None:
    for name in ("models", "eval"):
        shutil.copytree(trained.folder / name, runs.folder / name)
    before = {path: path.read_bytes() for path in runs.models.iterdir()}
    runs.run(epochs=3, resume=True)
    assert {path: path.read_bytes() for path in runs.models.iterdir()} == before
    assert table(runs) == table(trained)


def test_more_epochs_follow_their_own_schedule(trained: Runs, runs: Runs) -> None:
    """PyTorch restores a schedule's length with its state: the epochs added would have a learning rate of 0."""
    shutil.copytree(trained.models, runs.models)
    runs.run(epochs=5, val_interval=9, resume=True)
    rates = [float(row["learning_rate"]) for row in table(runs)]
    schedule = runs.workflow(epochs=5).parser
    schedule["imports"] += ["$import torch"]
    optimizer, expected = schedule.get_parsed_content("optimizer"), schedule.get_parsed_content("lr_scheduler")
    for rate in rates[:3]:
        assert rate > 0
    wanted = []
    for _ in range(5):
        wanted.append(optimizer.param_groups[0]["lr"])
        for _ in range(TINY[runs.name].steps):
            optimizer.step()
            expected.step()
    assert rates[3:] == wanted[3:]


def test_a_fresh_start_is_not_taken_for_the_earlier_run(
    trained: Runs, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended in its first epoch, there is nothing of it to resume: least of all the run before."""
    shutil.copytree(trained.models, runs.models)
    interrupted(runs, monkeypatch, epoch=1)
    assert (runs.models / "last.previous.pt").read_bytes() == (trained.models / "last.pt").read_bytes()
    assert (runs.models / "model.pt").read_bytes() == (trained.models / "model.pt").read_bytes()
    assert "no such checkpoint file" in runs.refusal(resume=True)


def test_a_worse_epoch_does_not_replace_the_best(trained: Runs, runs: Runs) -> None:
    shutil.copytree(trained.models, runs.models)
    never = 2.0 if TINY[runs.name].key_metric[1] is max else -1.0
    state = last(trained) | {"epoch": 2, "best_metric": never, "best_metric_epoch": 1}
    state["records"]["rows"] = state["records"]["rows"][:2]
    torch.save(state, runs.models / "last.pt")
    best = (runs.models / "model.pt").read_bytes()
    runs.run(epochs=3, resume=True)
    assert (runs.models / "model.pt").read_bytes() == best
    assert (last(runs)["epoch"], last(runs)["best_metric"], last(runs)["best_metric_epoch"]) == (3, never, 1)


def test_a_failed_write_leaves_the_old_file(trained: Runs, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(trained.models, runs.models)
    before = {path: path.read_bytes() for path in runs.models.iterdir()}

    def full(content: Any, path: Path) -> None:
        path.write_bytes(b"PK half a file")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RuntimeError) as caught:
        runs.run(epochs=4, resume=True)
    assert "No space left" in str(caught.value.__cause__)
    assert {path: path.read_bytes() for path in runs.models.iterdir()} == before


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize(
    ("what", "fragments"),
    [
        ("nothing", ("last.pt: no such checkpoint file", "train first")),
        ("truncated", ("last.pt: cannot be read as a checkpoint", "cut off")),
        ("weights", ("model.pt: is no checkpoint to resume from", "give the last.pt")),
        ("other network", ("last.pt: is no checkpoint of this", "entries disagree", "network_def")),
    ],
)
def test_what_cannot_be_resumed(trained: Runs, runs: Runs, what: str, fragments: tuple[str, ...]) -> None:
    changes: dict[str, Any] = {"resume": True}
    if what != "nothing":
        shutil.copytree(trained.models, runs.models)
    if what == "truncated":
        cut(runs.models / "last.pt")
    if what == "weights":
        changes["resume"] = str(runs.models / "model.pt")
    if what == "other network":
        state = last(trained)
        state["model"].pop(next(iter(state["model"])))
        torch.save(state, runs.models / "last.pt")
    before = {path: path.read_bytes() for path in runs.folder.rglob("*.pt")}
    message = runs.refusal(**changes)
    for fragment in fragments:
        assert fragment in message
    assert {path: path.read_bytes() for path in runs.folder.rglob("*.pt")} == before
    assert not runs.eval.exists()


@pytest.mark.parametrize(
    ("resume", "expected"),
    [
        *[(word, None) for word in (False, None, "false", "None", "null", "")],
        *[(word, "models/last.pt") for word in (True, "true", "True", "TRUE")],
        ("elsewhere/last.pt", "elsewhere/last.pt"),
    ],
)
def test_words_for_resume(resume: Any, expected: str | None) -> None:
    assert resume_from(resume, "models") == (None if expected is None else Path(expected))


class Engine(SimpleNamespace):
    """What `RunState` needs of a trainer."""

    def __init__(self, scaler: Any) -> None:
        super().__init__(scaler=scaler, state=SimpleNamespace(rank=0, epoch=0, epoch_length=2, max_epochs=9))


def small_state(folder: Path, resume: bool = False) -> RunState:
    network = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=9)
    return RunState(folder, network, optimizer, schedule, RunRecords(folder, optimizer), resume=resume)


def scaler(scale: float) -> Any:
    return torch.amp.GradScaler("cpu", init_scale=scale)


def test_the_gradient_scaler_goes_on(tmp_path: Path) -> None:
    before, engine = small_state(tmp_path), Engine(scaler(512.0))
    engine.state.epoch = 4
    before.save(engine)
    after, resumed = small_state(tmp_path, resume=True), Engine(scaler(65536.0))
    after.start(resumed)
    assert resumed.scaler.state_dict() == engine.scaler.state_dict()
    assert resumed.scaler.state_dict()["scale"] == 512.0
    assert (resumed.state.epoch, resumed.state.iteration) == (4, 8)


@pytest.mark.parametrize(("then", "now"), [(None, 65536.0), (512.0, None)])
def test_with_and_without_a_gradient_scaler(tmp_path: Path, then: float | None, now: float | None) -> None:
    """A run may go on with another precision."""
    small_state(tmp_path).save(Engine(None if then is None else scaler(then)))
    resumed = Engine(None if now is None else scaler(now))
    small_state(tmp_path, resume=True).start(resumed)
    assert resumed.scaler is None or resumed.scaler.state_dict()["scale"] == now


def test_float16_needs_a_gpu(runs: Runs) -> None:
    message = runs.refusal(amp=True, amp_dtype="float16")
    assert "amp_dtype is 'float16'" in message
    assert "bfloat16" in message
