# SPDX-License-Identifier: Apache-2.0
"""The page: everything gathered, one HTML file written."""

from __future__ import annotations

import base64
import gzip
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from custom_nets.errors import InputError
from custom_nets.figures import learning_curves
from custom_nets.figures.colours import structure_colours
from custom_nets.files import write_text
from custom_nets.registry import available
from custom_nets.report import wording
from custom_nets.report.cases import CasePage, case_page, cohort
from custom_nets.report.pictures import figure_data
from custom_nets.report.records import Failure, Prediction, Record, read_prediction, read_records
from custom_nets.report.references import METRICS, find_references

#: Name of the page in the folder of a prediction.
PAGE = "report.html"

#: Table of a training run from which its curves are drawn.
_METRICS_TABLE = "metrics.csv"
_VIEWER, _LICENCES = "vendor/niivue.umd.js", "vendor/LICENSES.txt"
_MB = 1_000_000
_LARGEST_CASE, _SMALLEST_CASE = 6 * _MB, 150_000  # characters of the viewer's volumes of one case
_PER_CASE = 150_000  # characters of pictures and tables of one case, about


@dataclass(frozen=True)
class Curves:
    """Learning curves of one training.

    Attributes:
        name: of the table they are drawn from.
        data: URI with the picture in it.
    """

    name: str
    data: str


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        path: of the page.
        cases: that it shows.
        problems: cases that failed or whose record is broken.
        size: bytes of the page.
    """

    path: Path
    cases: int
    problems: Sequence[Failure]
    size: int


def write_report(
    out_dir: str | Path,
    *,
    runs: Sequence[Path] = (),
    labels: Sequence[Path] = (),
    modality: str | None = None,
    viewer_cases: int = 40,
    page_mb: float = 30.0,
    progress: Callable[[Sequence[Record]], Any] = iter,
) -> Report:
    """Write ``report.html`` about a prediction into its folder, whole or not at all.

    The page is one file without anything from a network. It grows by about 0.1 MB a case, by 1.1 MB for the viewer and
    by the volumes that the viewer shows, which share what ``page_mb`` leaves and are reduced until they fit.

    Args:
        out_dir: folder of the prediction.
        runs: folders of trainings whose learning curves are shown.
        labels: folders of reference label maps, see `custom_nets.report.references.find_references`.
        modality: the image that is shown; None = the first of the bundle.
        viewer_cases: how many cases, the first, the viewer can open.
        page_mb: megabytes that the page may have, unless pictures and tables alone need more.
        progress: takes the records and returns them one by one, such as a progress bar.

    Raises:
        InputError: the folder holds no prediction or no case, an option is out of range, or a folder of references or
            of a training is without what it is asked for.
    """
    out_dir = Path(out_dir)
    if viewer_cases < 0 or page_mb <= 0:
        raise InputError(f"viewer_cases is {viewer_cases}, page_mb {page_mb}: give 0 or more, and more than 0.")
    prediction = read_prediction(out_dir)
    records, broken = read_records(out_dir)
    problems = [*prediction.failed, *broken]
    if not records and not problems:
        raise InputError(f"{out_dir}: no case is complete in it; run python -m tools.predict first.")
    known = dict.fromkeys(name for record in records for name in record.images)
    if modality is not None and modality not in known:
        raise InputError(f"--modality {modality}: no scan has it; choose one of {', '.join(known)}.")
    references = find_references(records, labels)
    names = dict(prediction.labels) | {row["label"]: row["name"] for record in records for row in record.structures}
    curves = [picture for run in runs for picture in _curves(run)]
    colours = structure_colours(sorted(names), names)
    share = _share(len(records), min(viewer_cases, len(records)), page_mb)
    cases = [
        case_page(
            number,
            record,
            prediction,
            out_dir,
            colours,
            reference=references.get(record.case),
            modality=modality,
            viewer_characters=share if number <= viewer_cases else 0,
        )
        for number, record in enumerate(progress(records), start=1)
    ]
    text = _render(prediction, cases, problems, curves, modality)
    return Report(write_text(out_dir / PAGE, text), len(cases), problems, len(text.encode()))


def _share(cases: int, viewed: int, page_mb: float) -> int:
    """Characters that the volumes of one case may have."""
    if not viewed:
        return 0
    left = page_mb * _MB - len(_viewer_code()) - cases * _PER_CASE
    return int(min(max(left / viewed, _SMALLEST_CASE), _LARGEST_CASE))


def _curves(run: Path) -> list[Curves]:
    """Curves of all tables of a training run: one that has several stages has several."""
    tables = sorted(run.rglob(_METRICS_TABLE))
    if not tables:
        raise InputError(f"--run {run}: there is no {_METRICS_TABLE} in it; give the folder of a training.")
    drawn = []
    with tempfile.TemporaryDirectory() as scratch:
        for table in tables:
            picture = learning_curves(table, Path(scratch) / "curves.png")
            drawn.append(Curves(f"{run.resolve().name}/{table.relative_to(run).as_posix()}", figure_data(picture)))
    return drawn


@cache
def _viewer_code() -> str:
    """The viewer's program, compressed with gzip, as base64 text."""
    return base64.b64encode(gzip.compress(_own_file(_VIEWER), mtime=0)).decode()


def _own_file(path: str) -> bytes:
    return files("custom_nets.report").joinpath(path).read_bytes()


def _render(
    prediction: Prediction,
    cases: Sequence[CasePage],
    problems: Sequence[Failure],
    curves: Sequence[Curves],
    modality: str | None,
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("custom_nets.report", "page"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= wording.FILTERS
    entry = available().get(prediction.bundle)
    has_viewer = any(case.volumes for case in cases)
    return environment.get_template("report.html.jinja").render(
        prediction=prediction,
        title=entry.title if entry else prediction.bundle,
        task=entry.task if entry else "",
        cases=cases,
        cohort=cohort(cases),
        numbers={case.number: case.numbers for case in cases},
        problems=problems,
        curves=curves,
        metrics=METRICS if any(case.has_reference for case in cases) else {},
        modality=modality or next((name for case in cases for name in case.record.images), ""),
        viewer=_viewer_code() if has_viewer else "",
        licences=_own_file(_LICENCES).decode() if has_viewer else "",
    )
