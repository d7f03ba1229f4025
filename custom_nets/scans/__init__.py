# SPDX-License-Identifier: Apache-2.0
"""From what a user points at to NIfTI files in the order of a bundle's modalities."""

from __future__ import annotations

from custom_nets.scans.cases import ScanCase, find_cases, nifti_files
from custom_nets.scans.dicom_headers import series_files

__all__ = ["ScanCase", "find_cases", "nifti_files", "series_files"]
