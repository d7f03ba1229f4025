# SPDX-License-Identifier: Apache-2.0
"""Networks, blocks and the machinery that the bundles share. Nothing heavy is imported before it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_NETWORKS = {
    "GCSN": "custom_nets.nets.gcsn",
    "RSANet": "custom_nets.nets.rsanet",
    "S2CANet": "custom_nets.nets.s2ca_net",
    "S2aNet": "custom_nets.nets.s2anet",
    "ResUNet2d": "custom_nets.nets.resunet2d",
    "SpineParseNet": "custom_nets.nets.spineparsenet",
    "ZoomResUNet": "custom_nets.nets.zoom_resunet",
}

__all__ = ["GCSN", "RSANet", "ResUNet2d", "S2CANet", "S2aNet", "SpineParseNet", "ZoomResUNet"]


def __getattr__(name: str) -> Any:
    """Import a network when it is first named (PEP 562), so that `custom_nets.registry` needs no torch."""
    if name in _NETWORKS:
        return getattr(import_module(_NETWORKS[name]), name)
    raise AttributeError(f"module 'custom_nets' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_NETWORKS])
