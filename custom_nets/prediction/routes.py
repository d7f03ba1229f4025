# SPDX-License-Identifier: Apache-2.0
"""From a prepared volume to its label map on the scan's grid: through scores that stream, or the bundle's labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SlidingWindowInferer
from monai.transforms import AsDiscreted, Invertd
from torch import Tensor

from custom_nets.blocks.frugal import frugal
from custom_nets.errors import InputError
from custom_nets.inferers import CentreCropInferer, FlipTTAInferer, ForegroundInferer
from custom_nets.prediction.fast import expect
from custom_nets.prediction.homeward import Homeward
from custom_nets.prediction.memory import streaming_axis
from custom_nets.prediction.native_grid import NativeGrid, native_grid, turned_grid
from custom_nets.prediction.opened import OpenedBundle
from custom_nets.prediction.receivers import (
    AboveThreshold,
    ProbabilityMaps,
    Receiver,
    Regions,
    RunningMaximum,
    SpreadMap,
    oriented,
)
from custom_nets.prediction.windows import StreamedWindows, window_count
from custom_nets.transforms import LesionThresholdd
from custom_nets.tumours.transforms import RegionsFromLogitsd


@dataclass
class Extras:
    """What is wanted besides labels, and what became of it, on the scan's grid.

    Attributes:
        folder: for voxels that do not fit into memory.
        probabilities: wanted, then C x X x Y x Z, uint8 in steps of 1/255.
        uncertainty: wanted, then X x Y x Z, float32, 0 to 0.5.
    """

    folder: Path
    probabilities: Any = None
    uncertainty: Any = None


class Route:
    """Runs one opened bundle, case by case.

    Args:
        model: the bundle.
        probabilities: give them as well.
        uncertainty: give the spread of the members of test-time augmentation and ensemble.
        cases: how many there will be, for what pays only in the long run.
    """

    def __init__(
        self, model: OpenedBundle, probabilities: bool = False, uncertainty: bool = False, cases: int = 1
    ) -> None:
        self.model = model
        self.cases = cases
        self.probabilities = probabilities
        self.uncertainty = uncertainty
        self.chain = _chain(model.inferer)
        inverse, *after = model.postprocessing or [None]
        linear = isinstance(inverse, Invertd) and not inverse.nearest_interp[0]
        self.scores = linear and bool(after) and _decision(after[0]) is not None
        for part in self.chain:
            if isinstance(part, FlipTTAInferer | CentreCropInferer):
                part.spread = uncertainty

    @torch.inference_mode()
    def __call__(self, image: MetaTensor, extras: Extras) -> MetaTensor:
        """Label a volume.

        Args:
            image: C x D x H x W, as the bundle's preprocessing made it.
            extras: filled as asked for.

        Returns:
            1 x X x Y x Z on the grid of the scan, whole numbers, with its metadata.
        """
        grid = native_grid(image)
        expect(self.model.network, self.cases * self._calls(image))
        with frugal():
            label, steps = self._label(image, grid, extras)
        data: dict[str, Any] = {"pred": label, "image": image}
        for step in steps:
            data = step(data)
        return data["pred"]

    def _label(
        self, image: MetaTensor, grid: NativeGrid | None, extras: Extras
    ) -> tuple[MetaTensor, Sequence[Callable[[dict[str, Any]], dict[str, Any]]]]:
        """The label map as far as it goes here, and the bundle's steps that are left."""
        if self.scores and grid is not None:
            return self._from_scores(image, grid, extras), self.model.postprocessing[2:]
        return self._from_labels(image, grid, extras), self.model.postprocessing

    def _from_scores(self, image: MetaTensor, grid: NativeGrid, extras: Extras) -> MetaTensor:
        decision = _decision(self.model.postprocessing[1])
        assert decision is not None
        activation = torch.sigmoid if isinstance(decision, Regions) else None
        parts = _Parts(self, extras, activation)
        windows = self._windows()
        axis = 0 if windows is None else streaming_axis(image.shape[1:], _sizes(windows), len(self.model.labels) + 2)
        home = Homeward(grid, [decision, *parts.receivers], axis, parts.spread)
        with _replaced(self.chain, windows, home, axis):
            scores = self.model.inferer(image[None].to(self.model.device), self.model.network)
        if windows is None:
            home(torch.as_tensor(scores[0]).as_subclass(Tensor))
        parts.finish(grid, axis)
        label = grid.as_read(oriented(decision.label, axis))
        return MetaTensor(label, meta={**image.meta, "affine": torch.as_tensor(grid.affine)})

    def _calls(self, image: MetaTensor) -> int:
        """How many windows the network sees of a volume, without test-time augmentation; about how many slices."""
        last = self.chain[-1]
        if isinstance(last, SlidingWindowInferer):
            return window_count(image.shape[1:], last)
        return min(image.shape[1:]) if hasattr(last, "scores_to") else 1

    def _windows(self) -> SlidingWindowInferer | None:
        """The sliding windows that can be streamed; a box of them is filled up to the volume afterwards."""
        boxed = any(isinstance(part, ForegroundInferer) and part.enabled for part in self.chain)
        last = self.chain[-1]
        return last if isinstance(last, SlidingWindowInferer) and not boxed else None

    def _from_labels(self, image: MetaTensor, grid: NativeGrid | None, extras: Extras) -> MetaTensor:
        """The inferer labels by itself, and hands on probabilities if they are wanted."""
        labelling = self.chain[-1]
        parts = _Parts(self, extras, None)
        tap = _Tap(image, grid, parts)
        if parts.receivers or parts.spread is not None:
            _require(hasattr(labelling, "scores_to"))
            labelling.scores_to = tap
        try:
            label = self.model.inferer(image[None].to(self.model.device), self.model.network)[0]
        finally:
            if hasattr(labelling, "scores_to"):
                labelling.scores_to = None
        tap.finish()
        return label.cpu()


class _Parts:
    """Receivers of what is wanted besides labels."""

    def __init__(self, route: Route, extras: Extras, activation: Callable[[Tensor], Tensor] | None) -> None:
        self._extras = extras
        self._maps = ProbabilityMaps(extras.folder / "probabilities", activation) if route.probabilities else None
        self.spread: SpreadMap | None = SpreadMap() if route.uncertainty else None
        self.receivers: list[Receiver] = [] if self._maps is None else [self._maps]

    def finish(self, grid: NativeGrid, axis: int) -> None:
        """Put what was received on the scan's grid."""
        if self._maps is not None:
            self._extras.probabilities = self._turned(self._maps.maps, grid, axis)
        if self.spread is not None:
            self._extras.uncertainty = grid.as_read(oriented(self.spread.map, axis))[0].numpy()

    def _turned(self, maps: np.ndarray, grid: NativeGrid, axis: int) -> np.ndarray:
        """Classes x X x Y x Z, one class after the other into a file: all at once would be held in memory."""
        first = grid.as_read(oriented(maps[:1], axis))
        found = np.memmap(self._extras.folder / "turned", np.uint8, "w+", shape=(len(maps), *first.shape[1:]))
        for number in range(len(maps)):
            found[number] = grid.as_read(oriented(maps[number : number + 1], axis))[0].numpy()
        return found


class _Tap:
    """Takes the members' probabilities from an inferer that labels by itself."""

    def __init__(self, image: MetaTensor, grid: NativeGrid | None, parts: _Parts) -> None:
        self._image, self._grid, self._parts = image, grid, parts
        self._home: Homeward | None = None

    def __call__(self, members: Sequence[Tensor], shape: Sequence[int], to_image: Tensor) -> None:
        """Take planes of K x planes x rows x columns from each member; see `ScoreSink`."""
        if self._home is None:
            self._grid = self._grid_of(shape, to_image.double().cpu().numpy())
            self._home = Homeward(self._grid, self._parts.receivers, 0, self._parts.spread)
        stacked = torch.stack([one.float() for one in members])
        block = stacked.mean(dim=0)
        if self._parts.spread is not None:
            spread = stacked.std(dim=0, correction=0).amax(dim=0, keepdim=True)
            block = torch.cat([block, spread])
        self._home(block.cpu())

    def finish(self) -> None:
        """Put everything on the scan's grid."""
        if self._home is not None and self._grid is not None:
            self._parts.finish(self._grid, 0)

    def _grid_of(self, shape: Sequence[int], to_image: np.ndarray) -> NativeGrid:
        """The scan's grid as seen from the planes, which are the image's own or the image turned."""
        if self._grid is not None and np.allclose(to_image, np.eye(4)):
            return self._grid
        _require(not self._image.applied_operations)
        return turned_grid(shape, to_image, np.eye(4))


class _replaced:
    """Exchanges MONAI's sliding windows for streamed ones during a case."""

    def __init__(self, chain: Sequence[Any], windows: SlidingWindowInferer | None, sink: Homeward, axis: int) -> None:
        self._parent = chain[-2] if windows is not None else None
        self._windows = windows
        self._streamed = None if windows is None else StreamedWindows(windows, sink, axis)

    def __enter__(self) -> None:
        if self._parent is not None:
            self._parent.inferer = self._streamed

    def __exit__(self, *_: object) -> None:
        if self._parent is not None:
            self._parent.inferer = self._windows


def _decision(step: Any) -> AboveThreshold | Regions | RunningMaximum | None:
    """What decides about labels from scores, plane by plane; None for a step that does something else."""
    if isinstance(step, LesionThresholdd):
        return AboveThreshold(step.threshold)
    if isinstance(step, RegionsFromLogitsd):
        return Regions(step.threshold)
    if isinstance(step, AsDiscreted) and step.argmax == (True,) and step.to_onehot == (None,):
        return RunningMaximum()
    return None


def _chain(inferer: Inferer) -> list[Any]:
    """An inferer, the one that it wraps, and so on."""
    chain: list[Any] = [inferer]
    while getattr(chain[-1], "inferer", None) is not None:
        chain.append(chain[-1].inferer)
    return chain


def _sizes(windows: SlidingWindowInferer) -> list[int]:
    """Of a window."""
    sizes: Any = windows.roi_size
    return [int(length) for length in sizes]


def _require(condition: bool) -> None:
    if not condition:
        raise InputError(
            "probabilities and uncertainty cannot be brought back to the scan through this preprocessing: leave out "
            "--probabilities and --uncertainty."
        )
