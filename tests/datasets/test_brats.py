# SPDX-License-Identifier: Apache-2.0
"""Data sets of brain tumours: which file is what, the published division, conventions of labels, orders of channels."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import EnsureChannelFirstd, LoadImaged, SaveImage

from custom_nets.datasets import check_inference, check_training, load_section
from custom_nets.datasets.brats_layouts import BRATS_FROM_2023, BRATS_TO_2021, MSD_TASK01, TUMOUR_FOLDERS
from custom_nets.datasets.building import Examined, SplitPlan, assign
from custom_nets.datasets.checks import CaseReport
from custom_nets.datasets.domains import BRATS, domain_named, in_convention
from custom_nets.datasets.layouts import FoundCase, Layout, detect_layout, find_cases
from custom_nets.datasets.modalities import channel_order
from custom_nets.datasets.reader import SameGridReader
from custom_nets.datasets.splits import split_by_permutation
from custom_nets.datasets.tumour_labels import advice_on_values, label_convention, label_names, label_values
from custom_nets.errors import InputError
from custom_nets.preflight import labels_of
from custom_nets.registry import bundle
from custom_nets.transforms import ReorderChannelsd
from custom_nets.writers import WholeNibabelWriter
from tests.datasets import trees
from tests.recipe import document

MODALITIES = BRATS.modalities
MSD_ORDER = ("FLAIR", "T1", "T1CE", "T2")


@pytest.mark.parametrize(
    ("build", "layout", "labelled", "tests"),
    [
        (trees.brats2019, BRATS_TO_2021, 9, 1),
        (trees.brats2020, BRATS_TO_2021, 5, 2),
        (trees.brats2021, BRATS_TO_2021, 6, 0),
        (trees.brats2023, BRATS_FROM_2023, 9, 1),
        (trees.msd_task01, MSD_TASK01, 5, 2),
        (trees.tumour_folders, TUMOUR_FOLDERS, 5, 0),
    ],
)
def test_data_set_is_recognised(
    tmp_path: Path, build: Callable[[Path], None], layout: Layout, labelled: int, tests: int
) -> None:
    build(tmp_path)
    assert detect_layout(tmp_path, BRATS.layouts, MODALITIES) is layout
    found = find_cases(tmp_path, layout, MODALITIES)
    assert found.problems == []
    assert [bool(case.labels) for case in found.cases].count(True) == labelled
    assert [case.official_test and not case.labels for case in found.cases].count(True) == tests
    others = [other for other in BRATS.layouts if other is not layout]
    assert all(find_cases(tmp_path, other, MODALITIES).cases == [] for other in others), "file names tell them apart"


def test_grades_are_sites(tmp_path: Path) -> None:
    trees.brats2019(tmp_path)
    cases = find_cases(tmp_path, BRATS_TO_2021, MODALITIES).cases
    assert [case.site for case in cases] == [*["HGG", "HGG", "LGG"] * 3, ""]
    assert cases[2].name == cases[2].patient == "BraTS19_CBICA_A2_1"
    stem = tmp_path / "MICCAI_BraTS_2019_Data_Training/LGG/BraTS19_CBICA_A2_1/BraTS19_CBICA_A2_1"
    assert cases[2].images == tuple(Path(f"{stem}_{name}.nii.gz") for name in ("t1", "t2", "t1ce", "flair"))
    merged = find_cases(tmp_path / "MICCAI_BraTS_2019_Data_Training/HGG", BRATS_TO_2021, MODALITIES).cases
    assert [case.name for case in merged] == [case.name for case in cases if case.site == "HGG"]


def test_the_label_with_another_name_of_2020(tmp_path: Path) -> None:
    trees.brats2020(tmp_path)
    cases = {case.name: case for case in find_cases(tmp_path, BRATS_TO_2021, MODALITIES).cases}
    assert cases["BraTS20_Training_355"].labels[0].name == "W39_1998.09.19_Segm.nii"
    assert cases["BraTS20_Validation_001"].official_test
    (tmp_path / "MICCAI_BraTS2020_TrainingData/BraTS20_Training_355/W39_1998.09.19_Segm.nii").unlink()
    problems = find_cases(tmp_path, BRATS_TO_2021, MODALITIES).problems
    assert [(problem.case, problem.found.split(" (")[0]) for problem in problems] == [
        ("BraTS20_Training_355", "no label file")
    ]


def test_time_points_of_2023_are_one_patient(tmp_path: Path) -> None:
    trees.brats2023(tmp_path)
    cases = find_cases(tmp_path, BRATS_FROM_2023, MODALITIES).cases
    assert [(case.name, case.patient) for case in cases[:3]] == [
        ("BraTS-GLI-00000-000", "BraTS-GLI-00000"),
        ("BraTS-GLI-00000-001", "BraTS-GLI-00000"),
        ("BraTS-GLI-00001-000", "BraTS-GLI-00001"),
    ]
    stem = "BraTS-GLI-00000-000"
    assert [path.name for path in cases[0].images] == [f"{stem}-{word}.nii.gz" for word in ("t1n", "t2w", "t1c", "t2f")]


@pytest.mark.parametrize(("name", "patient"), [("BraTS-SSA-00002-000", "BraTS-SSA-00002"), ("sub-001", "sub-001")])
def test_only_a_number_behind_the_patients_is_a_time_point(tmp_path: Path, name: str, patient: str) -> None:
    trees.write_files(tmp_path, [f"{name}/{name}-{word}.nii" for word in ("t1n", "t2w", "t1c", "t2f")], None)
    cases = find_cases(tmp_path, BRATS_FROM_2023, MODALITIES, labelled=False).cases
    assert [(case.name, case.patient) for case in cases] == [(name, patient)]


def test_one_file_of_all_modalities(tmp_path: Path) -> None:
    trees.msd_task01(tmp_path)
    assert MSD_TASK01.modalities == MSD_ORDER
    cases = find_cases(tmp_path, MSD_TASK01, MODALITIES).cases
    assert cases[0].images == (tmp_path / "Task01_BrainTumour/imagesTr/BRATS_001.nii.gz",)
    assert [case.name for case in cases if case.official_test] == ["BRATS_006", "BRATS_007"]
    with pytest.raises(InputError, match="each file of msd_task01 holds FLAIR, T1, T1CE, T2: leave --modalities out"):
        find_cases(tmp_path, MSD_TASK01, ("T1", "FLAIR"))
    with pytest.raises(InputError, match="modality 'PD' is not in msd_task01: use any of FLAIR"):
        find_cases(tmp_path, MSD_TASK01, ("T1", "PD"))


@pytest.mark.parametrize("number", [10, 335])
def test_the_published_split(number: int) -> None:
    names = [f"{place:04d}" for place in range(number)]
    shuffled = [names[place] for place in np.random.default_rng(0).permutation(number)]
    parts = dict(zip(shuffled, split_by_permutation(shuffled, shuffled), strict=True))
    golden = document("s2ca_net")["misc"]["split"][str(number)]
    assert {name for name, part in parts.items() if part == "validation"} == {names[place] for place in golden["val"]}
    assert all(parts[names[place]] == "training" for place in golden["train_head"])
    assert split_by_permutation(names, names, seed=1) != split_by_permutation(names, names)


@pytest.mark.parametrize(("number", "validated"), [(2, 1), (5, 1), (6, 2), (369, 74)])
def test_a_fifth_is_validated(number: int, validated: int) -> None:
    names = [str(place) for place in range(number)]
    assert split_by_permutation(names, names).count("validation") == validated


def test_the_published_split_keeps_patients_together() -> None:
    patients = [f"p{number // 2:02d}" for number in range(23)]
    parts = split_by_permutation([f"{patient}-{number}" for number, patient in enumerate(patients)], patients)
    validated = {patient for patient, part in zip(patients, parts, strict=True) if part == "validation"}
    assert len(validated) == math.ceil(0.2 * 12)
    assert not validated & {patient for patient, part in zip(patients, parts, strict=True) if part == "training"}
    with pytest.raises(InputError, match=r"1 patient\(s\) cannot be split"):
        split_by_permutation(["a-0", "a-1"], ["a", "a"])


def examined(number: int) -> list[Examined]:
    names = [f"case{place:02d}" for place in range(number)]
    report = CaseReport([], None, None, 1.0)
    return [Examined(FoundCase(name, name, (), (Path(name),), False), report) for name in names]


@pytest.mark.parametrize(
    ("options", "counts"), [({}, (8, 2, 0)), ({"fractions": (0.5, 0.3, 0.2)}, (5, 3, 2)), ({"folds": 2}, (5, 5, 0))]
)
def test_the_published_split_is_left_for_fractions_and_folds(options: dict[str, Any], counts: tuple[int, ...]) -> None:
    plan = SplitPlan(**options, seed=256, published_split=True)
    parts = assign(examined(10), plan)[0]
    assert tuple(parts.count(part) for part in ("training", "validation", "testing")) == counts
    assert plan.as_published == (options == {})
    published = [index for index in range(10) if parts[index] == "validation"] == [5, 6]
    assert published == (options == {})


@pytest.mark.parametrize(("convention", "values"), [("brats", (1, 2, 4)), ("brats2023", (1, 2, 3)), ("msd", (2, 1, 3))])
def test_names_of_the_labels(convention: str, values: tuple[int, ...]) -> None:
    own = bundle("s2ca_net").labels
    names = label_names(convention)
    assert [names[value] for value in (0, *values)] == [own[value] for value in (0, 1, 2, 4)]
    assert list(names) == label_values(convention) == sorted(names)
    assert in_convention(domain_named("brats"), convention).labels == names


def test_the_bundles_modalities_and_labels() -> None:
    assert bundle("s2ca_net").modalities == MODALITIES
    assert domain_named("brats").labels == bundle("s2ca_net").labels
    with pytest.raises(InputError, match="only label maps of brats have one"):
        in_convention(domain_named("atlas"), "msd")


@pytest.mark.parametrize(
    ("header", "wanted", "convention"),
    [
        ({}, "auto", "brats"),
        ({"label_convention": "msd"}, "auto", "msd"),
        ({"label_convention": "msd"}, "brats2023", "brats2023"),
    ],
)
def test_convention_of_a_list(tmp_path: Path, header: dict[str, Any], wanted: str, convention: str) -> None:
    trees.write_datalist(tmp_path, **header, testing=[])
    assert label_convention(tmp_path, "datalist.json", wanted) == convention
    options = {"dataset_dir": tmp_path, "datalist": "datalist.json", "label_convention": wanted}
    assert labels_of("s2ca_net", options) == label_values(convention)


def test_convention_without_a_list(tmp_path: Path) -> None:
    assert label_convention(tmp_path / "absent") == label_convention(tmp_path) == "brats"
    (tmp_path / "datalist.json").write_text("{")
    assert label_convention(tmp_path) == "brats"


def test_unknown_convention(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'fets': choose one of brats \(1 core, 2 oedema, 4 enhancing\)"):
        label_convention(tmp_path, "datalist.json", "fets")
    trees.write_datalist(tmp_path, label_convention=["msd"])
    with pytest.raises(InputError, match=r"datalist.json: the label convention is .*give --label_convention NAME"):
        label_convention(tmp_path)


@pytest.mark.parametrize(
    ("values", "convention", "said", "unsaid"),
    [
        ((1, 2, 3), "brats", ("--label_convention brats2023 (0, 1, 2, 3) or --label_convention msd",), "cavity"),
        ((1, 2, 4), "brats2023", ("--label_convention brats (0, 1, 2, 4)", "resection cavity"), " msd"),
        ((1, 2, 3, 4), "brats2023", ("brats2023 has 0, 1, 2, 3: map yours", "cavity"), "--label_convention"),
        ((7,), "msd", ("msd has 0, 1, 2, 3: map yours to them",), "cavity"),
    ],
)
def test_advice_on_values_of_another_convention(
    values: tuple[int, ...], convention: str, said: tuple[str, ...], unsaid: str
) -> None:
    advice = advice_on_values(values, convention)
    assert all(fragment in advice for fragment in said)
    assert unsaid not in advice


@pytest.mark.parametrize(("convention", "value", "other"), [("brats", 3, "brats2023"), ("brats2023", 4, "brats")])
def test_value_of_another_convention_is_one_clear_error(
    tmp_path: Path, convention: str, value: int, other: str
) -> None:
    trees.tumour_folders(tmp_path)
    sound = tuple(label_values(convention)[1:])
    for path in (*tmp_path.glob("*/seg*"), *tmp_path.glob("*/label*")):
        trees.write_tumour(path, sound)
    cases = [
        {"image": [path.relative_to(tmp_path).as_posix() for path in case.images], "label": case.labels[0].as_posix()}
        for case in find_cases(tmp_path, TUMOUR_FOLDERS, MODALITIES).cases
    ]
    trees.write_datalist(tmp_path, training=cases[:3], validation=cases[3:])
    arguments = (tmp_path, "datalist.json", MODALITIES, label_values(convention))
    check_training(*arguments, label_convention=convention, progress=False)
    trees.write_tumour(tmp_path / "TCGA-01/seg.nii.gz", (1, 2, value))
    with pytest.raises(InputError) as caught:
        check_training(*arguments, label_convention=convention, progress=False)
    lines = [line for line in str(caught.value).splitlines() if line.startswith("error")]
    assert len(lines) == 1
    for fragment in ("TCGA-01/seg.nii.gz", f"{value} (3 voxels)", f"--label_convention {other} "):
        assert fragment in lines[0]


def permuted(root: Path, names: tuple[str, ...] = MSD_ORDER) -> None:
    trees.write_scan(root / "case.nii.gz", 1, (*trees.SHAPE, 4))
    trees.write_datalist(
        root, modality={str(place): name for place, name in enumerate(names)}, testing=[{"image": "case.nii.gz"}]
    )


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (MSD_ORDER, [1, 3, 2, 0]),
        (("t1", "t2", "t1ce", "flair"), [0, 1, 2, 3]),
        (("FLAIR", "T1w", "t1gd", "T2w"), [1, 3, 2, 0]),  # as the Decathlon's own list calls them
        (("t1n", "t1c", "t2w", "t2f"), [0, 2, 1, 3]),  # as BraTS 2023 does
        (("T1", "T2", "T1POST", "FLAIR"), [0, 1, 2, 3]),  # other names say nothing
        (("FLAIR", "T1"), [0, 1, 2, 3]),
    ],
)
def test_channel_order(tmp_path: Path, names: tuple[str, ...], order: list[int]) -> None:
    permuted(tmp_path, names)
    assert channel_order("s2ca_net", tmp_path, "datalist.json") == order


def test_channel_order_without_a_list(tmp_path: Path) -> None:
    assert channel_order("s2ca_net", tmp_path / "absent") == [0, 1, 2, 3]
    trees.write_datalist(tmp_path, testing=[])
    assert channel_order("s2ca_net", tmp_path) == [0, 1, 2, 3]


def test_channels_of_a_4d_file_come_in_the_networks_order(tmp_path: Path) -> None:
    permuted(tmp_path)
    case = load_section(tmp_path, section="testing", labelled=False)[0]
    loaded = EnsureChannelFirstd("image")(LoadImaged("image", reader=SameGridReader())(case))
    assert loaded["image"].shape == (4, *trees.SHAPE)
    ordered = ReorderChannelsd("image", channel_order("s2ca_net", tmp_path))(loaded)["image"]
    for name, channel in zip(MODALITIES, ordered, strict=True):
        assert torch.equal(channel.as_tensor(), loaded["image"][MSD_ORDER.index(name)].as_tensor())
    assert isinstance(ordered, MetaTensor)
    assert ordered.meta["filename_or_obj"] == loaded["image"].meta["filename_or_obj"]
    assert torch.equal(ordered.affine, loaded["image"].affine)


def test_the_label_map_of_a_4d_file_is_written_as_3d(tmp_path: Path) -> None:
    permuted(tmp_path)
    affine = np.array([[0, -2.0, 0, 5], [1, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]])
    trees.write_scan(tmp_path / "case.nii.gz", 1, (*trees.SHAPE, 4), affine)
    case = load_section(tmp_path, section="testing", labelled=False)[0]
    image = EnsureChannelFirstd("image")(LoadImaged("image", reader=SameGridReader())(case))["image"]
    label = (ReorderChannelsd("image", [1, 3, 2, 0])({"image": image})["image"][:1] > 500).to(torch.uint8)
    folder = tmp_path / "out"
    SaveImage(folder, "seg", writer=WholeNibabelWriter, output_dtype=np.uint8, separate_folder=False)(label)
    written = nibabel.load(folder / "case_seg.nii.gz")
    assert written.shape == trees.SHAPE
    assert np.allclose(written.affine, affine)
    assert np.array_equal(written.dataobj, nibabel.load(tmp_path / "case.nii.gz").dataobj[..., 1] > 500)


def test_identity_does_not_copy() -> None:
    image = torch.rand(2, 3, 3, 3)
    assert ReorderChannelsd("image", [0, 1, 2, 3])({"image": image})["image"] is image


@pytest.mark.parametrize("order", [[1, 2], [0, 0], [0, -1]])
def test_an_order_that_is_none(order: list[int]) -> None:
    with pytest.raises(InputError, match="give every number from 0 once"):
        ReorderChannelsd("image", order)


def test_an_order_of_other_channels() -> None:
    with pytest.raises(InputError, match="order of 4 channels is given but 'image' has 2"):
        ReorderChannelsd("image", [1, 0, 2, 3])({"image": torch.rand(2, 3, 3, 3)})


def test_another_order_is_refused_unless_channels_are_reordered(tmp_path: Path) -> None:
    permuted(tmp_path)
    with pytest.raises(InputError, match="FLAIR, T1, T1CE, T2, the network expects T1, T2, T1CE, FLAIR"):
        check_inference(tmp_path, "datalist.json", MODALITIES, progress=False)
    assert check_inference(tmp_path, "datalist.json", MODALITIES, any_order=True, progress=False) == []


def test_channels_of_a_4d_file_are_checked_by_the_files_names(tmp_path: Path) -> None:
    permuted(tmp_path)
    voxels = np.random.default_rng(0).random((*trees.SHAPE, 4), np.float32)
    voxels[0, 0, :2, 0] = np.nan
    voxels[..., 3] = 0
    trees.write_voxels(tmp_path / "case.nii.gz", voxels)
    with pytest.raises(InputError) as caught:
        check_inference(tmp_path, "datalist.json", MODALITIES, any_order=True, progress=False)
    assert "channel 0 (FLAIR) 2 NaN or infinite voxels" in str(caught.value)
    assert "channel 3 (T2) every voxel is 0" in str(caught.value)
