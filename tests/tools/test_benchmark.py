# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys

import pytest
from torch import Tensor, nn

import tools._benchmark_cases as cases
from custom_nets.errors import InputError
from tools.benchmark import benchmark


def with_case(monkeypatch: pytest.MonkeyPatch, *modules: nn.Module) -> None:
    case = cases.Case("toy", lambda: (modules[0], modules[1]), (1, 2, 4, 4, 4), 1e6)
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


@pytest.mark.parametrize("name", cases.CASES)
def test_every_bundle_has_timed_and_training_cases(name: str) -> None:
    listed = cases.CASES[name]()
    assert len({case.title for case in listed}) == len(listed)
    assert {case.training for case in listed} == {True, False}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "nothing"}, "choose one of rsanet"),
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
