# SPDX-License-Identifier: Apache-2.0
"""Reading files that hold a pickled network of a program that is not installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import nn

#: Layers that a pickled network is made of; PyTorch itself takes no module for harmless.
_LAYERS = (nn.Conv3d, nn.ConvTranspose3d, nn.GroupNorm, nn.MaxPool3d, nn.ReLU, nn.Sequential)


@contextmanager
def standing_in(classes: Sequence[str]) -> Iterator[None]:
    """Let `torch.load` find empty modules in place of ``classes``, such as "model.UNet3D".

    With `weights_only` they, plain layers and sets are allowed and nothing else is; in a full unpickling, which follows
    the names through Python's imports, modules of those names are there as long as the context lasts.
    """
    if not classes:
        yield
        return
    modules: dict[str, ModuleType] = {}
    allowed: list[Any] = [*_LAYERS, set]
    for full_name in classes:
        home, _, name = full_name.rpartition(".")
        stub = type(name, (nn.Module,), {"__module__": home})
        setattr(modules.setdefault(home, ModuleType(home)), name, stub)
        allowed.append((stub, full_name))
    with torch.serialization.safe_globals(allowed), mock.patch.dict(sys.modules, modules):
        yield
