# SPDX-License-Identifier: Apache-2.0
"""Pictures of a training run: learning curves, and lesions or structures drawn over slices of the image."""

from __future__ import annotations

from custom_nets.figures.curves import learning_curves
from custom_nets.figures.lesions import OUTLINES, overlay
from custom_nets.figures.saving import save_figure
from custom_nets.figures.structures import structure_overlay
from custom_nets.figures.volumes import AXIAL, CORONAL, PLANE_NAMES, SAGITTAL

__all__ = [
    "AXIAL",
    "CORONAL",
    "OUTLINES",
    "PLANE_NAMES",
    "SAGITTAL",
    "learning_curves",
    "overlay",
    "save_figure",
    "structure_overlay",
]
