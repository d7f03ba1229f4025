# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.fingerprint NAME DATASET_DIR CHECKPOINT`: what a checkpoint was trained on, written beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from custom_nets.errors import InputError
from custom_nets.registry import bundle
from tools._arguments import names_in
from tools._command import run


def fingerprint(
    name: str,
    dataset_dir: str,
    checkpoint: str,
    *,
    section: str = "training",
    datalist: str = "datalist.json",
    overlay: str | None = None,
    modalities: str | None = None,
    **options: Any,
) -> None:
    """Measure the scans that a model was trained on, and write CHECKPOINT's name with .fingerprint.json beside it.

    A training writes this file by itself; this is for checkpoints that were published or trained elsewhere. With it,
    `python -m tools.predict` needs no options, and says which scans are unusual for the model.

    Args:
        name: of the bundle.
        dataset_dir: folder of the data set with which the checkpoint was trained.
        checkpoint: weights; they are not read.
        section: which list of cases: training, validation or testing.
        datalist: the list of cases, in dataset_dir.
        overlay: overlays of the bundle with which the model was trained, for example demo.
        modalities: names of the input images, where the model was trained on others than the bundle's: T1,FLAIR.
        options: of inference.json with which the model was trained, where they are not the defaults, for example
            --filters "[16,32,64,128,256]".
    """
    from custom_nets.bundle_configs import read_configs
    from custom_nets.fingerprints import write_fingerprint
    from custom_nets.fingerprints.recording import measured_fingerprint
    from custom_nets.fingerprints.trained_options import given_options
    from custom_nets.label_graphs.reading import label_graph_name
    from custom_nets.model_zoo.model_options import overlay_options

    entry, weights = bundle(str(name)), Path(str(checkpoint))
    if not weights.is_file():
        raise InputError(f"{weights}: no such checkpoint; correct the path.")
    if names_in(modalities):
        options["in_channels"] = len(names_in(modalities))
    configs = read_configs(entry.folder)
    if "label_graph" in configs["inference"]:
        listed = label_graph_name(str(dataset_dir), str(datalist), options.get("label_graph", "auto"))
        options["label_graph"] = listed
    trained = given_options(entry.name, options, [overlay_options(configs, one) for one in names_in(overlay)])
    made = measured_fingerprint(
        entry.name,
        (str(dataset_dir), str(datalist), str(section)),
        names_in(modalities) or entry.modalities,
        {**configs["inference"], **trained},
        trained,
    )
    path = write_fingerprint(made, weights)
    for modality, seen in made.seen.items():
        sides = ("x".join(f"{seen.ranges[f'spacing_{axis}'][1]:.3g}" for axis in "ras"), ", ".join(seen.orientations))
        print(f"{modality}: {made.cases} scans, {sides[0]} mm (median, along R, A, S), stored {sides[1]}")
    if made.options:
        print(f"options of the model: {', '.join(made.options)}")
    print(f"wrote {path}")


if __name__ == "__main__":
    run(fingerprint)
