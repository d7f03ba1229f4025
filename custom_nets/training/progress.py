# SPDX-License-Identifier: Apache-2.0
"""Progress bars of training and evaluation."""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine
from ignite.handlers import ProgressBar


class EpochProgress(ProgressBar):
    """Handler: a tqdm bar over the iterations of each epoch, with the loss where there is one; first process only.

    Args:
        desc: text before the bar.
    """

    def __init__(self, desc: str) -> None:
        super().__init__(desc=desc, disable=idist.get_rank() != 0, dynamic_ncols=True)

    def attach(self, engine: Engine, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Register with a trainer or an evaluator."""
        super().attach(engine, output_transform=_loss)


def _loss(output: Any) -> dict[str, float]:
    first = output[0] if isinstance(output, list) else output
    return {"loss": float(first["loss"])} if "loss" in first else {}
