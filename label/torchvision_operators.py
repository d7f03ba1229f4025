# SPDX-License-Identifier: Apache-2.0
"""Lets torchvision be imported beside a PyTorch for which its compiled operators were not built.

torchvision describes its operators nms and qnms to PyTorch's compiler even if it could not load them, and that fails.
Here they are declared, not defined: MONAI Label imports torchvision and calls neither. A `.pth` file imports this
module whenever the environment's Python starts, so it waits for torchvision before it imports anything else.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType


class _DeclareOperators(MetaPathFinder):
    """Finds no module; declares the operators when torchvision is about to need them."""

    def __init__(self) -> None:
        self.declared: object = None  # what it declares lives as long as it does

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Declare the operators once, just before torchvision describes them."""
        if fullname == "torchvision._meta_registrations" and self.declared is None:
            import torch

            library = torch.library.Library("torchvision", "FRAGMENT")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            self.declared = library


sys.meta_path.insert(0, _DeclareOperators())
