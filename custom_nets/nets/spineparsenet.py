# SPDX-License-Identifier: Apache-2.0
"""SpineParseNet: both stages as one network, from a volume to the scores of its labels on the volume's own grid.

Paper: see `custom_nets.nets.gcsn`. The steps between the stages are the published inference's (section "Inference
recipe"), with whole batches of slices in place of one slice at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from torch import Tensor, nn
from tqdm import tqdm

from custom_nets.label_graphs.graph import LabelGraph
from custom_nets.nets.gcsn import GCSN
from custom_nets.nets.resunet2d import ResUNet2d
from custom_nets.slices.spline_resize import linear_resize, spline_resize
from custom_nets.spine.cropping import central_rows, slice_padding

#: Which stages run: both; the first one alone; the second one alone, on slices and stored logits or on slices only.
STAGES = ("both", "coarse", "refine")
#: How the first stage sees a volume of more slices than it was trained with: whole, as published, or in windows.
WINDOWS = ("whole", "sliding")


@dataclass(frozen=True)
class Prepared:
    """One volume on its way through both stages.

    Attributes:
        crop: 1 x C x D x H' x W, raw.
        fine: 1 x C x D x h x w for the second stage, normalised; None without it.
        coarse_logits: 1 x K x D x h' x w'; None where the second stage takes none.
        probability: K x D x H' x W of the first stage alone; None with the second one.
        mirrored: the slices are in reversed order.
    """

    crop: Tensor
    fine: Tensor | None
    coarse_logits: Tensor | None
    probability: Tensor | None
    mirrored: bool


class SpineParseNet(nn.Module):
    """GCSN on the shrunken volume, then ResUNet on each sagittal slice and the first stage's logits.

    The middle of the volume along its second axis is cropped; the slices are resized for each stage by scikit-image's
    spline; the first stage gets empty slices at both ends where there are few; the second one's probabilities are
    brought back to the crop bilinearly. Outside of the crop all scores are 0, so that background, the first, wins.

    The matrices of the spline come from scikit-image: a traced or exported network is of one size, and TorchScript
    takes the stages, `coarse` and `refinement`, but not the whole.

    Args:
        in_channels: modalities.
        graph: labels and which of them touch; see `GCSN`.
        graph_mode: see `GCSN`.
        width: of the first stage; see `GCSN`.
        filters: of the second stage; see `ResUNet2d`.
        coarse_size: slices, rows and columns of the first stage.
        fine_size: rows and columns of the second stage.
        crop_share: share of the rows that is kept; 0.5 as published, 1 for all.
        intensity_mean: subtracted from the resized intensities.
        intensity_std: then divided by.
        stages: one of `STAGES`. With "coarse" there is no second stage among the parameters, with "refine" no first.
        coarse_input: whether the second stage takes coarse logits; False for the ablation that does not.
        windows: one of `WINDOWS`.
        overlap: of windows along the slices, as a share.
        slices_at_once: slices that the second stage sees at a time.

    Shape:
        N x in_channels x D x H x W, raw intensities, D from left to right, H from back to front, W from feet to head
        -> N x K x D x H x W, probabilities, 0 outside of the crop.

    Raises:
        InputError: for a graph that does not hold together, or an empty crop.
        ValueError: for options that make no network; when called, for a volume without all axes, or stored logits that
            are missing.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        graph: LabelGraph | Mapping[str, Any] | str | None = None,
        graph_mode: str = "semantic",
        width: float = 1.0,
        filters: Sequence[int] = (32, 64, 128, 256, 512),
        coarse_size: Sequence[int] = (18, 128, 256),
        fine_size: Sequence[int] = (256, 512),
        crop_share: float = 0.5,
        intensity_mean: float = 466.0,
        intensity_std: float = 379.0,
        stages: str = "both",
        coarse_input: bool = True,
        windows: str = "whole",
        overlap: float = 0.5,
        slices_at_once: int = 4,
    ) -> None:
        super().__init__()
        _check(stages, windows, coarse_size, fine_size, intensity_std, slices_at_once)
        first = GCSN(in_channels=in_channels, graph=graph, graph_mode=graph_mode, width=width)
        self.labels = len(first.label_graph)
        self.coarse = first if stages != "refine" else None
        self.refinement: ResUNet2d | None = None
        if stages != "coarse":
            coarse_channels = self.labels if coarse_input else 0
            self.refinement = ResUNet2d(
                in_channels=in_channels, coarse_channels=coarse_channels, out_channels=self.labels, filters=filters
            )
            if any(length % self.refinement.multiple for length in fine_size):
                raise ValueError(f"fine_size is {list(fine_size)}: give multiples of {self.refinement.multiple}.")
        self.in_channels = in_channels
        self.coarse_size = [int(length) for length in coarse_size]
        self.fine_size = [int(length) for length in fine_size]
        self.crop_share = crop_share
        self.intensity_mean = intensity_mean
        self.intensity_std = intensity_std
        self.windows = windows
        self.overlap = overlap
        self.slices_at_once = slices_at_once

    def forward(self, volume: Tensor, coarse_logits: Tensor | None = None) -> Tensor:
        """Return the scores; ``coarse_logits``, N x K x D x h x w, take the place of the first stage's."""
        whole = []
        for number, sample in enumerate(volume.split(1)):
            given = None if coarse_logits is None else coarse_logits[number : number + 1]
            prepared = self.prepare(sample, given)
            parts = [self.scores(prepared, indices) for indices in self.batches(volume.shape[2])]
            scores = torch.cat(parts).transpose(0, 1)[None]
            first, end = central_rows(volume.shape[3], self.crop_share)
            whole.append(F.pad(scores, (0, 0, first, volume.shape[3] - end)))
        return torch.cat(whole)

    def label(self, volume: Tensor, coarse_logits: Tensor | None = None) -> Tensor:
        """Return the labels' node numbers, N x 1 x D x H x W; no more than a few slices' scores are in memory."""
        given = [None] * len(volume) if coarse_logits is None else coarse_logits.split(1)
        prepared = [[self.prepare(one, its)] for one, its in zip(volume.split(1), given, strict=True)]
        return torch.stack([self.winners(volume.shape[2:], views) for views in prepared])

    def winners(
        self,
        size: Sequence[int],
        views: Sequence[Prepared],
        progress: bool = False,
        networks: Sequence[SpineParseNet] = (),
        scores_to: Callable[[list[Tensor]], None] | None = None,
    ) -> Tensor:
        """Label a volume of this size, 1 x D x H x W, by the mean scores of views of it.

        Args:
            size: D, H, W.
            views: from :meth:`prepare`; of a mirrored volume with ``mirrored`` set.
            progress: show a bar over the slices.
            networks: that prepared the views, where they are several of the same labels; else this one did.
            scores_to: called with each view's scores of the next slices, B x K x H x W.
        """
        depth, height, width = size
        kind = torch.uint8 if self.labels <= 256 else torch.int16
        out = torch.zeros(depth, height, width, dtype=kind, device=views[0].crop.device)
        rows = slice(*central_rows(height, self.crop_share))
        for indices in tqdm(self.batches(depth), desc="slices", leave=False, disable=not progress):
            total, each = torch.zeros(()), []
            for network, view in zip(networks or [self] * len(views), views, strict=True):
                seen = [depth - 1 - index for index in indices] if view.mirrored else indices
                scores = network.scores(view, seen)
                total = scores if view is views[0] else total + scores
                if scores_to is not None:
                    each.append(F.pad(scores, (0, 0, rows.start, height - rows.stop)))
            if scores_to is not None:
                scores_to(each)
            out[indices[0] : indices[-1] + 1, rows] = total.argmax(dim=1).to(kind)
        return out[None]

    def batches(self, depth: int) -> list[list[int]]:
        """The slices that the second stage sees together."""
        return [
            list(range(depth))[first : first + self.slices_at_once] for first in range(0, depth, self.slices_at_once)
        ]

    def prepare(self, volume: Tensor, coarse_logits: Tensor | None = None, mirrored: bool = False) -> Prepared:
        """Crop and resize one volume, 1 x C x D x H x W, and run the first stage unless its logits are given.

        Args:
            volume: raw intensities.
            coarse_logits: 1 x K x D x h x w.
            mirrored: the volume's slices are in reversed order.
        """
        if volume.ndim != 5 or volume.shape[1] != self.in_channels or 0 in volume.shape:
            raise ValueError(
                f"SpineParseNet of {self.in_channels} channels got {list(volume.shape)}: give N x C x D x H x W."
            )
        crop = _at_least_float32(volume[:, :, :, slice(*central_rows(volume.shape[3], self.crop_share))])
        if coarse_logits is None and self.coarse is not None:
            coarse_logits = self.coarse_logits(crop)
        fine = self._normalised(_resized(crop, self.fine_size)) if self.refinement is not None else None
        probability: Tensor | None = None
        if self.refinement is None:
            assert coarse_logits is not None
            classes = torch.softmax(_at_least_float32(coarse_logits), dim=1)[0]
            probability = spline_resize(classes, crop.shape[3:])  # the published first stage alone: class by class
        elif coarse_logits is None and self.refinement.coarse_channels:
            raise ValueError("this second stage takes the first stage's logits: give coarse_logits, or stages both.")
        return Prepared(crop, fine, coarse_logits, probability, mirrored)

    def coarse_logits(self, crop: Tensor) -> Tensor:
        """Run the first stage on a crop, N x C x D x H x W of raw intensities -> N x K x D x h x w."""
        assert self.coarse is not None
        slices, *size = self.coarse_size
        depth = crop.shape[2]
        before, after = slice_padding(depth, slices)
        image = self._normalised(F.pad(_resized(crop, size), (0, 0, 0, 0, before, after)))
        if self.windows == "sliding" and depth > slices:
            logits: Any = sliding_window_inference(
                image, self.coarse_size, 1, self._first_stage, self.overlap, mode="gaussian"
            )
        else:
            logits = self._first_stage(image)
        return logits[:, :, before : before + depth]

    def scores(self, prepared: Prepared, indices: Sequence[int]) -> Tensor:
        """Return the probabilities of some slices on the crop's grid, B x K x H' x W."""
        size = prepared.crop.shape[3:]
        picked = slice(indices[0], indices[-1] + 1) if indices[0] <= indices[-1] else list(indices)
        if prepared.probability is not None:
            return prepared.probability[:, picked].transpose(0, 1)
        assert self.refinement is not None and prepared.fine is not None
        image = prepared.fine[0, :, picked].transpose(0, 1)
        logits = None
        if prepared.coarse_logits is not None and self.refinement.coarse_channels:
            logits = prepared.coarse_logits[0, :, picked].transpose(0, 1)
        return linear_resize(torch.softmax(_at_least_float32(self.refinement(image, logits)), dim=1), size)

    def _first_stage(self, image: Tensor) -> Tensor:
        assert self.coarse is not None
        return self.coarse.with_assignment(image)[0]

    def _normalised(self, x: Tensor) -> Tensor:
        return (x - self.intensity_mean) / self.intensity_std


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _resized(crop: Tensor, size: Sequence[int]) -> Tensor:
    """Each channel by itself, as in the trainings: its values stay within its own range."""
    return spline_resize(crop.flatten(0, 1), size).unflatten(0, crop.shape[:2])


def _check(
    stages: str,
    windows: str,
    coarse_size: Sequence[int],
    fine_size: Sequence[int],
    intensity_std: float,
    slices_at_once: int,
) -> None:
    for name, value, choices in (("stages", stages, STAGES), ("windows", windows, WINDOWS)):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}: choose one of {', '.join(choices)}.")
    if len(coarse_size) != 3 or len(fine_size) != 2 or min(*coarse_size, *fine_size) < 1:
        raise ValueError(
            f"coarse_size is {list(coarse_size)}, fine_size {list(fine_size)}: give slices, rows and columns, and rows "
            "and columns, as [18, 128, 256] and [256, 512]."
        )
    if not intensity_std > 0 or slices_at_once < 1:
        raise ValueError(f"intensity_std is {intensity_std}, slices_at_once {slices_at_once}: give more than 0.")
