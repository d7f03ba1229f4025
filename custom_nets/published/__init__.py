# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as the papers' authors wrote them, one file a paper: names and shapes to ours."""
