# SPDX-License-Identifier: Apache-2.0
"""Write a synthetic data set for a bundle, to try everything out without a download."""

from __future__ import annotations

from collections.abc import Sequence

from custom_nets.phantoms import write_dataset
from tools._command import run


def main(
    name: str,
    directory: str,
    *,
    cases: int = 8,
    seed: int = 0,
    spacing: float | None = None,
    shape: Sequence[int] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a synthetic data set for a bundle: NIfTI volumes and datalist.json.

    The volumes look like scans from afar and carry the right labels. They show that everything runs and learns, not
    how well a network does on patients.

    Args:
        name: the bundle, such as rsanet.
        directory: where to write, such as data/rsanet.
        cases: number of cases, at least 3: a quarter for testing, an eighth for validation, the rest for training.
        seed: another seed gives other patients; the same seed gives the same bytes.
        spacing: voxel size in mm, 1 to 6; left out, the domain's own (1.5 for rsanet, 2 for zoom_resunet and
            s2ca_net, 4 within slices of twice that thickness for s2anet); for spineparsenet the thickness of the
            sagittal slices, 4.4, in which voxels are 3.7 times finer.
        shape: number of voxels x,y,z; left out, as few as hold the body. Files of spineparsenet store them in any
            order, as scanners do.
        overwrite: replace another data set's datalist.json in that folder.
    """
    path = write_dataset(
        str(name), str(directory), cases, seed, spacing, shape, overwrite=bool(overwrite), progress=True
    )
    print(f"{cases} cases in {path}")


if __name__ == "__main__":
    run(main)
