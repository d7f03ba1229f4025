# SPDX-License-Identifier: Apache-2.0
"""Instance norm without parameters, alone and followed by a PReLU."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def instance_norm(x: Tensor) -> Tensor:
    """Each channel of each sample at mean 0 and variance 1, eps 1e-5; N x C x D x H x W."""
    return F.instance_norm(x)


def norm_prelu(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU of one slope behind an instance norm; N x C x D x H x W."""
    return F.prelu(instance_norm(x), slope)
