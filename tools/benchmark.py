# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.benchmark NAME`: our network against the plain transcription of its paper, as a table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from custom_nets.benchmarking import Comparison, compare_memory, compare_seconds, conditions, peak_growth
from custom_nets.errors import InputError
from tools._command import run

if TYPE_CHECKING:
    from tools._benchmark_cases import Case

#: Largest relative L2 difference of two results that count as the same function. In float32 the plain transcription of
#: RSANet's block is up to 1.6e-4 away from itself in float64 (near ties in an unscaled softmax).
SAME = 1e-3


def benchmark(name: str, runs: int = 5, threads: int = 1, only: str = "") -> None:
    """Compare our network with a plain transcription of its paper: same weights, same machine, in turn.

    Times are medians of calls in one process, ours and the plain one alternating; inference runs under inference_mode,
    a training step is forward and backward. Memory is the growth of resident memory at its highest during such a call,
    each measurement in a fresh process.

    Args:
        name: the bundle, for example rsanet.
        runs: measurements of each side.
        threads: CPU threads of both sides.
        only: take only the cases whose row contains this text, for example block or 64.
    """
    if min(runs, threads) < 1:
        raise InputError(f"--runs {runs} --threads {threads}: both must be at least 1")
    cases = _cases(name)
    chosen = [index for index, case in enumerate(cases) if str(only) in case.title]
    if not chosen:
        raise InputError(f"--only {only}: no case contains it; choose from: {' | '.join(c.title for c in cases)}")
    torch.set_num_threads(threads)
    for key, value in conditions().items():
        print(f"- {key}: {value}")
    print(f"- runs: {runs} of each side, medians shown\n")
    print("| case | ours | plain | ratio | goal | difference of results |")
    print("|---|---|---|---|---|---|")
    for index in chosen:
        print(_row(name, index, runs), flush=True)


def _cases(name: str) -> list[Case]:
    try:
        from tools._benchmark_cases import CASES
    except ImportError as error:
        raise InputError(
            f"the plain transcriptions are not found ({error}); they are part of the repository's tests and are not "
            "installed: run `python -m tools.benchmark` from the repository's root"
        ) from error
    if name not in CASES:
        raise InputError(f"no benchmark is called {name}; choose one of {', '.join(sorted(CASES))}")
    return CASES[name]()


def _row(name: str, index: int, runs: int) -> str:
    case = _cases(name)[index]
    ours, plain = case.build()
    compute = _call(case)
    x = _input(case.shape)
    expected = compute(plain, x)
    difference = float((compute(ours, x) - expected).norm() / expected.norm())
    if not difference < SAME:
        raise InputError(f"{case.title}: the results differ by {difference:.1e} (relative L2), so nothing was timed")
    if case.memory:
        threads = torch.get_num_threads()
        result = compare_memory(peak_memory, (name, index, 0, threads), (name, index, 1, threads), runs)
    else:
        result = compare_seconds(lambda: compute(ours, x), lambda: compute(plain, x), runs)
    return _cells(case, result, difference)


def _cells(case: Case, result: Comparison, difference: float) -> str:
    digits = 0 if result.unit == "MiB" else 3
    ours, plain = (f"{value:.{digits}f} {result.unit}" for value in (result.ours, result.plain))
    verdict = "met" if result.ratio <= case.goal else "missed"
    return f"| {case.title} | {ours} | {plain} | {result.ratio:.2f} | {case.goal} {verdict} | {difference:.0e} |"


def peak_memory(name: str, index: int, side: int, threads: int) -> float:
    """Peak growth of resident memory in MiB during a case's call; for a fresh process.

    Args:
        name: the bundle.
        index: of the case among the bundle's.
        side: 0 ours, 1 plain.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    case = _cases(name)[index]
    module, compute = case.build()[side], _call(case)
    twin = module if case.small is None else case.small()[side]
    x, small = _input(case.shape), _input((*case.shape[:2], *[16] * (len(case.shape) - 2)))
    return peak_growth(lambda: compute(module, x), warm_up=lambda: compute(twin, small))


def _call(case: Case) -> Callable[[nn.Module, Tensor], Tensor]:
    """What the case measures, a function of module and input that returns the output."""
    return partial(_train, inner=case.inner) if case.training else _infer


def _infer(module: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return module(x)


def _train(module: nn.Module, x: Tensor, inner: bool) -> Tensor:
    """Forward and backward; the output. The module stays in eval mode, so that dropout does not tell two runs apart."""
    out = module(x.detach().requires_grad_(inner))
    out.square().mean().backward()
    module.zero_grad()
    return out.detach()


def _input(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


if __name__ == "__main__":
    run(benchmark)
