# SPDX-License-Identifier: Apache-2.0
"""Many cases on a Ray cluster: workers that have loaded the model take one case after the other."""

from __future__ import annotations

import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from custom_nets.errors import InputError
from custom_nets.prediction.memory import shared_by
from custom_nets.prediction.predictor import Predictor
from custom_nets.prediction.ray_cluster import ray_cluster, shares
from custom_nets.prediction.records import record_path
from custom_nets.prediction.request import CaseResult, PredictionRequest
from custom_nets.scans import ScanCase

Segment = Callable[[ScanCase], CaseResult]
OnResult = Callable[[CaseResult], object]

#: A case is given up when so many workers died of it, a run when so many died in a row while they loaded the model.
MAX_DEATHS = 3


def run_on_ray(
    request: PredictionRequest,
    cases: Sequence[ScanCase],
    workers: int,
    on_result: OnResult = lambda result: None,
    *,
    address: str | None = None,
    predictor: Callable[[PredictionRequest], Segment] = Predictor,
) -> list[CaseResult]:
    """Segment cases on a Ray cluster, with the same files as on one machine.

    Every worker is a process that loads the model once and takes the next case as soon as it is free. Where a worker
    dies, another takes its place and its case is done again; a case of which three workers die is reported as failed,
    and the others go on. What an earlier run has completed is kept, as on one machine.

    The workers open the files themselves: the scans, the checkpoints and ``out_dir`` have to be reachable under the
    same paths from every machine of the cluster (a shared folder), and the same version of this package has to be
    installed there. A relative path is one below the folder from which this function is called.

    Args:
        request: what is computed.
        cases: with different names.
        workers: their number; the cluster's cores are divided among them, and its GPUs unless the device is a CPU.
        on_result: is called with every result as it comes.
        address: of a running cluster, see `custom_nets.prediction.ray_cluster.ray_cluster`.
        predictor: makes of the request what segments one case; it has to be importable on the workers.

    Returns:
        The results in the order of the cases.

    Raises:
        InputError: Ray is missing; the cluster cannot be reached or has fewer cores than workers; a worker cannot load
            the model, or does not see the same ``out_dir``.
    """
    if workers < 1:
        raise InputError(f"--workers is {workers}: give a number from 1")
    if request.device.startswith("cuda:"):
        raise InputError(f"--device is {request.device}, a GPU of one machine: give cuda with --engine ray")
    if not cases:
        return []
    request.out_dir.mkdir(parents=True, exist_ok=True)
    workers = min(workers, len(cases))
    with ray_cluster(workers, address) as ray:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cores, gpus = shares(nodes, workers)
        resources = {"num_cpus": cores, "num_gpus": 0 if request.device == "cpu" else gpus}
        actor = ray.remote(_Worker).options(**resources, max_restarts=0, scheduling_strategy="SPREAD")
        start = partial(actor.remote, request, predictor, cores, Path.cwd())
        return _Pool(ray, start, workers, request.out_dir).run(cases, on_result)


class _Worker:
    """A process of the cluster with the model; an actor, so that its methods run one at a time.

    Nothing that may fail happens before `load`, whose errors reach the caller.
    """

    def __init__(
        self, request: PredictionRequest, predictor: Callable[[PredictionRequest], Segment], threads: int, folder: Path
    ) -> None:
        self.host = socket.gethostname()
        self.request, self.predictor, self.threads, self.folder = request, predictor, threads, folder

    def load(self) -> str:
        """Load the model; return this machine's name."""
        with suppress(OSError):  # a folder that is missing here matters to relative paths alone
            os.chdir(self.folder)
        torch.set_num_threads(self.threads)
        shared_by((os.cpu_count() or 1) // self.threads)
        for path in (*self.request.checkpoints, self.request.out_dir):
            if not path.exists():
                raise InputError(self._unseen(path))
        self.segment_case = self.predictor(self.request)
        return self.host

    def segment(self, case: ScanCase) -> CaseResult:
        """Segment one case; a scan that this machine does not see is a failed case."""
        unseen = [path for path in case.images.values() if not path.exists()]
        if unseen and not case.problem:
            return CaseResult(case.name, "failed", self._unseen(unseen[0]))
        return self.segment_case(case)

    def _unseen(self, path: Path) -> str:
        return (
            f"{path}: not seen on {self.host}: scans, checkpoints and the output folder have to be reachable under the "
            "same paths from every machine of the Ray cluster"
        )


@dataclass(frozen=True)
class _Call:
    """What a worker was asked: to segment the case of this number, or, without one, to load the model."""

    worker: Any
    host: str = ""
    case: int | None = None


class _Pool:
    """Workers that load, work, die and are replaced, until every case has a result."""

    def __init__(self, ray: Any, start: Callable[[], Any], workers: int, out_dir: Path) -> None:
        self.ray, self.start, self.workers, self.out_dir = ray, start, workers, out_dir
        self.calls: dict[Any, _Call] = {}
        self.free: list[_Call] = []
        self.deaths: Counter[int | None] = Counter()
        for _ in range(workers):
            self._start_worker()

    def run(self, cases: Sequence[ScanCase], on_result: OnResult) -> list[CaseResult]:
        """Segment all cases; see `run_on_ray`."""
        results: dict[int, CaseResult] = {}
        waiting = deque(range(len(cases)))
        while len(results) < len(cases):
            while waiting and self.free:
                idle, number = self.free.pop(), waiting.popleft()
                self.calls[idle.worker.segment.remote(cases[number])] = replace(idle, case=number)
            (answer,), _ = self.ray.wait(list(self.calls), num_returns=1)
            call = self.calls.pop(answer)
            result = self._result(answer, call, "" if call.case is None else cases[call.case].name)
            if call.case is not None and result is not None:
                results[call.case] = result
                on_result(result)
            elif call.case is not None:
                waiting.appendleft(call.case)
            if len(waiting) > len(self.free) and len(self.free) + len(self.calls) < self.workers:
                self._start_worker()
        return [results[number] for number in range(len(cases))]

    def _start_worker(self) -> None:
        worker = self.start()
        self.calls[worker.load.remote()] = _Call(worker)

    def _result(self, answer: Any, call: _Call, name: str) -> CaseResult | None:
        """The result of a case; None where there is none, of a worker that has loaded the model or has died."""
        try:
            value = self.ray.get(answer)
        except self.ray.exceptions.RayTaskError as error:  # an exception of ours: the worker lives on
            if call.case is None:
                raise (InputError(str(error.cause)) if isinstance(error.cause, InputError) else error) from error
            value = CaseResult(name, "failed", f"{type(error.cause).__name__}: {error.cause}")
        except self.ray.exceptions.RayError as error:
            self.ray.kill(call.worker)  # were it only out of reach
            return self._after_death(call, name, error)
        self.deaths[None] = 0
        self.free.append(_Call(call.worker, call.host if call.case is not None else value))
        if call.case is None:
            return None
        self._check_seen_here(value, call.host)
        return value

    def _after_death(self, call: _Call, name: str, error: Exception) -> CaseResult | None:
        self.deaths[call.case] += 1
        if self.deaths[call.case] < MAX_DEATHS:
            return None
        how = "out of memory" if "OutOfMemory" in type(error).__name__ else "killed, such as for want of memory"
        if call.case is None:
            raise InputError(f"{MAX_DEATHS} workers died as they loaded the model ({how}): give fewer --workers")
        return CaseResult(name, "failed", f"{MAX_DEATHS} workers died of it ({how}): predict it without --engine ray")

    def _check_seen_here(self, result: CaseResult, host: str) -> None:
        record = record_path(self.out_dir, result.name)
        if result.status != "failed" and not record.is_file():
            raise InputError(
                f"{record}: written on {host}, not seen here: the output folder has to be one that is shared by all "
                "machines of the Ray cluster"
            )
