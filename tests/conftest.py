# SPDX-License-Identifier: Apache-2.0
"""One thread a test process: pytest-xdist runs one process a core."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
