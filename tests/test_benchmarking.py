# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import sys
import time

import pytest
import torch

from custom_nets.benchmarking import (
    Comparison,
    compare_memory,
    compare_seconds,
    conditions,
    in_fresh_process,
    peak_growth,
)

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")


def growth_of(mib: int) -> float:
    return peak_growth(lambda: torch.ones(mib, 2**18), warm_up=lambda: torch.ones(1, 2**18))


def test_ratio_is_ours_over_plain() -> None:
    assert Comparison(ours=3.0, plain=4.0, unit="s", runs=1).ratio == 0.75


def test_calls_alternate_and_the_median_is_taken() -> None:
    calls: list[str] = []
    pauses = iter([0.0, 0.0, 0.05])  # one slow call must not move the median

    def ours() -> None:
        calls.append("a")
        end = time.process_time() + next(pauses)
        while time.process_time() < end:
            pass

    result = compare_seconds(ours, lambda: calls.append("b"), runs=3)
    assert calls == ["a", "b"] * 3
    assert result.ours < 0.02
    assert (result.unit, result.runs) == ("s", 3)


@LINUX
def test_peak_growth_sees_memory_that_is_freed_again() -> None:
    assert 60 < in_fresh_process(growth_of, 64) < 72


@LINUX
def test_memory_is_compared_in_fresh_processes() -> None:
    result = compare_memory(growth_of, (32,), (64,), runs=1)
    assert result.ratio == pytest.approx(0.5, abs=0.1)
    assert result.unit == "MiB"


def test_a_fresh_process_is_another_one_and_hands_errors_on() -> None:
    assert in_fresh_process(os.getpid) != os.getpid()
    with pytest.raises(ZeroDivisionError):
        in_fresh_process(divmod, 1, 0)


def test_conditions_name_what_a_time_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TOP_PAD_", "64")
    found = conditions()
    assert found["threads"] == str(torch.get_num_threads())
    assert found["torch"] == torch.__version__
    assert "MALLOC_TOP_PAD_=64" in found["allocator"]
    assert found["processor"].endswith("cores")
