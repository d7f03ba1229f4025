# SPDX-License-Identifier: Apache-2.0
"""From a folder of scans to cases that are known to be sound."""

from __future__ import annotations

from custom_nets.datasets.checks import check_case, check_cases
from custom_nets.datasets.datalist import load_section, read_datalist
from custom_nets.datasets.preflight import check_inference, check_training
from custom_nets.datasets.problems import Problem, report, require_sound

__all__ = [
    "Problem",
    "check_case",
    "check_cases",
    "check_inference",
    "check_training",
    "load_section",
    "read_datalist",
    "report",
    "require_sound",
]
