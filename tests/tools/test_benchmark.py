# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import tools._benchmark_cases as cases
from custom_nets.errors import InputError
from tools.benchmark import benchmark, peak_memory


def with_case(
    monkeypatch: pytest.MonkeyPatch, *modules: nn.Module, measured: str = "inference time", inner: bool = False
) -> None:
    case = cases.Case("toy", lambda: (modules[0], modules[1]), (1, 2, 4, 4, 4), 1e6, measured, inner)
    monkeypatch.setitem(cases.CASES, "toy", lambda: [case])


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_prints_conditions_and_one_row_a_case(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    with_case(monkeypatch, nn.Identity(), nn.Identity())
    benchmark("toy", runs=2)
    printed = capsys.readouterr().out
    assert "- threads: 1" in printed
    row = printed.splitlines()[-1].split(" | ")
    assert row[0] == "| toy, 1x2x4x4x4, inference time"
    assert row[-2].endswith("met")


def test_nothing_is_timed_when_the_results_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    with_case(monkeypatch, Twice(), nn.Identity())
    with pytest.raises(InputError, match=r"results differ by 1\.0e\+00"):
        benchmark("toy", runs=1)


class Noting(nn.Conv3d):
    """Notes, at each call, whether gradients are recorded, and whether the input and the weight get one."""

    def __init__(self) -> None:
        super().__init__(2, 2, 1)
        torch.manual_seed(0)
        self.reset_parameters()
        self.noted: list[tuple[bool, bool]] = []
        self.steps = 0
        self.weight.register_post_accumulate_grad_hook(lambda _: self.step())

    def step(self) -> None:
        self.steps += 1

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        self.noted.append((torch.is_grad_enabled(), x.requires_grad))
        return super().forward(x)


@pytest.mark.parametrize(
    ("measured", "inner", "state", "unit"),
    [
        ("inference time", False, (False, False), "s"),
        ("inference memory", False, (False, False), "MiB"),
        ("training-step time", False, (True, False), "s"),
        ("training memory", False, (True, False), "MiB"),
        ("training memory", True, (True, True), "MiB"),
    ],
)
def test_what_is_measured(
    measured: str,
    inner: bool,
    state: tuple[bool, bool],
    unit: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    ours, plain = Noting(), Noting()
    with_case(monkeypatch, ours, plain, measured=measured, inner=inner)
    here = []  # in place of a fresh process, which has no toy

    def in_this_process(function: object, *arguments: object) -> float:
        assert function is peak_memory
        here.append(arguments)
        return peak_memory(*arguments)  # type: ignore[arg-type]

    def both_called(function: Callable[[], object], warm_up: Callable[[], object]) -> float:
        warm_up()
        function()
        return 7.0  # a toy's memory is too little to be seen

    monkeypatch.setattr("custom_nets.benchmarking.in_fresh_process", in_this_process)
    monkeypatch.setattr("tools.benchmark.peak_growth", both_called)
    benchmark("toy", runs=2)
    row = capsys.readouterr().out.splitlines()[-1].split(" | ")
    assert row[0] == f"| toy, 1x2x4x4x4, {measured}"
    assert row[1].endswith(f" {unit}") and row[2].endswith(f" {unit}")
    for module in (ours, plain):
        calls = 1 + 2 * (2 if unit == "MiB" else 1)  # the comparison of results; a warm-up before each peak
        assert module.noted == [state] * calls
        assert module.steps == (calls if state[0] else 0)
        assert module.weight.grad is None
    assert here == ([("toy", 0, side, 1) for _ in range(2) for side in (0, 1)] if unit == "MiB" else [])


def test_only_what_can_be_measured_is_a_case() -> None:
    with pytest.raises(ValueError, match="measured is 'time': choose one of inference time, "):
        cases.Case("toy", lambda: (nn.Identity(), nn.Identity()), (1, 2, 4, 4, 4), 1.0, "time")


@pytest.mark.parametrize("name", cases.CASES)
def test_every_bundle_has_timed_and_training_cases(name: str) -> None:
    listed = cases.CASES[name]()
    assert len({case.title for case in listed}) == len(listed)
    assert {case.training for case in listed} == {True, False}
    assert {case.memory for case in listed} == {True, False}


@pytest.mark.parametrize("checkpointed", [False, True])
def test_both_sides_of_zoom_resunet_are_one_function(checkpointed: bool) -> None:
    ours, plain = cases._zoom_resunet_network(checkpointed)
    x = torch.randn(1, 1, 8, 9, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), plain(x), atol=1e-3, rtol=1e-3)
    assert ours.checkpoint_full_resolution == checkpointed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "nothing"}, "choose one of rsanet, s2anet, s2ca_net, spineparsenet, zoom_resunet"),
        ({"name": "rsanet", "only": "spleen"}, "no case contains it"),
        ({"name": "rsanet", "runs": 0}, "at least 1"),
    ],
)
def test_bad_options_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        benchmark(**arguments)


def test_an_installation_without_the_repository_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tools._benchmark_cases")
    monkeypatch.setitem(sys.modules, "tests.recipe", None)
    with pytest.raises(InputError, match="from the repository's root"):
        benchmark("rsanet")
