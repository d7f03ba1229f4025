# SPDX-License-Identifier: Apache-2.0
"""Voxel by voxel: the accumulating report of the 3D-ResU-Net paper's released evaluation."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from custom_nets.errors import InputError

#: Added to numerator and denominator of both Dice coefficients; no other denominator is ever smaller.
EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class VoxelReport:
    """What is known of all voxels that were fed; reports add up.

    With TP, TN, FP, FN the voxels of a hard prediction (p > threshold), P = TP + FP, Y = TP + FN, and ε the
    double-precision epsilon:

    * hard Dice (2TP + ε) / (P + Y + ε): two empty masks agree perfectly;
    * soft Dice (2Σpy + ε) / (Σp + Σy + ε);
    * TPR TP / max(Y, ε), precision TP / max(P, ε), F1 2TP / max(2TP + FP + FN, ε): 0 for two empty masks, F1 too;
    * accuracy (TP + TN) / max(all, ε);
    * the same for the background, with TN in the place of TP and FP and FN exchanged.

    One report of all scans gives the voxel-pooled ("micro") numbers, in which large lesions decide; a report a scan,
    averaged, gives the mean over scans. The paper's microDSC is the former, its DSC the latter. Its released evaluation
    prints the mean over scans under the words "micro averaged": compare by definition, not by name.

    Attributes:
        tp, fp, fn, tn: numbers of voxels.
        overlap: Σpy.
        predicted: Σp.
        predicted_squares: Σp².
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0
    overlap: float = 0.0
    predicted: float = 0.0
    predicted_squares: float = 0.0

    @classmethod
    def of(cls, probabilities: Tensor | ArrayLike, labels: Tensor | ArrayLike, threshold: float = 0.5) -> VoxelReport:
        """Report on the voxels of an array of any shape.

        Args:
            probabilities: 0 … 1.
            labels: the same shape; lesion where not 0.
            threshold: a voxel is predicted as lesion when its probability is strictly above.

        Raises:
            InputError: if the shapes differ.
        """
        return cls.of_sums(voxel_sums(probabilities, labels, threshold))

    @classmethod
    def of_sums(cls, sums: Tensor) -> VoxelReport:
        """Take what :func:`voxel_sums` returned, or a sum of such tensors."""
        values = sums.tolist()
        return cls(*(int(value) for value in values[:4]), *values[4:])

    @classmethod
    def of_counts(cls, tp: int, fp: int, fn: int, tn: int) -> VoxelReport:
        """Report on hard predictions that were counted elsewhere: probabilities are 0 or 1."""
        return cls(tp, fp, fn, tn, overlap=tp, predicted=tp + fp, predicted_squares=tp + fp)

    def __add__(self, other: VoxelReport) -> VoxelReport:
        return VoxelReport(*(getattr(self, entry.name) + getattr(other, entry.name) for entry in fields(self)))

    @property
    def pos(self) -> int:
        """Voxels of the reference's lesions."""
        return self.tp + self.fn

    @property
    def neg(self) -> int:
        """Voxels of the reference's background."""
        return self.tn + self.fp

    @property
    def background(self) -> VoxelReport:
        """The report in which background is what is looked for; its soft sums are those of the hard prediction."""
        return VoxelReport.of_counts(tp=self.tn, fp=self.fn, fn=self.fp, tn=self.tp)

    @property
    def hard_dice(self) -> float:
        """Dice coefficient of the thresholded prediction."""
        return (2 * self.tp + EPSILON) / (2 * self.tp + self.fp + self.fn + EPSILON)

    def soft_dice(self, squared: bool = False) -> float:
        """Return the Dice coefficient of the probabilities; ``squared`` squares p and y in the denominator."""
        predicted = self.predicted_squares if squared else self.predicted
        return (2.0 * self.overlap + EPSILON) / (predicted + self.pos + EPSILON)

    @property
    def tpr(self) -> float:
        """True positive rate, also sensitivity or recall."""
        return self.tp / max(self.pos, EPSILON)

    @property
    def precision(self) -> float:
        """Share of the predicted voxels that are lesion."""
        return self.tp / max(self.tp + self.fp, EPSILON)

    @property
    def f1(self) -> float:
        """Hard Dice but for two empty masks, where it is 0."""
        return 2 * self.tp / max(2 * self.tp + self.fp + self.fn, EPSILON)

    @property
    def accuracy(self) -> float:
        """Share of all voxels that are right."""
        return (self.tp + self.tn) / max(self.pos + self.neg, EPSILON)

    def as_dict(self) -> dict[str, float]:
        """Return counts and rates by name; ``neg_`` marks those of the background."""
        background = self.background
        return {
            "pos": self.pos,
            "neg": self.neg,
            "tp": self.tp,
            "tn": self.tn,
            "fp": self.fp,
            "fn": self.fn,
            "accuracy": self.accuracy,
            "hard_dice": self.hard_dice,
            "soft_dice": self.soft_dice(),
            "tpr": self.tpr,
            "precision": self.precision,
            "f1": self.f1,
            "neg_tpr": background.tpr,
            "neg_precision": background.precision,
            "neg_f1": background.f1,
        }


def voxel_sums(probabilities: Tensor | ArrayLike, labels: Tensor | ArrayLike, threshold: float = 0.5) -> Tensor:
    """Return TP, FP, FN, TN, Σpy, Σp and Σp², float64 [7], on the device of the probabilities, without waiting for it.

    Args:
        probabilities: 0 … 1, any shape.
        labels: the same shape; lesion where not 0.
        threshold: a voxel is predicted as lesion when its probability is strictly above.

    Raises:
        InputError: if the shapes differ.
    """
    p, y = torch.as_tensor(probabilities), torch.as_tensor(labels) != 0
    if p.shape != y.shape:
        raise InputError(f"probabilities of shape {tuple(p.shape)} and labels of shape {tuple(y.shape)} must be equal")
    hard = p > threshold
    tp, n_pred, n_ref = (torch.count_nonzero(mask) for mask in (hard & y, hard, y))
    counts = (tp, n_pred - tp, n_ref - tp, p.numel() - n_pred - n_ref + tp)
    exact = p.double().flatten()
    soft = (torch.dot(exact, y.double().flatten()), exact.sum(), torch.dot(exact, exact))
    return torch.stack([value.double() for value in (*counts, *soft)])
