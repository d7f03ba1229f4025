# SPDX-License-Identifier: Apache-2.0
"""Instance and group norms of an exported graph, written out so that no long sum is made in one float32.

onnxruntime adds up all voxels of a map in a few float32 numbers: at 128 x 128 x 128 voxels a single norm is off by
4e-4, and a network of many by 1e-3 of its output. Means along one axis after the other have short sums alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.export import ExportedProgram


def with_accurate_norms(program: ExportedProgram) -> ExportedProgram:
    """Return the program with its instance and group norms in place of which means, products and sums stand."""
    aten = torch.ops.aten
    return program.run_decompositions(
        {aten.instance_norm.default: _instance_norm, aten.group_norm.default: _group_norm}
    )


def _instance_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    assert use_input_stats, "the networks' instance norms keep no statistics"
    return _affine(_normalised(x, eps), weight, bias)


def _group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    groups = x.unflatten(1, [num_groups, x.shape[1] // num_groups])
    return _affine(_normalised(groups, eps).flatten(1, 2), weight, bias)


def _normalised(x: Tensor, eps: float) -> Tensor:
    centred = x - _mean(x)
    return centred * torch.rsqrt(_mean(centred * centred) + eps)


def _mean(x: Tensor) -> Tensor:
    """Over all axes but the first two, which stay."""
    for axis in range(x.ndim - 1, 1, -1):
        x = x.mean(dim=axis, keepdim=True)
    return x


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    shape = [1, -1] + [1] * (x.ndim - 2)
    if weight is not None:
        x = x * weight.view(shape)
    return x if bias is None else x + bias.view(shape)
