# SPDX-License-Identifier: Apache-2.0
"""How cases are handed to workers that die, in this process; a real cluster is in tests_predict."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from custom_nets.errors import InputError
from custom_nets.files import write_json
from custom_nets.prediction import memory
from custom_nets.prediction.ray_cluster import ray_cluster, shares
from custom_nets.prediction.ray_engine import run_on_ray
from custom_nets.prediction.records import record_path
from custom_nets.prediction.request import CaseResult, PredictionRequest
from custom_nets.scans import ScanCase


class RayError(Exception):
    """A worker died."""


class RayTaskError(RayError):
    """A worker's method raised something."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"traceback ... {cause}")
        self.cause = cause


class Here:
    """In the place of `ray`: an actor is an object, and a call happens when its answer is fetched."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self) -> None:
        self.started, self.killed = 0, 0

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 64.0}}]

    def remote(self, kind: type) -> Any:
        def start(*arguments: Any) -> Any:
            self.started += 1
            worker = kind(*arguments)
            methods = {name: SimpleNamespace(remote=_later(getattr(worker, name))) for name in ("load", "segment")}
            return SimpleNamespace(**methods)

        return SimpleNamespace(options=lambda **resources: SimpleNamespace(remote=start))

    def wait(self, answers: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return answers[:1], answers[1:]

    def get(self, answer: Callable[[], Any]) -> Any:
        try:
            return answer()
        except RayError:
            raise
        except Exception as error:
            raise RayTaskError(error) from error

    def kill(self, worker: Any) -> None:
        self.killed += 1


def _later(method: Callable[..., Any]) -> Callable[..., Callable[[], Any]]:
    return lambda *arguments: lambda: method(*arguments)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    """Workers in this process, which get it back as it was: they set its threads, its folder, its share of memory."""
    ray, threads = Here(), torch.get_num_threads()
    monkeypatch.chdir(Path.cwd())
    monkeypatch.setattr(memory, "_sharers", 1)

    @contextmanager
    def cluster(workers: int, address: str | None) -> Iterator[Here]:
        yield ray

    monkeypatch.setattr("custom_nets.prediction.ray_engine.ray_cluster", cluster)
    yield ray
    torch.set_num_threads(threads)


@pytest.fixture
def request_here(tmp_path: Path) -> PredictionRequest:
    (tmp_path / "model.pt").touch()
    (tmp_path / "scan.nii").touch()
    return PredictionRequest("rsanet", (tmp_path / "model.pt",), tmp_path)


def cases_of(request: PredictionRequest, count: int) -> list[ScanCase]:
    return [ScanCase(f"c{number}", {"T1": request.out_dir / "scan.nii"}) for number in range(count)]


def predictor_that(segments: Callable[[str, int], object]) -> Any:
    """Does something with the name of a case and the number of the try, then writes the record."""
    tries: Counter[str] = Counter()

    def load(request: PredictionRequest) -> Callable[[ScanCase], CaseResult]:
        def segment(case: ScanCase) -> CaseResult:
            tries[case.name] += 1
            segments(case.name, tries[case.name])
            write_json(record_path(request.out_dir, case.name), {})
            return CaseResult(case.name, "done")

        return segment

    load.tries = tries  # type: ignore[attr-defined]
    return load


def dies(*names: str, times: int = 1) -> Any:
    def segment(name: str, number: int) -> None:
        if name in names and number <= times:
            raise RayError

    return predictor_that(segment)


def test_every_case_is_done_once_by_few_models(here: Here, request_here: PredictionRequest) -> None:
    told: list[CaseResult] = []
    predictor = dies()
    results = run_on_ray(request_here, cases_of(request_here, 5), 2, told.append, predictor=predictor)
    assert [one.name for one in results] == ["c0", "c1", "c2", "c3", "c4"]
    assert sorted(told, key=lambda one: one.name) == results
    assert {one.status for one in results} == {"done"}
    assert set(predictor.tries.values()) == {1}
    assert here.started == 2


@pytest.mark.parametrize("times", [1, 2])
def test_a_case_whose_worker_dies_is_done_again(here: Here, request_here: PredictionRequest, times: int) -> None:
    predictor = dies("c0", "c3", times=times)
    results = run_on_ray(request_here, cases_of(request_here, 5), 2, predictor=predictor)
    assert {one.status for one in results} == {"done"}
    assert predictor.tries == {"c0": times + 1, "c1": 1, "c2": 1, "c3": times + 1, "c4": 1}
    assert here.killed == 2 * times


def test_a_case_of_which_three_workers_die_is_given_up(here: Here, request_here: PredictionRequest) -> None:
    predictor = dies("c1", times=9)
    results = run_on_ray(request_here, cases_of(request_here, 4), 1, predictor=predictor)
    assert [one.status for one in results] == ["done", "failed", "done", "done"]
    assert results[1].message.startswith("3 workers died of it")
    assert predictor.tries["c1"] == 3


def test_an_exception_fails_its_case_and_keeps_the_worker(here: Here, request_here: PredictionRequest) -> None:
    def segment(name: str, number: int) -> None:
        if name == "c0":
            raise OSError("no space left")

    results = run_on_ray(request_here, cases_of(request_here, 3), 1, predictor=predictor_that(segment))
    assert results[0] == CaseResult("c0", "failed", "OSError: no space left")
    assert [one.status for one in results[1:]] == ["done", "done"]
    assert here.started == 1


def test_scans_that_a_worker_does_not_see_fail(here: Here, request_here: PredictionRequest, tmp_path: Path) -> None:
    unseen = ScanCase("gone", {"T1": tmp_path / "gone.nii"})
    results = run_on_ray(request_here, [unseen, *cases_of(request_here, 1)], 1, predictor=dies())
    assert "gone.nii: not seen on " in results[0].message
    assert [one.status for one in results] == ["failed", "done"]


def test_what_keeps_all_workers_from_loading_is_told(here: Here, request_here: PredictionRequest) -> None:
    def refuses(request: PredictionRequest) -> Any:
        raise InputError("model.pt: of another network")

    def dies_at_once(request: PredictionRequest) -> Any:
        raise RayError

    cases = cases_of(request_here, 3)
    with pytest.raises(InputError, match=r"^model\.pt: of another network$"):
        run_on_ray(request_here, cases, 2, predictor=refuses)
    with pytest.raises(InputError, match="3 workers died as they loaded the model"):
        run_on_ray(request_here, cases, 2, predictor=dies_at_once)
    unseen = PredictionRequest("rsanet", (Path("nowhere.pt"),), request_here.out_dir)
    with pytest.raises(InputError, match=r"nowhere\.pt: not seen on "):
        run_on_ray(unseen, cases, 2, predictor=dies())


def test_an_output_folder_that_is_not_shared_is_noticed(here: Here, request_here: PredictionRequest) -> None:
    def writes_elsewhere(request: PredictionRequest) -> Any:
        return lambda case: CaseResult(case.name, "done")

    with pytest.raises(InputError, match=r"c0\.json: written on .*, not seen here"):
        run_on_ray(request_here, cases_of(request_here, 2), 1, predictor=writes_elsewhere)


@pytest.mark.parametrize(("workers", "device", "told"), [(0, "cpu", "--workers is 0"), (2, "cuda:1", "is cuda:1")])
def test_bad_options(request_here: PredictionRequest, workers: int, device: str, told: str) -> None:
    wrong = PredictionRequest("rsanet", request_here.checkpoints, request_here.out_dir, device=device)
    with pytest.raises(InputError, match=told):
        run_on_ray(wrong, cases_of(wrong, 1), workers)


def test_ray_that_is_missing_is_asked_for(request_here: PredictionRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[cluster\]'"), ray_cluster(1):
        pass


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers", "expected"),
    [
        ([8], 0, 2, (4, 0.0)),
        ([4, 4, 4], 0, 2, (4, 0.0)),
        ([4, 4, 4], 0, 4, (2, 0.0)),
        ([16, 16], 8, 2, (16, 1.0)),
        ([8], 2, 4, (2, 0.5)),
        ([8], 2, 3, (2, 0.5)),
    ],
)
def test_every_worker_finds_room(cpus: list[float], gpus: int, workers: int, expected: tuple[int, float]) -> None:
    nodes = [{"CPU": cpu} for cpu in cpus]
    nodes[0]["GPU"] = gpus
    assert shares(nodes, workers) == expected


def test_more_workers_than_cores_are_refused() -> None:
    with pytest.raises(InputError, match=r"--workers is 3, but the Ray cluster has 2 core\(s\)"):
        shares([{"CPU": 2.0}, {}], 3)
