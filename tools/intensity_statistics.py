# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.intensity_statistics DATASET_DIR`: with which mean and deviation a network's input is normalised."""

from __future__ import annotations

from collections.abc import Sequence

from custom_nets.datasets import load_section
from custom_nets.datasets.datalist import Case
from custom_nets.datasets.problems import text_table
from custom_nets.errors import InputError
from custom_nets.slices.preparation import SlicePreparation
from custom_nets.slices.statistics import dataset_statistics
from custom_nets.spine.statistics import crop_statistics
from tools._arguments import number, whole
from tools._command import run


def main(
    dataset_dir: str,
    *,
    bundle: str = "s2anet",
    datalist: str = "datalist.json",
    section: str = "training",
    size: int | Sequence[int] | None = (512, 512),
    slices: int = 3,
    intensity: str = "minmax",
    plane: str = "auto",
    crop_share: float = 0.5,
) -> None:
    """Measure mean and deviation of a data set as a bundle prepares it, and print the options to give.

    For s2anet, as published: of every slice mean and deviation of u / 255, then the mean of both over the slices, 4
    decimals. The channels differ a little because the first and the last slice are repeated; the network takes one
    value for all, here that of the centre slice. For spineparsenet: mean and deviation over all voxels of the central
    crops of all volumes, in the scans' own units, as 466 and 379 are for MRSpineSeg.

    Args:
        dataset_dir: the folder of the data set.
        bundle: s2anet or spineparsenet; size, slices, intensity and plane are for the first, crop_share for the second.
        datalist: the list of cases, in dataset_dir.
        section: training, validation or testing.
        size: rows and columns of the network's input, such as 256,256; None keeps the slices' own.
        slices: slices of a window, odd; 1 for the 2D network.
        intensity: rule of the 8-bit scaling, minmax or percentile; the one that training uses.
        plane: auto, axial, coronal or sagittal slices; auto takes the axis with the largest spacing.
        crop_share: of the rows from posterior to anterior, which part in the middle is measured.
    """
    if bundle not in ("s2anet", "spineparsenet"):
        raise InputError(
            f"bundle is {bundle!r}: only s2anet and spineparsenet are normalised by a data set's constants"
        )
    cases = load_section(str(dataset_dir), str(datalist), str(section), labelled=False)
    if bundle == "s2anet":
        preparation = SlicePreparation(_size(size), intensity=str(intensity))
        _of_slices(cases, preparation, whole("slices", slices), str(plane))
    else:
        _of_crops(cases, number("crop_share", crop_share))


def _of_crops(cases: Sequence[Case], crop_share: float) -> None:
    measured = crop_statistics(cases, crop_share)
    means = [mean for mean, _ in measured.of_case]
    print(f"{len(cases)} volumes, whose means lie between {min(means):.4g} and {max(means):.4g}")
    print(f"--intensity_mean {measured.mean:.4f} --intensity_std {measured.std:.4f}")


def _of_slices(cases: Sequence[Case], preparation: SlicePreparation, count: int, plane: str) -> None:
    measured = dataset_statistics(cases, preparation, count, plane)
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
