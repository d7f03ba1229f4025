# SPDX-License-Identifier: Apache-2.0
"""Plain transcriptions of the papers' formulas: the yardstick for fidelity and speed, independent of the product."""
