# SPDX-License-Identifier: Apache-2.0
"""A start without what a command does not need: MONAI imports each optional package that it finds installed."""

from __future__ import annotations

import sys

#: Of trackers, training, pictures, tables and other formats; MONAI does without them, as where they are not installed.
_UNUSED = ("ignite", "itk", "matplotlib", "mlflow", "pandas", "tensorboard")


def leave_out() -> None:
    """Let this process go on as if these were missing: seconds and tens of MB less. Called before MONAI is imported."""
    for name in _UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
