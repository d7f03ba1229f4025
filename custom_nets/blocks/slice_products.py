# SPDX-License-Identifier: Apache-2.0
"""Products of all slices of a feature map with each other, by views: no slice is gathered into one row of memory.

A slice is handled in B pieces of K values each; a map of L slices is N x B x L x K.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pieces(x: Tensor, axis: int) -> Tensor:
    """View of N x C x D x H x W as N x B x L x K, L along ``axis`` (2, 3 or 4); a copy if ``x`` is not contiguous."""
    if axis == 2:
        return x.flatten(3)
    if axis == 3:
        return x.flatten(1, 2)
    return x.flatten(1, 3).transpose(1, 2).unsqueeze(1)


def pieces_channels_last(x: Tensor, axis: int) -> Tensor:
    """The same for N x D x H x W x C, ``axis`` counted as in :func:`pieces`; K is at least C."""
    if axis == 2:
        return x.flatten(2).unsqueeze(1)
    if axis == 3:
        return x.flatten(3)
    return x.flatten(1, 2)


def softmax_of_products(query: Tensor, key: Tensor, scaled: bool) -> Tensor:
    """softmax_j of <query_i, key_j>, divided by √(BK) if ``scaled``: N x B x L x K twice -> N x L x L."""
    if _separately(key):
        scores = torch.matmul(query, key.transpose(2, 3)).sum(1)
    else:
        scores = torch.einsum("nbik,nbjk->nij", query, key)
    if scaled:
        scores = scores * float(key.shape[1] * key.shape[3]) ** -0.5
    return torch.softmax(scores, dim=-1)


def mix_pieces(attention: Tensor, value: Tensor) -> Tensor:
    """Replace slice i of ``value`` (N x B x L x K) by Σ_j A_ij value_j; contiguous."""
    if _separately(value):
        return torch.matmul(attention.unsqueeze(1), value)
    return torch.einsum("nij,nbjk->nbik", attention, value).contiguous()


def is_recorded() -> bool:
    """Whether a graph is recorded that will serve other sizes and other weights than these."""
    if torch.jit.is_scripting():
        return False
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


def _separately(x: Tensor) -> bool:
    """Whether the products of single pieces, B x L x L, fit into the room of ``x``; if not, pieces are joined first."""
    return not is_recorded() and x.shape[2] <= x.shape[3]
