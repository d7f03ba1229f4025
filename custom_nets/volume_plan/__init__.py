# SPDX-License-Identifier: Apache-2.0
"""Which crop sizes to try for a two-stage (zoom-in, zoom-out) training: statistics of the lesions, cost, advice.

The paper of the 3D-ResU-Net chose its sizes by looking at typical images and at where lesions lie, and by a systematic
search over shares of the volume, such as 25, 50 and 75 %. This package computes the first and prepares the second.
"""

from __future__ import annotations
