# SPDX-License-Identifier: Apache-2.0
"""What is kept of the scores that come back to the scan's grid class by class, some planes at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

Activation = Callable[[Tensor], Tensor]


class Receiver(Protocol):
    """Takes the scores of one class after the other, of some planes, then of the next planes."""

    def start(self, shape: Sequence[int], classes: int) -> None:
        """Make ready for planes of a volume of this shape."""

    def take(self, planes: slice, number: int, values: Tensor) -> None:
        """Take the scores of class ``number`` in these planes, float32; classes come in ascending order."""


class RunningMaximum:
    """The class with the largest score of each voxel, the first of equal ones: argmax without all scores at once."""

    def start(self, shape: Sequence[int], classes: int) -> None:
        """Make ready."""
        self.label = torch.zeros(1, *shape, dtype=torch.uint8 if classes <= 256 else torch.int16)
        self._best = torch.empty(0)

    def take(self, planes: slice, number: int, values: Tensor) -> None:
        """Let the class win where it beats those before it."""
        if number == 0:
            self._best = values.clone()
            return
        wins = values > self._best
        self.label[0, planes].masked_fill_(wins, number)
        torch.maximum(self._best, values, out=self._best)


class AboveThreshold:
    """The lesion's label, as `LesionThresholdd`: 1 where the last channel's probability exceeds a threshold."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def start(self, shape: Sequence[int], classes: int) -> None:
        """Make ready."""
        self.label = torch.zeros(1, *shape, dtype=torch.uint8)
        self._last = classes - 1

    def take(self, planes: slice, number: int, values: Tensor) -> None:
        """Compare the last channel."""
        if number == self._last:
            self.label[0, planes] = values > self.threshold


class Regions:
    """Binary channels from logits, as `RegionsFromLogitsd`: 1 where the sigmoid is at least a threshold."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def start(self, shape: Sequence[int], classes: int) -> None:
        """Make ready."""
        self.label = torch.zeros(classes, *shape, dtype=torch.uint8)

    def take(self, planes: slice, number: int, values: Tensor) -> None:
        """Compare the channel."""
        self.label[number, planes] = values.sigmoid() >= self.threshold


class ProbabilityMaps:
    """Probabilities of all classes, in steps of 1/255, in a file: 55 classes do not fit into memory.

    Args:
        file: of the voxels, written anew.
        activation: turns scores into probabilities; None where they are.
    """

    def __init__(self, file: Path, activation: Activation | None = None) -> None:
        self.file = file
        self.activation = activation

    def start(self, shape: Sequence[int], classes: int) -> None:
        """Make ready."""
        self.maps = np.memmap(self.file, np.uint8, "w+", shape=(classes, *shape))

    def take(self, planes: slice, number: int, values: Tensor) -> None:
        """Write the planes of one class."""
        probabilities = values if self.activation is None else self.activation(values)
        self.maps[number, planes] = probabilities.mul(255).round_().clamp_(0, 255).to(torch.uint8).numpy()


class SpreadMap:
    """The last channel as it is: how far the members of an ensemble, or of test-time augmentation, are apart."""

    def start(self, shape: Sequence[int], classes: int) -> None:
        """Make ready."""
        self.map = torch.zeros(1, *shape)

    def take(self, planes: slice, number: int, values: Tensor) -> None:
        """Keep the planes."""
        self.map[0, planes] = values


def oriented(volume: Any, axis: int) -> Tensor:
    """C x planes x ... of a receiver to C x D x H x W, ``axis`` being the one that the planes were counted along."""
    return torch.as_tensor(volume).movedim(1, axis + 1)
