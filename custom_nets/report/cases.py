# SPDX-License-Identifier: Apache-2.0
"""What the page shows of each case, and of each structure over all cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_hex

from custom_nets.errors import InputError
from custom_nets.figures.colours import Colour
from custom_nets.files import file_digest
from custom_nets.metrics import mean_and_deviation
from custom_nets.metrics.table_cells import with_deviation
from custom_nets.report.case_volumes import read_volumes
from custom_nets.report.embedding import EmbeddedVolumes, embedded_volumes
from custom_nets.report.focus import focus_points
from custom_nets.report.pictures import Picture, overlay_pictures, uncertainty_pictures
from custom_nets.report.records import Prediction, Record
from custom_nets.report.references import METRICS, scores_of
from custom_nets.report.wording import digits_of


@dataclass(frozen=True)
class Structure:
    """A structure of the table of labels.

    Attributes:
        label: value in the label maps.
        name: of the structure.
        colour: as CSS writes it.
    """

    label: int
    name: str
    colour: str


@dataclass(frozen=True)
class StructureRow(Structure):
    """A structure of a case.

    Attributes:
        volume_ml: of the prediction.
        components: of the prediction.
        centroid_mm: R, A, S; None without a voxel.
        focus_mm: R, A, S of a point inside, where the viewer looks; None without a voxel.
        scores: values of `METRICS`, without those that do not exist.
    """

    volume_ml: float
    components: int
    centroid_mm: Sequence[float] | None
    focus_mm: Sequence[float] | None
    scores: Mapping[str, float]


@dataclass(frozen=True)
class CasePage:
    """A complete case.

    Attributes:
        number: from 1, in the order of the page.
        record: of the prediction.
        structures: all of the table of labels.
        has_reference: whether scores were computed.
        pictures: of the scan; none where it cannot be read.
        uncertainty: pictures of its map, if there is one.
        uncertainty_highest: white in these pictures.
        volumes: for the viewer; None without.
        notes: what could not be shown, or is not as it was recorded.
    """

    number: int
    record: Record
    structures: Sequence[StructureRow]
    has_reference: bool = False
    pictures: Sequence[Picture] = ()
    uncertainty: Sequence[Picture] = ()
    uncertainty_highest: float = 0.0
    volumes: EmbeddedVolumes | None = None
    notes: Sequence[str] = ()

    @property
    def found(self) -> list[StructureRow]:
        """The structures that the prediction has, or a score tells of."""
        return [row for row in self.structures if row.volume_ml or row.scores]

    @property
    def absent(self) -> list[str]:
        """Names of the structures that are neither found nor in the reference."""
        return [row.name for row in self.structures if not (row.volume_ml or row.scores)]

    @property
    def volume_ml(self) -> float:
        """Of all structures together."""
        return sum(row.volume_ml for row in self.structures)

    @property
    def numbers(self) -> dict[int, dict[str, float]]:
        """Label -> the numbers that the list of cases can show of it."""
        return {
            row.label: {"volume": row.volume_ml, "components": row.components, **row.scores} for row in self.structures
        }

    @property
    def viewer_data(self) -> dict[str, Any]:
        """What the viewer is given, JSON-able."""
        assert self.volumes is not None
        structures = [
            {"name": row.name, "colour": row.colour, "focus": row.focus_mm, "volume": row.volume_ml}
            for row in self.structures
        ]
        return {"case": self.record.case, "structures": structures, **asdict(self.volumes)}

    def names_in(self, picture: Picture) -> list[str]:
        """Names of the structures that a picture shows."""
        return [row.name for row in self.structures if row.label in picture.labels]

    def mean(self, metric: str) -> float | None:
        """Mean of a metric over the structures that have it."""
        values = [row.scores[metric] for row in self.structures if metric in row.scores]
        return float(np.mean(values)) if values else None


@dataclass(frozen=True)
class CohortRow(Structure):
    """A structure over all cases.

    Attributes:
        cases: number and name of each case and the volume there in ml; only cases that have the structure.
        scores: text of mean and standard deviation of each of `METRICS`, a dash without a value.
    """

    cases: Sequence[tuple[int, str, float]]
    scores: Mapping[str, str]

    @property
    def volumes(self) -> list[float]:
        """In ml, ascending."""
        return sorted(volume for _, _, volume in self.cases)

    @property
    def median(self) -> float:
        """Of the volumes, ml."""
        return float(np.median(self.volumes)) if self.cases else 0.0


def case_page(
    number: int,
    record: Record,
    prediction: Prediction,
    out_dir: Path,
    colours: Mapping[int, Colour],
    *,
    reference: Path | None,
    modality: str | None,
    viewer_characters: int,
) -> CasePage:
    """Gather what the page shows of a case; what is missing becomes a note.

    Args:
        number: from 1, in the order of the page.
        record: of the case.
        prediction: the run that it is of.
        out_dir: folder of the run.
        colours: of all labels.
        reference: label map to compare with.
        modality: the image that is shown; None = the first.
        viewer_characters: that the volumes for the viewer may have; 0 embeds none.
    """
    rows = [_row(row, colours) for row in record.structures]
    page = CasePage(number, record, rows)
    try:
        volumes = read_volumes(record, out_dir, modality, reference)
    except InputError as error:
        return replace(page, notes=[f"No pictures: {error}"])
    notes = [*volumes.notes, *_changes(record, out_dir)]
    scores: dict[int, dict[str, float]] | None = None
    if volumes.reference is not None:
        try:
            scores = scores_of(volumes, prediction.labels)
        except InputError as error:
            notes.append(f"Not compared with {reference}: {error}")
    embedded = None
    if viewer_characters:
        try:
            embedded = embedded_volumes(volumes, _places(rows), viewer_characters)
        except InputError as error:
            notes.append(f"No viewer: {error}")
    focus = focus_points(volumes.segmentation, volumes.affine) if embedded else {}
    has_map = volumes.image is not None and volumes.uncertainty is not None
    return replace(
        page,
        structures=[
            replace(row, scores=(scores or {}).get(row.label, {}), focus_mm=focus.get(row.label)) for row in rows
        ],
        has_reference=scores is not None,
        pictures=overlay_pictures(volumes, colours) if volumes.image is not None else (),
        uncertainty=uncertainty_pictures(volumes) if has_map else (),
        uncertainty_highest=float(volumes.uncertainty.max()) if volumes.uncertainty is not None else 0.0,
        volumes=embedded,
        notes=notes,
    )


def cohort(cases: Sequence[CasePage]) -> list[CohortRow]:
    """Gather each structure over all cases, in the order of the labels."""
    own: dict[int, list[tuple[CasePage, StructureRow]]] = {}
    for case in cases:
        for row in case.structures:
            own.setdefault(row.label, []).append((case, row))
    return [
        CohortRow(
            label=label,
            name=rows[0][1].name,
            colour=rows[0][1].colour,
            cases=[(case.number, case.record.case, row.volume_ml) for case, row in rows if row.volume_ml],
            scores={
                metric: with_deviation(
                    mean_and_deviation([row.scores[metric] for _, row in rows if metric in row.scores]),
                    digits_of(metric),
                )
                for metric in METRICS
            },
        )
        for label, rows in sorted(own.items())
    ]


def _row(row: Mapping[str, Any], colours: Mapping[int, Colour]) -> StructureRow:
    shown = {key: row[key] for key in ("label", "name", "volume_ml", "components", "centroid_mm")}
    return StructureRow(**shown, colour=to_hex(colours[row["label"]]), focus_mm=None, scores={})


def _places(rows: Sequence[StructureRow]) -> Any:
    """Label value -> place in the table of structures, from 1: labels of any value fit into 8 bit."""
    if len(rows) > np.iinfo(np.uint8).max:
        raise InputError(f"the viewer shows 255 structures at most, there are {len(rows)}")
    places = np.zeros(max((row.label for row in rows), default=0) + 1, np.uint8)
    for place, row in enumerate(rows, start=1):
        places[row.label] = place
    return places


def _changes(record: Record, out_dir: Path) -> list[str]:
    """Whether the label map is still the one that was recorded."""
    output = record.outputs["segmentation"]
    if output.get("sha256") in (None, file_digest(out_dir / output["file"])):
        return []
    return [f"{output['file']} was changed after the prediction: volumes are of the file as it was predicted."]
