# SPDX-License-Identifier: Apache-2.0
"""What is measured of a scan, by name. Axes are the patient's: R to the right, A to the front, S to the head."""

from __future__ import annotations

AXES = ("r", "a", "s")
PLANES = ("sagittal", "coronal", "axial")  # of slices that lie one behind another along r, a, s

#: Name -> meaning, of each number that is measured of each scan.
QUANTITIES = {
    **{f"spacing_{axis}": f"voxel size along {axis.upper()}, mm" for axis in AXES},
    **{f"shape_{axis}": f"voxels along {axis.upper()}" for axis in AXES},
    **{f"field_of_view_{axis}": f"voxels times voxel size along {axis.upper()}, mm" for axis in AXES},
    **{f"extent_{axis}": f"length along {axis.upper()} of what is not air, mm" for axis in AXES},
    "voxels": "number of voxels",
    "p0_5": "0.5th percentile of the intensities of the foreground (what is not air)",
    "p50": "their median",
    "p99_5": "their 99.5th percentile",
    "zero_share": "share of voxels that are exactly 0",
    "border_level": "median of the outermost voxels, 0 at the volume's 0.5th, 1 at its 99.5th percentile",
    "median_level": "median of all voxels, likewise",
    "contrast_middle": "median of the foreground, 0 at its 1st, 1 at its 99th percentile",
    "contrast_skewness": "skewness of the foreground's intensities between these percentiles",
    "skull_gap": "share of rays from the middle of the head that cross a dark layer under a bright rim",
}


def axes(name: str) -> tuple[str, str, str]:
    """The three names of a quantity that is measured along R, A and S."""
    return f"{name}_r", f"{name}_a", f"{name}_s"
