# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.intensity_statistics DATASET_DIR`: with which mean and deviation s2anet's input is normalised."""

from __future__ import annotations

from collections.abc import Sequence

from custom_nets.datasets import load_section
from custom_nets.datasets.problems import text_table
from custom_nets.slices.preparation import SlicePreparation
from custom_nets.slices.statistics import dataset_statistics
from tools._arguments import whole
from tools._command import run


def main(
    dataset_dir: str,
    *,
    datalist: str = "datalist.json",
    section: str = "training",
    size: int | Sequence[int] | None = (512, 512),
    slices: int = 3,
    intensity: str = "minmax",
    plane: str = "auto",
) -> None:
    """Measure mean and deviation of the slices of a data set as s2anet prepares them, and print the options to give.

    As published: of every image mean and deviation of u / 255, then the mean of both over the images, 4 decimals. The
    channels differ a little because the first and the last slice are repeated; the network takes one value for all,
    here that of the centre slice.

    Args:
        dataset_dir: the folder of the data set.
        datalist: the list of cases, in dataset_dir.
        section: training, validation or testing.
        size: rows and columns of the network's input, such as 256,256; None keeps the slices' own.
        slices: slices of a window, odd; 1 for the 2D network.
        intensity: rule of the 8-bit scaling, minmax or percentile; the one that training uses.
        plane: auto, axial, coronal or sagittal slices; auto takes the axis with the largest spacing.
    """
    preparation = SlicePreparation(_size(size), intensity=str(intensity))
    cases = load_section(str(dataset_dir), str(datalist), str(section), labelled=False)
    count = whole("slices", slices)
    measured = dataset_statistics(cases, preparation, count, str(plane))
    channels = enumerate(zip(measured.mean, measured.std, strict=True), start=-(count // 2))
    rows = [(f"{offset:+d}" if offset else "0", f"{mean:.4f}", f"{std:.4f}") for offset, (mean, std) in channels]
    print(f"{len(cases)} volumes, {measured.windows} slices, {measured.black} of them black")
    print(text_table(("slice", "mean", "std"), rows))
    _, mean, std = rows[count // 2]
    print(f"--intensity_mean {mean} --intensity_std {std}")


def _size(size: int | Sequence[int] | None) -> list[int] | None:
    """``512,512`` as the command line gives it, or one number for both."""
    if size is None:
        return None
    return list(size) if isinstance(size, list | tuple) else [size] * 2  # type: ignore[list-item]


if __name__ == "__main__":
    run(main)
