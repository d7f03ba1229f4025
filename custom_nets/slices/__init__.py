# SPDX-License-Identifier: Apache-2.0
"""Volumes as stacks of slices, for networks that read a slice together with its neighbours (2.5D)."""

from __future__ import annotations
