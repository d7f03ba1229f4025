# SPDX-License-Identifier: Apache-2.0
"""Scans in other formats than NIfTI, by SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.trees import OBLIQUE, orthogonal

AFFINE = orthogonal(OBLIQUE)


def write_foreign(path: Path, array: np.ndarray, affine: Any = AFFINE) -> Path:
    """NRRD or MetaImage by SimpleITK."""
    sitk = pytest.importorskip("SimpleITK")
    matrix = np.diag([-1, -1, 1, 1]) @ np.asarray(affine)
    image = sitk.GetImageFromArray(array.T)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)[: array.ndim]
    image.SetSpacing(spacing.tolist())
    if array.ndim == 3:
        image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(matrix[:3, 3].tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path
