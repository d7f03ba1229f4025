# SPDX-License-Identifier: Apache-2.0
"""Gates that weigh channels or places: squeeze-and-excitation, spatial gate, and the two in a row (CBAM)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from custom_nets.blocks.lean_convolution import channels_last_on_cpu

_RATIO = 16


class SqueezeExcitation(nn.Module):
    """Weigh each channel by what all of them are on average (Hu et al., CVPR 2018); hidden layer C // 16, no biases.

    Shape:
        N x C x D x H x W -> the same.

    Raises:
        ValueError: for less than 16 channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.excite = _two_layers(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the channels."""
        return x * self.weights(x)

    def weights(self, x: Tensor) -> Tensor:
        """What ``x`` is multiplied by, N x C x 1 x 1 x 1."""
        weights = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean(dim=[2, 3, 4])))))
        return weights[:, :, None, None, None]


class SpatialGate3d(nn.Module):
    """A weight from 0 to 1 for each place, from the greatest and the mean of its channels; not yet multiplied.

    Args:
        kernel_size: of the convolution, odd.

    Shape:
        N x C x D x H x W -> N x 1 x D x H x W.
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weights."""
        # of a wide kernel on two channels that do not lie side by side the gradient takes a CPU ten times as long
        return torch.sigmoid(self.convolution(channels_last_on_cpu(_greatest_and_mean(x))))


class ChannelSpatialAttention2d(nn.Module):
    """CBAM (Woo et al., ECCV 2018) of planes: weigh the channels, then the places.

    Args:
        channels: E; the hidden layer has E // 16.

    Shape:
        N x E x H x W -> the same.

    Raises:
        ValueError: for less than 16 channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.excite = _two_layers(channels)
        self.places = nn.Conv2d(2, 1, kernel_size=7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh channels and places."""
        both = torch.stack([x.amax(dim=[2, 3]), x.mean(dim=[2, 3])])
        greatest, mean = self.excite(torch.relu(self.squeeze(both))).unbind()
        x = x * torch.sigmoid(greatest + mean)[:, :, None, None]
        return x * torch.sigmoid(self.places(_greatest_and_mean(x)))


def _two_layers(channels: int) -> tuple[nn.Linear, nn.Linear]:
    hidden = channels // _RATIO
    if hidden < 1:  # PyTorch makes layers of nothing, and the gates a constant
        raise ValueError(f"a channel attention over {channels} channels: give filters or embed_channels that make 16.")
    return nn.Linear(channels, hidden, bias=False), nn.Linear(hidden, channels, bias=False)


def _greatest_and_mean(x: Tensor) -> Tensor:
    return torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
