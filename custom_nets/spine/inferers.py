# SPDX-License-Identifier: Apache-2.0
"""Whole volumes through SpineParseNet, or through one of its stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type
from torch import Tensor

from custom_nets.case_names import case_name
from custom_nets.checkpoints import bare
from custom_nets.errors import InputError
from custom_nets.inferers import ScoreSink, members_of
from custom_nets.spine.logits_sources import LogitsSource


class SpineInferer(Inferer):
    """Label volumes with `SpineParseNet`, or, while they are trained, with one of its two stages.

    Args:
        tta: average the scores over the volume and its mirror image from left to right.
        logits: where the first stage's logits come from if it does not run; called with the case's name.
        slices_at_once: slices that the second stage alone sees at a time.
        progress: show a bar over the slices.

    A network with ``members``, an `Ensemble`, is averaged over them.

    Attributes:
        scores_to: called with the scores of the next slices of `SpineParseNet` as they are found; None as long as
            nobody wants them.

    Raises:
        InputError: if ``tta`` meets stored logits, which are of the volume as it is.
    """

    def __init__(
        self, tta: bool = False, logits: LogitsSource | None = None, slices_at_once: int = 8, progress: bool = False
    ) -> None:
        super().__init__()
        if tta and logits is not None:
            raise InputError("tta mirrors volumes, but stored logits are of the volumes as they are: give --tta False.")
        self.tta = tta
        self.logits = logits
        self.slices_at_once = slices_at_once
        self.progress = progress
        self.scores_to: ScoreSink | None = None

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Label volumes.

        Args:
            inputs: N x C x D x H x W; raw intensities, oriented R, A, S; for one stage alone its own normalised input.
            network: in eval mode: `SpineParseNet`, or `GCSN`; `ResUNet2d` where there are ``args``.
            args: for the second stage alone the coarse logits, N x K x D x h x w.
            kwargs: not used.

        Returns:
            Node numbers, N x 1 x D x H x W, uint8 (int16 for more than 256 labels), metadata kept. Of `SpineParseNet`
            the second stage's scores of a few slices are all that is held.
        """
        networks = [bare(member) for member in members_of(network)]
        network = networks[0]
        plain, *logits = (torch.as_tensor(one).as_subclass(Tensor) for one in (inputs, *args))
        if hasattr(network, "winners"):
            labels = self._labelled(inputs, plain, networks)
        else:
            scores = self._of_slices(network, plain, logits) if logits else network(plain)
            labels = scores.argmax(dim=1, keepdim=True).to(torch.uint8 if scores.shape[1] <= 256 else torch.int16)
        return convert_to_dst_type(labels, inputs, dtype=labels.dtype)[0]

    def _labelled(self, inputs: Tensor, plain: Tensor, networks: list[Any]) -> Tensor:
        given = [None] * len(plain) if self.logits is None else self._stored(inputs, self.logits)
        found = []
        for volume, its in zip(plain.split(1), given, strict=True):
            views = [network.prepare(volume, its) for network in networks]
            if self.tta:
                views += [network.prepare(volume.flip(2), mirrored=True) for network in networks]
            owners = networks * (1 + self.tta)
            sink = self._sink(volume.shape[2:])
            found.append(networks[0].winners(volume.shape[2:], views, self.progress, owners, sink))
        return torch.stack(found)

    def _sink(self, shape: Sequence[int]) -> Callable[[list[Tensor]], None] | None:
        """Hands scores on, slices first, on the grid of the volume itself."""
        scores_to = self.scores_to
        if scores_to is None:
            return None
        return lambda views: scores_to([one.transpose(0, 1) for one in views], shape, torch.eye(4))

    def _stored(self, inputs: Any, logits: LogitsSource) -> list[Tensor]:
        files = inputs.meta["filename_or_obj"]
        names = [case_name(file) for file in ([files] if isinstance(files, str) else files)]
        return [logits(name, inputs.shape[2])[None].to(inputs.device).float() for name in names]

    def _of_slices(self, network: Any, image: Tensor, logits: list[Tensor]) -> Tensor:
        volumes = []
        for slices in zip(*(one.transpose(1, 2) for one in (image, *logits)), strict=True):  # D x C x H x W of a volume
            batches = zip(*(one.split(self.slices_at_once) for one in slices), strict=True)
            volumes.append(torch.cat([network(*(part.float() for part in batch)) for batch in batches]))
        return torch.stack(volumes).transpose(1, 2)
