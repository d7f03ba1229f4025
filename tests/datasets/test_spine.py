# SPDX-License-Identifier: Apache-2.0
"""Data sets of spines: which file is what, the published folds, label values by the graph."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from custom_nets.datasets import check_inference, check_training
from custom_nets.datasets.building import Examined, SplitPlan, assign
from custom_nets.datasets.checks import CaseReport
from custom_nets.datasets.domains import DOMAINS, domain_named, in_series, with_graph
from custom_nets.datasets.layouts import FoundCase, Layout, detect_layout, find_cases
from custom_nets.datasets.spine_labels import advice_on_values
from custom_nets.datasets.spine_layouts import MRSPINESEG, MRSPINESEG_SCRIPTS, SPIDER_SERIES
from custom_nets.datasets.splits import PARTS, folds_by_permutation, published_folds
from custom_nets.errors import InputError
from custom_nets.label_graphs.chains import mrspineseg, spider
from custom_nets.preflight import labels_of
from custom_nets.registry import bundle
from tests.datasets import trees
from tests.recipe import document

GOLDEN = document("spineparsenet")["split"]
CHALLENGE = DOMAINS["mrspineseg"]


def test_the_bundles_modality_and_labels() -> None:
    for name in ("mrspineseg", "spider", "spine"):
        assert DOMAINS[name].modalities == bundle("spineparsenet").modalities
    assert domain_named("mrspineseg").labels == domain_named("spine").labels == bundle("spineparsenet").labels
    assert domain_named("spider").labels == spider().file_names()
    with pytest.raises(InputError, match="only label maps of spines have one"):
        with_graph(DOMAINS["atlas"], "spider")


@pytest.mark.parametrize(
    ("build", "layout", "labelled", "tests"),
    [(trees.mrspineseg, MRSPINESEG, 20, 3), (trees.mrspineseg_scripts, MRSPINESEG_SCRIPTS, 10, 0)],
)
def test_data_set_is_recognised(
    tmp_path: Path, build: Callable[[Path], None], layout: Layout, labelled: int, tests: int
) -> None:
    build(tmp_path)
    assert detect_layout(tmp_path, CHALLENGE.layouts, ("T2",)) is layout
    found = find_cases(tmp_path, layout, ("T2",))
    assert found.problems == []
    assert [bool(case.labels) for case in found.cases].count(True) == labelled
    assert [case.official_test and not case.labels for case in found.cases].count(True) == tests
    case = next(case for case in found.cases if case.name == "Case10")
    assert case.patient == "Case10"
    assert [path.name for path in (*case.images, *case.labels)] == ["Case10.nii.gz", "mask_case10.nii.gz"]
    others = [other for other in CHALLENGE.layouts if other is not layout]
    assert all(find_cases(tmp_path, other, ("T2",)).cases == [] for other in others)


@pytest.mark.parametrize("inner", ["train", "coarse", "coarse/in/nii"])
def test_the_folder_within(tmp_path: Path, inner: str) -> None:
    (trees.mrspineseg if inner == "train" else trees.mrspineseg_scripts)(tmp_path)
    layout = detect_layout(tmp_path / inner, CHALLENGE.layouts, ("T2",))
    found = find_cases(tmp_path / inner, layout, ("T2",))
    assert found.problems == []
    assert len(found.cases) == (20 if inner == "train" else 10)


def test_series_of_spider(tmp_path: Path) -> None:
    for number, series in ((1, "t1"), (1, "t2"), (1, "t2_SPACE"), (2, "t2")):
        trees.write_files(tmp_path, [f"nifti/images/{number}_{series}.nii.gz"], f"nifti/masks/{number}_{series}.nii.gz")
    for series, names in {"t1": ["1_t1"], "t2": ["1_t2", "2_t2"], "t2_space": ["1_t2_SPACE"]}.items():
        domain = in_series(DOMAINS["spider"], series)
        cases = find_cases(tmp_path, domain.layouts[0], domain.modalities).cases
        assert [case.name for case in cases] == names
        assert [case.patient for case in cases] == [name[0] for name in names]
    assert in_series(DOMAINS["spider"], "t1").modalities == ("T1",)
    assert DOMAINS["spider"].layouts == (SPIDER_SERIES["t2"],)
    with pytest.raises(InputError, match="series is 'pd': use one of t1, t2, t2_space"):
        in_series(DOMAINS["spider"], "pd")
    with pytest.raises(InputError, match="series is 't2': only scans of spider"):
        in_series(DOMAINS["spine"], "t2")


def test_the_published_folds() -> None:
    divided = published_folds(
        GOLDEN["args"]["total"], GOLDEN["args"]["train"], GOLDEN["args"]["val"], GOLDEN["args"]["folds"]
    )
    short = {"training": "train", "validation": "val", "testing": "test"}
    assert [{short[part]: numbers for part, numbers in fold.items()} for fold in divided] == GOLDEN["folds"]
    assert published_folds() == divided
    assert published_folds(seed=1) != divided


@pytest.mark.parametrize(
    ("total", "train", "validation", "folds"), [(215, 215, 4, 5), (215, 168, 0, 5), (215, 0, 4, 5), (20, 10, 4, 4)]
)
def test_folds_that_cannot_be(total: int, train: int, validation: int, folds: int) -> None:
    with pytest.raises(InputError, match=f"{total} cases cannot be divided into {folds} folds of {train}"):
        published_folds(total, train, validation, folds)


def test_folds_of_the_published_cases_in_any_order() -> None:
    names = [f"Case{number}" for number in range(1, 216)]
    order = np.random.default_rng(0).permutation(215)
    shuffled = [names[place] for place in order]
    for chosen, golden in zip(folds_by_permutation(shuffled, shuffled), GOLDEN["folds"], strict=True):
        parts = dict(zip(shuffled, chosen, strict=True))
        for part, key in (("training", "train"), ("validation", "val"), ("testing", "test")):
            assert {name for name in names if parts[name] == part} == {f"Case{number}" for number in golden[key]}


def test_folds_of_the_public_cases() -> None:
    """172 cases: a fifth is tested by each fold, 4 are validated, two are never tested."""
    names = [f"Case{number}" for number in range(1, 173)]
    divided = folds_by_permutation(names, names)
    assert [[fold.count(part) for part in PARTS] for fold in divided] == [[134, 4, 34]] * 5
    tested = [sum(fold[place] == "testing" for fold in divided) for place in range(172)]
    assert sorted(tested) == [0] * 2 + [1] * 170
    assert folds_by_permutation(names, names, seed=1) != divided


def test_folds_keep_patients_together() -> None:
    patients = [f"p{number // 2}" for number in range(41)]
    names = [f"{patient}-{number}" for number, patient in enumerate(patients)]
    for fold in folds_by_permutation(names, patients, 4):
        parts = {(patient, part) for patient, part in zip(patients, fold, strict=True)}
        assert len(parts) == 21
        assert len([patient for patient, part in parts if part == "testing"]) == 21 // 4


@pytest.mark.parametrize("folds", [1, 11])
def test_a_number_of_folds_that_does_not_fit(folds: int) -> None:
    names = [str(number) for number in range(10)]
    with pytest.raises(InputError, match=f"folds is {folds}: give a number from 2 to .*10"):
        folds_by_permutation(names, names, folds)


def examined(number: int, tests: int = 0) -> list[Examined]:
    report = CaseReport([], (1, 1, 1), (1.0, 1.0, 1.0), 1.0)
    return [
        Examined(
            FoundCase(
                *(f"Case{place}", f"Case{place}", (Path("image"),), () if place > number else (Path("label"),)),
                official_test=place > number,
            ),
            report,
        )
        for place in range(1, number + tests + 1)
    ]


def test_only_folds_without_shares_are_the_published_ones() -> None:
    plan = SplitPlan(folds=5, always_test=True, published_folds=True)
    splits = assign(examined(20, 2), plan)
    assert [[fold.count(part) for part in PARTS] for fold in splits] == [[12, 4, 4]] * 5
    assert all(fold[20:] == ["official_test"] * 2 for fold in splits)
    shares = SplitPlan((0.8, 0.0, 0.2), 5, always_test=True, published_folds=True)
    splits = assign(examined(20, 2), shares)
    assert len({tuple(place for place, part in enumerate(fold) if part == "testing") for fold in splits}) == 1
    assert not shares.tests_in_folds
    assert len(assign(examined(20), SplitPlan(published_folds=True))) == 1


@pytest.mark.parametrize(
    ("values", "graph", "said", "unsaid"),
    [
        ((2, 12), "spider", ("'spider' does not have them: give --label_graph mrspineseg or",), "--label_graph spider"),
        ((1, 100, 201), "mrspineseg", ("--label_graph spider or the graph of your labels",), "mrspineseg or"),
        ((1, 2), "my.json", ("--label_graph mrspineseg or --label_graph spider or the graph",), "??"),
        ((77,), "spider", ("give the graph of your labels with --label_graph FILE",), "mrspineseg"),
    ],
)
def test_advice_on_values_of_another_graph(
    values: tuple[int, ...], graph: str, said: tuple[str, ...], unsaid: str
) -> None:
    advice = advice_on_values(values, graph)
    assert all(fragment in advice for fragment in said)
    assert unsaid not in advice
    assert "python -m tools.label_graph" in advice


def listed(root: Path, **header: Any) -> tuple[Path, str, tuple[str, ...]]:
    """A list of two cases for training and one for validation, each with the labels of a lumbar spine."""
    cases = []
    for number in range(3):
        trees.write_files(root, [f"{number}/t2.nii.gz"], None)
        trees.write_spine(root / f"{number}/label.nii.gz", (2, 3, 12))
        cases.append({"image": [f"{number}/t2.nii.gz"], "label": f"{number}/label.nii.gz"})
    trees.write_datalist(root, **header, training=cases[:2], validation=cases[2:], testing=cases[2:])
    return root, "datalist.json", ("T2",)


def test_values_that_the_graph_lacks_are_one_clear_error(tmp_path: Path) -> None:
    place = listed(tmp_path)
    trees.write_spine(tmp_path / "1/label.nii.gz", (2, 100))
    values = list(mrspineseg().file_names())
    with pytest.raises(InputError) as caught:
        check_training(*place, values, label_graph="mrspineseg", progress=False)
    lines = [line for line in str(caught.value).splitlines() if line.startswith("error")]
    assert len(lines) == 1
    for fragment in ("1/label.nii.gz", "100 (42 voxels)", "--label_graph spider"):
        assert fragment in lines[0]
    with pytest.raises(InputError, match="'spider' does not have them"):
        check_inference(*place, [0, 1], label_graph="spider", progress=False)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda root: trees.write_scan(root / "0/t2.nii.gz", 1, (*trees.SHAPE, 2)), "2 channel"),
        (lambda root: trees.write_voxels(root / "0/t2.nii.gz", np.full(trees.SHAPE, np.nan, np.float32)), "NaN"),
        (lambda root: trees.write_spine(root / "0/label.nii.gz", (2,), np.diag([2, 1, 1, 1])), "affine differs"),
    ],
)
def test_scans_that_cannot_be_used(tmp_path: Path, spoil: Callable[[Path], Any], found: str) -> None:
    place = listed(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=f"(?s)0/.*{found}"):
        check_training(*place, list(mrspineseg().file_names()), label_graph="mrspineseg", progress=False)


def test_label_values_of_the_bundle_follow_the_graph(tmp_path: Path) -> None:
    options = {"dataset_dir": listed(tmp_path)[0], "datalist": "datalist.json", "label_graph": "auto"}
    assert labels_of("spineparsenet", options) == list(range(20))
    assert labels_of("spineparsenet", {**options, "label_graph": "spider"}) == list(spider().file_names())
    (tmp_path / "graph.json").write_text(json.dumps(mrspineseg(3).to_config()))
    listed(tmp_path, label_graph="graph.json")
    assert labels_of("spineparsenet", options) == [0, 1, 2, 3, 11, 12]
    assert labels_of("spineparsenet", {**options, "out_channels": 6}) == [0, 1, 2, 3, 11, 12]
    with pytest.raises(InputError, match=r"graph.json' has 6 labels with the background, out_channels is 20"):
        labels_of("spineparsenet", {**options, "out_channels": 20})
