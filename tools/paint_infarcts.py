# SPDX-License-Identifier: Apache-2.0
"""Paint real lesion masks as chronic infarcts into a real, healthy T1."""

from __future__ import annotations

from custom_nets.phantoms.painted_dataset import write_painted
from tools._command import run


def main(
    image: str,
    mask_dir: str,
    out_dir: str,
    *,
    cases: int = 8,
    seed: int = 0,
    validation: int | None = None,
    testing: int | None = None,
    vary: bool = True,
    overwrite: bool = False,
) -> None:
    """Write a data set of chronic infarcts with real outlines in a real head: NIfTI volumes and datalist.json.

    The intensities of the lesions are made up from the image's own fluid and grey matter, so the data set can show
    that a network learns, not how well it does on patients.

    Args:
        image: T1 of a healthy head, with or without its skull (.nii or .nii.gz).
        mask_dir: folder of lesion masks on the image's grid, 0 and 1.
        out_dir: where to write.
        cases: number of cases; each takes another mask.
        seed: another seed draws other masks and other scanners; the same seed gives the same data set.
        validation: number of validation cases; left out, one in eight.
        testing: number of testing cases; left out, one in four.
        vary: let flip, shape, shading, gamma, noise and scale differ from case to case; --novary paints only.
        overwrite: replace another data set's datalist.json in that folder.
    """
    path = write_painted(
        str(image),
        str(mask_dir),
        str(out_dir),
        cases,
        seed,
        validation,
        testing,
        vary=bool(vary),
        overwrite=bool(overwrite),
        progress=True,
    )
    print(f"{cases} cases in {path}")


if __name__ == "__main__":
    run(main)
