# SPDX-License-Identifier: Apache-2.0
"""Pictures of segmented cases while they are validated, evaluated or predicted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from custom_nets.errors import InputError
from custom_nets.figures import overlay, structure_overlay
from custom_nets.figures.structures import MOST_NAMED
from custom_nets.slices.planes import check_plane


class CasePictures:
    """Handler of an evaluator: draws each case's image with the reference and the prediction.

    Lesions are drawn as outlines, structures that have names as filled colours.

    Writes ``<case>.png``; a later run over the same cases draws them anew. It needs the image, the reference (if any)
    and the predicted label on one grid.

    Args:
        output_dir: folder of the pictures.
        dataset_dir: a case is named by its (first) image file, relative to this folder.
        image_key: of the batch's image to draw upon.
        channel: which channel of the image to draw; -1 = the last.
        limit: draw the first cases of each process only; 0 = none.
        names: label value (a whole number, or its digits as JSON writes them) -> name of the structure. Given,
            :func:`~custom_nets.figures.structure_overlay` draws all labels, else
            :func:`~custom_nets.figures.overlay` whatever is not 0.
        plane: of the slices that structures are drawn on: axial, coronal, sagittal or "auto".
        most_named: structures that a picture names.

    Raises:
        InputError: if a label value in ``names`` is no whole number, or for another plane.
    """

    def __init__(
        self,
        output_dir: str | Path,
        dataset_dir: str | Path,
        image_key: str = "image",
        channel: int = 0,
        limit: int = 4,
        names: Mapping[int, str] | None = None,
        plane: str = "auto",
        most_named: int = MOST_NAMED,
    ) -> None:
        check_plane(plane)
        self.output_dir = Path(output_dir)
        self.dataset_dir = Path(dataset_dir).resolve()
        self.image_key = image_key
        self.channel = channel
        self.limit = limit
        self.names = None if names is None else _by_value(names)
        self.structure_options: dict[str, Any] = {"plane": plane, "most_named": most_named}
        self._drawn = 0

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        if self.limit > 0:
            engine.add_event_handler(Events.EPOCH_STARTED, self._start)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def _start(self, engine: Engine) -> None:
        self._drawn = 0

    def __call__(self, engine: Any) -> None:
        """Draw the cases of this batch."""
        for batch, output in zip(engine.state.batch, engine.state.output, strict=True):
            if self._drawn >= self.limit:
                return
            self._drawn += 1
            image = batch[self.image_key]
            drawn = image[min(self.channel, len(image) - 1)][None]
            name = self._name(image)
            shown = (drawn, output.get("label"), output["pred"], self.output_dir / f"{name}.png", name)
            if self.names is None:
                overlay(*shown)
            else:
                structure_overlay(*shown, self.names, **self.structure_options)

    def _name(self, image: Any) -> str:
        path = Path(str(image.meta.get("filename_or_obj", "case"))).resolve()
        inside = path.is_relative_to(self.dataset_dir)
        parts = path.relative_to(self.dataset_dir).parts if inside else [path.name]
        return "_".join(parts).removesuffix(".gz").removesuffix(".nii")


def _by_value(names: Mapping[Any, str]) -> dict[int, str]:
    try:
        return {int(value): name for value, name in names.items()}
    except ValueError as error:
        raise InputError(f"names has a label value that is no whole number: {error}") from None
