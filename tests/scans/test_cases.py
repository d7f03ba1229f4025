# SPDX-License-Identifier: Apache-2.0
"""What a user may point at becomes cases, or one clear line; no voxel is read for it."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from custom_nets.errors import InputError
from custom_nets.files import write_json
from custom_nets.scans import ScanCase, find_cases

LESIONS, ONE = "rsanet", "spineparsenet"


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def told(cases: Sequence[ScanCase], root: Path) -> dict[str, list[str]]:
    return {case.name: [path.relative_to(root).as_posix() for path in case.images.values()] for case in cases}


WANTED = "wanted, name it with --T1 PATTERN, such as --T1 '*_t1*' or '{case}_T1.nii.gz'."
FLAT = ["a_t1.nii.gz", "a_t2.nii.gz", "a_flair.nii.gz"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (FLAT, {"a": FLAT}),
        ([*FLAT, "a_t1post.nii.gz", "a_seg.nii.gz", "notes.txt", ".a_t1.nii.gz", "Thumbs.db"], {"a": FLAT}),
        (["p 1/t1.nii", "p 1/T2.NRRD", "p 1/flair.mha"], {"p_1": ["p 1/t1.nii", "p 1/T2.NRRD", "p 1/flair.mha"]}),
        (["ö/x_t1.nii", "ö/y_t2.nii", "ö/z_flair.nii"], {"ö": ["ö/x_t1.nii", "ö/y_t2.nii", "ö/z_flair.nii"]}),
        (["t1/a.nii", "t2/a.nii", "flair/a.nii"], {"a": ["t1/a.nii", "t2/a.nii", "flair/a.nii"]}),
        (
            ["P1_T1_T1.nii", "P1_T1_T2.nii", "P1_T1_FLAIR.nii", "P1_T2_T1.nii", "P1_T2_T2.nii", "P1_T2_FLAIR.nii"],
            {
                "P1_T1": ["P1_T1_T1.nii", "P1_T1_T2.nii", "P1_T1_FLAIR.nii"],
                "P1_T2": ["P1_T2_T1.nii", "P1_T2_T2.nii", "P1_T2_FLAIR.nii"],
            },
        ),
    ],
)
def test_modalities_are_brought_together_by_name(tmp_path: Path, names: list[str], expected: Any) -> None:
    cases = find_cases(touch(tmp_path, *names), LESIONS)
    assert told(cases, tmp_path) == expected
    assert list(cases[0].images) == ["T1", "T2", "FLAIR"], "in the bundle's order"
    assert not any(case.problem for case in cases)
    assert pickle.loads(pickle.dumps(cases)) == cases


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.nii", "b_t2.mha", "b_seg.nii", "c_adc.nii"], {"a": ["a.nii"], "b_t2": ["b_t2.mha"]}),
        (["x/t2_tra.nii", "y/t2_tra.nii"], {"x": ["x/t2_tra.nii"], "y": ["y/t2_tra.nii"]}),
        (["x/t2_tra.nii", "x/t2_sag.nii"], {"x_t2_sag": ["x/t2_sag.nii"], "x_t2_tra": ["x/t2_tra.nii"]}),
        (["x/case1.nii", "y/CASE1.nii"], {"x_case1": ["x/case1.nii"], "y_CASE1": ["y/CASE1.nii"]}),
    ],
)
def test_every_scan_is_a_case_of_one_modality(tmp_path: Path, names: list[str], expected: Any) -> None:
    assert told(find_cases(touch(tmp_path, *names), ONE), tmp_path) == expected


def test_names_differ_and_are_safe(tmp_path: Path) -> None:
    names = ["a/b/one.nii", "c/b/one.nii", f"{'ä' * 90}.nii", "x y;z.nii"]
    cases = find_cases(touch(tmp_path, *names), ONE)
    found = {case.name for case in cases}
    assert len(found) == 4 and "x_y_z" in found
    assert all(len(f"{name}_probabilities.nii.gz".encode()) < 200 and "/" not in name for name in found)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (
            ["a_t1.nii", "a_flair.nii"],
            "T2 missing: in .* there is a_flair.nii, a_t1.nii, of which none is named t2, t2w",
        ),
        (["a_t1.nii", "a_flair.nii"], r"--T2 PATTERN, such as --T2 '\*_t2\*' or '{case}_T2.nii.gz'"),
        ([*FLAT, "a_t2.nii"], "2 files for T2, a_t2.nii, a_t2.nii.gz: leave one of them"),
        (["p/x_t1.nii", "p/y_t2.nii"], "FLAIR missing: in .*p there is x_t1.nii, y_t2.nii"),
    ],
)
def test_what_is_missing_or_twice_is_named(tmp_path: Path, names: list[str], problem: str) -> None:
    touch(tmp_path, *names, *(f"whole/b_{name}.nii" for name in ("t1", "t2", "flair")))
    cases = {case.name: case for case in find_cases(tmp_path, LESIONS)}
    assert not cases.pop("b").problem, "the others are found"
    (broken,) = cases.values()
    assert re.search(problem, broken.problem)


def test_what_is_left_out_by_its_name_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    touch(tmp_path, *FLAT, "truth/a_truth.nii")
    find_cases(tmp_path, LESIONS, {"label": ["*_truth"]}, tell=said.append)
    assert said == [f"{tmp_path}: by their names 1 of 4 files are left out, a_truth.nii: if one is {WANTED}"]
    touch(tmp_path, "a_seg.nii", "notes.txt", *(f"a_{word}.nii" for word in ("adc", "dwi", "mask", "pd", "stir")))
    assert len(find_cases(tmp_path, LESIONS, tell=said.append)) == 1
    names = "a_adc.nii, a_dwi.nii, a_mask.nii, a_pd.nii, a_seg.nii, a_stir.nii and 1 more"
    assert said[1:] == [f"{tmp_path}: by their names 7 of 10 files are left out, {names}: if one is {WANTED}"]
    find_cases(tmp_path / FLAT[0], ONE, tell=said.append)
    find_cases(tmp_path, LESIONS, files={"T1": tmp_path / FLAT[0]}, tell=said.append)
    assert len(said) == 2, "what the user names leaves nothing out"


def test_one_file_that_two_patterns_match(tmp_path: Path) -> None:
    (case,) = find_cases(touch(tmp_path, *FLAT), LESIONS, {"T1": ["a_t*"], "T2": ["a_t*"]})
    assert "a_t1.nii.gz matches" in case.problem and "say which it is with --T" in case.problem


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [({"T1": ["*anat"], "label": ["*truth"]}, "truth/a_truth.nii"), ({"label": ["*_truth"]}, "a_truth.nii")],
)
def test_labels_by_pattern(tmp_path: Path, patterns: dict, expected: str) -> None:
    name = "anat" if "T1" in patterns else "t1"
    touch(tmp_path, f"a_{name}.nii", "a_t2.nii", "a_flair.nii", "a_truth.nii", "b_truth.nii")
    (case,) = find_cases(tmp_path, LESIONS, patterns)
    assert case.label == tmp_path / "a_truth.nii" and not case.problem


def test_paths_with_placeholders(tmp_path: Path) -> None:
    touch(tmp_path, "raw/k1/one.nii", "raw/k1/two.nii", "raw/k1/three.nii", "raw/k2/one.nii", "seg/k1.nii")
    patterns = {"T1": ["raw/{case}/one.nii"], "T2": ["raw/{case}/two.nii"], "FLAIR": ["raw/{case}/three.nii"]}
    whole, broken = find_cases(tmp_path, LESIONS, {**patterns, "label": ["seg/{case}.nii"]})
    assert (whole.name, whole.problem, whole.label) == ("k1", "", tmp_path / "seg/k1.nii")
    assert (broken.name, broken.label) == ("k2", None)
    assert "no T2 file" in broken.problem and "no FLAIR file" in broken.problem
    with pytest.raises(InputError, match=r"--FLAIR: 0 patterns"):
        find_cases(tmp_path, LESIONS, {"T1": ["{case}_t1.nii"], "T2": ["{case}_t2.nii"]})
    with pytest.raises(InputError, match=r"no file matches --T2 '{case}.nii'"):
        find_cases(tmp_path, ONE, {"T2": ["{case}.nii"]})


def test_files_by_hand(tmp_path: Path) -> None:
    touch(tmp_path, *FLAT, "a_seg.nii")
    files = {"flair": Path("a_flair.nii.gz"), "T2": tmp_path / "a_t2.nii.gz", "label": Path("a_seg.nii")}
    (case,) = find_cases(tmp_path, LESIONS, files=files)
    assert case.problem == "T1 not given: add --T1 FILE"
    (case,) = find_cases(tmp_path, LESIONS, files={**files, "T1": Path("a_t1.nii.gz")})
    assert told([case], tmp_path) == {"a": FLAT} and case.label == tmp_path / "a_seg.nii" and not case.problem
    with pytest.raises(InputError, match=r"--T1 a_t1.nii: is no file, though others are: correct the path"):
        find_cases(tmp_path, LESIONS, {"T1": ["a_t1.nii"]}, files)
    with pytest.raises(InputError, match=r"--T1 gone.nii: does not exist"):
        find_cases(tmp_path, LESIONS, files={"T1": Path("gone.nii")})


@pytest.mark.parametrize(
    ("file", "bundle", "problem"),
    [
        ("p/t2.nii.gz", ONE, ""),
        ("p/whatever.nhdr", ONE, ""),
        ("p/t1.nii.gz", ONE, "t1.nii.gz is another sequence by its name, not T2: if it is, say --T2 't1.nii.gz'"),
        ("p/a_seg.nii.gz", ONE, "a_seg.nii.gz is a label or result by its name"),
        ("p/t1.nii.gz", LESIONS, "t1.nii.gz is one file, but a case needs T1, T2, FLAIR: give their folder"),
    ],
)
def test_a_single_file(tmp_path: Path, file: str, bundle: str, problem: str) -> None:
    touch(tmp_path, file)
    (case,) = find_cases(tmp_path / file, bundle)
    assert case.problem.startswith(problem) and bool(case.problem) == bool(problem)
    if not problem:
        assert case.images == {"T2": tmp_path / file}
    elif bundle == ONE:
        (accepted,) = find_cases(tmp_path / file, bundle, {"T2": [Path(file).name]})
        assert not accepted.problem


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "is empty: give a folder that holds scans"),
        (["readme.md", "a.hdr"], "holds no NIfTI, NRRD, MetaImage or DICOM scan, only a.hdr, readme.md"),
        (["a_seg.nii", "b_probabilities.nii"], "no file is T2 by its name, there is a_seg.nii, b_probabilities.nii"),
    ],
)
def test_a_folder_without_scans(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_cases(touch(tmp_path, *names), ONE)


def test_what_cannot_be_pointed_at(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone: does not exist"):
        find_cases(tmp_path / "gone", ONE)
    touch(tmp_path, "a.txt")
    with pytest.raises(InputError, match=r"a.txt: is no format that is read here: give NIfTI, .nrrd"):
        find_cases(tmp_path / "a.txt", ONE)


BIDS = "sub-{0}/ses-1/anat/sub-{0}_ses-1_{1}.nii.gz"


def test_bids(tmp_path: Path) -> None:
    scans = [BIDS.format(sub, kind) for sub in ("01", "T2w") for kind in ("T1w", "ce-gd_T1w", "T2w", "FLAIR")]
    touch(tmp_path, *scans, BIDS.format("03", "T2w"), "sub-01/ses-1/func/sub-01_ses-1_bold.nii.gz")
    reference = touch(tmp_path, f"derivatives/manual/{BIDS.format('01', 'space-T1w_dseg')}")
    touch(tmp_path, f"derivatives/prep/{BIDS.format('01', 'desc-brain_mask')}")
    touch(tmp_path, f"derivatives/prep/{BIDS.format('01', 'desc-preproc_T1w')}")
    first, broken, second = find_cases(tmp_path, "s2ca_net")
    assert (first.name, broken.name, second.name) == ("sub-01_ses-1", "sub-03_ses-1", "sub-T2w_ses-1")
    order = [scans[place] for place in (0, 2, 1, 3)]
    assert told([first], tmp_path) == {"sub-01_ses-1": order}
    assert first.label == reference / "derivatives/manual" / BIDS.format("01", "space-T1w_dseg")
    assert broken.problem.startswith("T1, T1CE, FLAIR missing") and not second.problem and second.label is None
    touch(tmp_path, BIDS.format("01", "run-2_T2w"))
    assert find_cases(tmp_path, "s2ca_net")[0].problem.startswith("2 files for T2")
    assert not find_cases(tmp_path, "s2ca_net", {"T2": ["run-2_T2w"]})[0].problem
    assert told(find_cases(tmp_path / "sub-03", ONE), tmp_path) == {"sub-03_ses-1": [BIDS.format("03", "T2w")]}


def write_list(root: Path, modality: Any, *images: Any) -> Path:
    cases = [{"image": image, "label": f"l{number}.nii"} for number, image in enumerate(images)]
    header = {} if modality is None else {"modality": {str(place): name for place, name in enumerate(modality)}}
    return write_json(
        root / "datalist.json", {**header, "training": [{"image": ["x"], "label": "y"}], "testing": cases}
    )


def test_a_datalist_tells_the_order_of_its_modalities(tmp_path: Path) -> None:
    path = write_list(
        tmp_path, ["FLAIR", "T1w", "PD", "T2"], ["k_1.nii", "k_2.nii", "k_3.nii", "k_4.nii"], ["m.nii.gz"]
    )
    for source in (tmp_path, path):
        one, stacked = find_cases(source, LESIONS)
        assert told([one], tmp_path) == {"k": ["k_2.nii", "k_4.nii", "k_1.nii"]}
        assert one.label == tmp_path / "l0.nii"
        assert stacked.channels == {"T1": 1, "T2": 3, "FLAIR": 0}
        assert told([stacked], tmp_path) == {"m": ["m.nii.gz"] * 3}
    with pytest.raises(InputError, match=r"has no validation cases \(there are: training 1, testing 2\)"):
        find_cases(tmp_path, LESIONS, section="validation")
    with pytest.raises(InputError, match=r"section 'all' is unknown"):
        find_cases(tmp_path, LESIONS, section="all")


def test_a_datalist_that_does_not_tell(tmp_path: Path) -> None:
    write_list(tmp_path, None, ["a_1.nii", "a_2.nii", "a_3.nii"], ["b_flair.nii", "b_t1.nii", "b_t2.nii"])
    unknown, by_name = find_cases(tmp_path, LESIONS)
    assert "does not name its modalities" in unknown.problem and '"modality": {"0": "T1"' in unknown.problem
    assert told([by_name], tmp_path) == {"b": ["b_t1.nii", "b_t2.nii", "b_flair.nii"]} and not by_name.problem
    write_list(tmp_path, ["T1", "T2", "FLAIR"], ["a_1.nii", "a_2.nii"])
    assert "lists 2 files, but 3 modalities" in find_cases(tmp_path, LESIONS)[0].problem
    write_list(tmp_path, ["whatever"], ["a.nii"])
    assert told(find_cases(tmp_path, ONE), tmp_path) == {"a": ["a.nii"]}
