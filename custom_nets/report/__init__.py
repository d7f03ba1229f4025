# SPDX-License-Identifier: Apache-2.0
"""One page about a prediction, for people: pictures, tables and a viewer in a single file that opens from the disk."""

from __future__ import annotations

from custom_nets.report.page import PAGE, write_report

__all__ = ["PAGE", "write_report"]
