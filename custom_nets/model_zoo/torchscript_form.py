# SPDX-License-Identifier: Apache-2.0
"""TorchScript files as MONAI writes them: metadata and configuration are inside."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ckpt_export
from torch import nn

from custom_nets.checkpoints import save_weights


def write_torchscript(
    network: nn.Module,
    folder: Path,
    file: Path,
    *,
    configured: Mapping[str, Any] | None = None,
    traced: Sequence[int] | None = None,
) -> None:
    """Write a network of a bundle through `monai.bundle.ckpt_export`.

    Args:
        network: with its weights.
        folder: of the bundle.
        file: to write.
        configured: ids that replace or join those of the configuration; "exported" is then the id of the network. Left
            out, ``network_def``.
        traced: shape of the input with which the network is traced; left out, it is scripted.
    """
    changes = {"bundle_root": str(folder), **(configured or {})}
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary) / "model.pt"
        save_weights(network.state_dict(), weights)
        ckpt_export(
            net_id="exported" if "exported" in changes else "network_def",
            filepath=str(file),
            ckpt_file=str(weights),
            meta_file=str(folder / "configs" / "metadata.json"),
            config_file=str(folder / "configs" / "inference.json"),
            use_trace=traced is not None,
            input_shape=list(traced) if traced else None,
            **changes,
        )
