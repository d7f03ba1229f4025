# SPDX-License-Identifier: Apache-2.0
"""The refinement's training samples: sagittal slices with the coarse network's logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from custom_nets.errors import InputError
from custom_nets.slices.dataset import SlicesOfVolumes, plain


class SpineSlices(SlicesOfVolumes):
    """One item a slice of every volume, section 3.3: image, label and coarse logits of that slice.

    ``volume_transform`` makes of a case "image", 1 x D x H x W float32, "label", 1 x D x H x W, and "coarse_logits",
    K x D x h x w in half precision, which they stay in memory (`custom_nets.spine.logits_sources.AddCoarseLogitsd`).
    ``transform`` gets {"image": 1 x H x W float32, "label": 1 x H x W uint8, "coarse_logits": K x h x w float32}.
    Arguments are those of :class:`~custom_nets.slices.dataset.SlicesOfVolumes`.
    """

    def item(self, volume: Mapping[str, Any], centre: int) -> dict[str, Tensor]:
        """Return slice ``centre``; only here the logits become single precision.

        Raises:
            InputError: image, label and logits have different numbers of slices.
        """
        image, label, logits = (plain(volume[key]) for key in ("image", "label", "coarse_logits"))
        depths = [volume.shape[1] for volume in (image, label, logits)]
        if len(set(depths)) > 1:
            raise InputError(f"image, label and coarse logits of a case have {depths} slices; compute the logits anew.")
        return {
            "image": image[:, centre].clone(),
            "label": label[:, centre].clone(),
            "coarse_logits": logits[:, centre].float().contiguous(),
        }
