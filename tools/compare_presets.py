# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.compare_presets NAME`: what a faster way of inference saves, and what it changes in the labels."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.utils.type_conversion import convert_to_numpy
from numpy.typing import NDArray

from custom_nets.checkpoints import load_weights
from custom_nets.errors import InputError
from custom_nets.marked_text import markdown_table
from custom_nets.registry import ROOT, bundle
from custom_nets.tumours.regions import region_masks
from tools._arguments import whole
from tools._command import run

Masks = Mapping[str, NDArray[np.bool_]]


def compare_presets(
    name: str,
    checkpoint: str,
    preset: str = "fast",
    configs: str = "",
    section: str = "testing",
    cases: int = 1,
    **options: Any,
) -> None:
    """Segment the same scans with the bundle's inference and with a preset laid over it, in turn in one process.

    Times are those of the network's windows alone, without reading, cleaning and writing. The table has the Dice
    coefficient between the two label maps, of each region of a tumour or of each label, and the scan's times.

    Args:
        name: of the bundle.
        checkpoint: a trained model; of an untrained one the label maps say nothing.
        preset: name of the overlay among the bundle's configurations.
        configs: further configurations that the model needs, such as demo, by name or as files, with commas between.
        section: of the data list.
        cases: number of scans, from the first one on.
        options: keys of inference.json and their values, such as --dataset_dir.
    """
    entry, count = bundle(name), whole("cases", cases)
    assert entry.folder is not None
    os.chdir(ROOT)  # where the configurations find the bundle
    names = ["inference", *(str(config) for config in str(configs).split(",") if config)]
    with tempfile.TemporaryDirectory() as folder:
        common = {**options, "section": section, "checkpoint": checkpoint, "output_dir": folder}
        segments = [_segmenting(_files(entry.folder, files), common, count) for files in (names, [*names, str(preset)])]
        rows, seconds = [], []
        for index in range(count):
            (slow, first), (fast, second) = (segment(index) for segment in segments)
            seconds.append((slow, fast))
            agreement = [f"{region} {_dice(first[region], second[region]):.4f}" for region in first]
            rows.append((str(index), f"{slow:.1f} s", f"{fast:.1f} s", f"{fast / slow:.3f}", ", ".join(agreement)))
            print(f"scan {index + 1} of {count}: {' '.join(rows[-1][1:])}", flush=True)
    print(f"\n{markdown_table(('scan', 'inference', str(preset), 'ratio', 'Dice between the two'), rows)}")
    slow, fast = (median(times) for times in zip(*seconds, strict=True))
    print(f"\nratio of medians {fast / slow:.3f}, {torch.get_num_threads()} threads")


def _files(folder: Path, names: list[str]) -> list[str]:
    files = [Path(name) if name.endswith(".json") else folder / "configs" / f"{name}.json" for name in names]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: no such configuration; name one of {folder / 'configs'}, or give a file")
    return [str(file) for file in files]


def _segmenting(files: list[str], options: Mapping[str, Any], count: int) -> Callable[[int], tuple[float, Masks]]:
    """A function of a scan's number, below ``count``, that segments it and returns the seconds and the masks."""
    parser = ConfigParser()
    parser.read_config(files)
    parser.update(dict(options))
    network = parser.get_parsed_content("network").eval()
    load_weights(network, options["checkpoint"])
    dataset, inferer, clean = (parser.get_parsed_content(id) for id in ("dataset", "inferer", "postprocessing"))
    if not 1 <= count <= len(dataset):
        raise InputError(f"cases is {count}: give 1 to {len(dataset)}, which section {options['section']!r} has")
    convention = parser.get("output_convention")

    def segment(index: int) -> tuple[float, Masks]:
        case = dataset[index]
        image = case["image"][None].to(parser.get_parsed_content("device"))
        with torch.inference_mode():
            started = time.perf_counter()
            logits = inferer(image, network)
            if image.device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
        label = convert_to_numpy(clean({**case, "pred": logits[0].clone()})["pred"])[0]
        if convention:
            return seconds, region_masks(label, convention)
        return seconds, {str(value): label == value for value in np.unique(label[label != 0]).tolist()}

    return segment


def _dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    both = np.count_nonzero(first) + np.count_nonzero(second)
    return 2 * np.count_nonzero(first & second) / both if both else 1.0


if __name__ == "__main__":
    run(compare_presets)
