# SPDX-License-Identifier: Apache-2.0
"""The page: its numbers, that it needs nothing else, that no name can break it, and what it says is wrong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from custom_nets.errors import InputError
from custom_nets.report import write_report
from tests.conftest import Made
from tests.report.out_dirs import FAILURE, FINDING, write_out_dir, write_run
from tests.report.parsed_page import ParsedPage
from tools.report import main

GONE = {"file": "/gone/a.nii.gz", "sha256": "", "bytes": 1}
HOSTILE = "<script>alert(1)</script> \"'&é"


@pytest.fixture(scope="module")
def sound(made_once: Made) -> Path:
    """Two cases with references and uncertainty maps, and the page about them; read only."""

    def make(folder: Path) -> None:
        write_report(write_out_dir(folder, uncertainty=True))

    return made_once("report", make) / "out"


@pytest.fixture
def out_dir(sound: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(sound, tmp_path / "out"))


@pytest.fixture(scope="module")
def page(sound: Path) -> ParsedPage:
    return ParsedPage(sound / "report.html")


def record(out_dir: Path, case: str = "patient 1") -> dict:
    content: dict = json.loads((out_dir / "cases" / f"{case}.json").read_text())
    return content


def change(out_dir: Path, **changes: object) -> None:
    path = out_dir / "cases" / "patient 1.json"
    path.write_text(json.dumps(record(out_dir) | changes))


def texts(out_dir: Path, **options: object) -> str:
    write_report(out_dir, viewer_cases=0, **options)  # type: ignore[arg-type]
    return " ".join(ParsedPage(out_dir / "report.html").texts)


def test_numbers_of_the_records_and_the_metrics_stand_in_the_page(sound: Path, page: ParsedPage) -> None:
    for case in ("patient 1", "patient 2"):
        structure = record(sound, case)["structures"][0]
        assert f"{structure['volume_ml']:.2f}" in page.texts
        assert str(structure["components"]) in page.texts
    numbers = json.loads(page.scripts["numbers"])
    assert numbers["1"]["1"]["volume"] == record(sound)["structures"][0]["volume_ml"]
    dice = [numbers[case]["1"]["dice"] for case in ("1", "2")]
    assert all(0.1 < value < 0.99 for value in dice)
    assert f"{dice[0]:.3f}" in page.texts
    assert f"{np.mean(dice):.3f} ± {np.std(dice, ddof=1):.3f}" in page.texts
    assert FAILURE["message"] in page.texts
    assert FINDING["text"] in page.texts and FINDING["remedy"] in page.texts
    assert "c" * 64 in " ".join(page.texts) and "2.13.0" in page.texts
    assert f"sha256 {record(sound)['images']['T1']['sha256']}" in page.texts


def test_page_is_whole_and_needs_nothing_else(sound: Path, page: ParsedPage) -> None:
    assert not page.unclosed
    assert page.of("html", lang="en")
    for attribute in ("src", "href", "srcset", "action"):
        used = [str(own[attribute]) for _, own in page.elements if attribute in own]
        assert all(value.startswith(("data:image/", "#")) for value in used)
    text = (sound / "report.html").read_text()
    assert "default-src 'none'" in text and not re.search(r"url\(|@import", text)
    anchors = {own["id"] for _, own in page.elements if "id" in own}
    assert {str(own["href"])[1:] for own in page.of("a")} <= anchors
    assert any("Copyright (c) 2021, Niivue" in text for text in page.texts), "licences of the viewer go with it"


def test_every_picture_says_what_it_shows(page: ParsedPage) -> None:
    alts = [str(own.get("alt")) for own in page.of("img")]
    assert len(alts) == 2 * 2 * 3  # cases, pictures of the scan and of the uncertainty, planes
    assert sum("with contours of lesion" in alt for alt in alts) == 6
    assert sum(alt.startswith("Uncertainty map of patient 2") for alt in alts) == 3
    assert all(int(str(own["width"])) > 100 for own in page.of("img"))


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    out_dir = write_out_dir(tmp_path, cases=("one",), failed=({"case": HOSTILE, "message": "{{ 7 * 7 }}"},))
    found = json.loads((out_dir / "cases" / "one.json").read_text())
    found["case"] = found["structures"][0]["name"] = HOSTILE
    (out_dir / "cases" / "one.json").write_text(json.dumps(found))
    write_report(out_dir)
    page = ParsedPage(out_dir / "report.html")
    assert page.texts.count(HOSTILE) >= 3
    assert "{{ 7 * 7 }}" in page.texts
    assert json.loads(page.scripts["volumes-1"])["case"] == HOSTILE
    assert "<script>alert" not in (out_dir / "report.html").read_text()


def test_same_folder_gives_the_same_bytes(sound: Path, out_dir: Path) -> None:
    write_report(out_dir)
    assert (out_dir / "report.html").read_bytes() == (sound / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda out: (out / "patient 1_seg.nii.gz").unlink(), "patient 1_seg.nii.gz: no such file"),
        (lambda out: (out / "patient 1_seg.nii.gz").write_bytes(b"\x1f\x8b cut"), "cannot be read"),
        (
            lambda out: change(out, images={"T1": {"file": "/gone/a.nii.gz", "sha256": "", "bytes": 1}}),
            "/gone/a.nii.gz",
        ),
        (lambda out: change(out, label="/gone/b.nii.gz"), "/gone/b.nii.gz: no such file"),
        (lambda out: (out / "cases" / "patient 1.json").write_text("{"), "patient 1.json: cannot be read"),
        (lambda out: change(out, structures=[{"label": 1}]), "patient 1.json: cannot be read as a case's record"),
        (lambda out: shutil.copy(out / "patient 2_seg.nii.gz", out / "patient 1_seg.nii.gz"), "was changed after"),
    ],
)
def test_what_is_missing_or_broken_is_told_in_the_page_and_the_rest_shown(out_dir: Path, spoil, told: str) -> None:
    spoil(out_dir)
    text = texts(out_dir)
    assert told in text
    assert "patient 2" in text


def test_references_come_from_a_folder_too(out_dir: Path, sound: Path, tmp_path: Path) -> None:
    change(out_dir, label=None)
    labels = tmp_path / "labels" / "patient 1"
    labels.mkdir(parents=True)
    shutil.copy(sound / "patient 1_seg.nii.gz", labels / "patient 1-label.nii.gz")
    assert "1.000" in texts(out_dir, labels=[tmp_path / "labels"])
    with pytest.raises(InputError, match="no label map of any case"):
        write_report(out_dir, labels=[out_dir / "cases"])


def test_without_references_there_is_no_column_of_metrics(tmp_path: Path) -> None:
    out_dir = write_out_dir(tmp_path, cases=("one",), reference=False, failed=())
    texts(out_dir)
    page = ParsedPage(out_dir / "report.html")
    assert "Volume ml" in page.texts and "Dice" not in page.texts
    assert not any("dashed" in text.lower() for text in page.texts)


def test_only_failed_cases_make_a_page_and_none_at_all_an_error(tmp_path: Path) -> None:
    write_run(tmp_path, "rsanet", {1: "lesion"}, (FAILURE,))
    assert FAILURE["message"] in texts(tmp_path)
    write_run(tmp_path, "rsanet", {1: "lesion"})
    with pytest.raises(InputError, match="no case is complete"):
        write_report(tmp_path)
    (tmp_path / "prediction.json").write_text("[]")
    with pytest.raises(InputError, match=r"prediction\.json: holds list"):
        write_report(tmp_path)


def test_curves_of_all_stages_of_a_training_are_drawn(tmp_path: Path) -> None:
    out_dir, run = tmp_path / "out", tmp_path / "run"
    write_run(out_dir, "rsanet", {1: "lesion"}, (FAILURE,))
    for stage in ("coarse", "fine"):
        (run / stage).mkdir(parents=True)
        (run / stage / "metrics.csv").write_text("epoch,train_loss\n1,0.5\n2,0.4\n")
    text = texts(out_dir, runs=[run])
    assert "run/coarse/metrics.csv" in text and "run/fine/metrics.csv" in text
    with pytest.raises(InputError, match=r"there is no metrics\.csv"):
        write_report(out_dir, runs=[out_dir])


def test_tool_writes_the_page_and_names_options_that_are_wrong(
    out_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(str(out_dir), modality="FLAIR", viewer_cases=1)
    assert "2 cases in" in capsys.readouterr().out
    page = ParsedPage(out_dir / "report.html")
    assert len(page.of("button", class_="open needs-script")) == 1
    assert any("pictures show FLAIR" in text for text in page.texts)
    for options, told in (
        ({"modality": "PD"}, "--modality PD: no scan has it; choose one of T1, T2, FLAIR"),
        ({"viewer_cases": 1.5}, "--viewer_cases is 1.5"),
        ({"page_mb": 0}, "page_mb 0"),
        ({"labels": str(tmp_path / "none")}, "no such folder"),
    ):
        with pytest.raises(InputError, match=re.escape(told)):
            main(str(out_dir), **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"prediction\.json: no such file"):
        main(str(tmp_path / "none"))
