# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.coarse_logits DATASET_DIR`: coarse logits as files, for the training of the refinement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from custom_nets.datasets.datalist import load_section
from custom_nets.errors import InputError
from custom_nets.files import file_digest
from custom_nets.registry import bundle
from custom_nets.running_config import first_cause
from custom_nets.spine.logits_sources import cases_by_name, load_coarse
from custom_nets.spine.storing import CoarseStage, store_logits
from tools._bundle_options import overlays, require_known
from tools._command import run

NAME = "spineparsenet"
#: Options of the configuration that decide what the coarse network sees, beside its patch_size.
PREPROCESSING = ("crop_share", "slice_spacing", "intensity_mean", "intensity_std")
_OF_TRAINING = ("bundle_root", "ckpt_dir", "output_dir", "resume", "pretrained", "epochs", "dataset_dir", "datalist")


def main(
    dataset_dir: str,
    *,
    checkpoint: str,
    out: str,
    section: str = "training",
    datalist: str = "datalist.json",
    overlay: str | None = None,
    **options: Any,
) -> None:
    """Store the coarse network's logits of one section of a data set, half precision and compressed: OUT/CASE.npz.

    Each file tells which weights and options it comes from, and on which cases those were trained: all of the list's
    training section. What is there from the same is kept, so that a stopped run goes on by the same command.
    python -m tools.spine_pipeline calls this for every fold.

    Args:
        dataset_dir: folder of the data set with its datalist.json.
        checkpoint: model.pt of a training by train.json.
        out: folder of the files.
        section: whose cases: training, validation or testing. Of the training section the logits are in-sample.
        datalist: the list that the checkpoint was trained with, in DATASET_DIR, or its absolute path.
        overlay: a configuration of the bundle that the training had, such as demo.
        options: any option of the bundle's train.json that the training had, such as label_graph or patch_size.
    """
    configs = ["train", *overlays(NAME, overlay)]
    require_known(NAME, options, ["train"], _OF_TRAINING)
    written, kept = predict(dataset_dir, str(datalist), str(section), str(checkpoint), str(out), configs, options)
    print(f"{out}: the coarse logits of {written} cases were written, those of {kept} were there")


def predict(
    dataset_dir: str | Path,
    datalist: str | Path,
    section: str,
    checkpoint: str | Path,
    folder: str | Path,
    configs: Sequence[str],
    options: Mapping[str, Any],
) -> tuple[int, int]:
    """Store the logits of a section by a network that was trained on the training section of the same list.

    Returns:
        How many files were written, and how many were there.

    Raises:
        InputError: for what is wrong with list, checkpoint or options.
    """
    cases = load_section(dataset_dir, datalist, section, labelled=False)
    trained_on = cases_by_name(load_section(dataset_dir, datalist, "training"))
    digest = file_digest(checkpoint)
    stage = coarse_stage(dataset_dir, datalist, configs, options)
    origin = stage.provenance(digest, list(trained_on))
    return store_logits(cases, stage, lambda network: load_coarse(network, checkpoint), folder, origin)


def coarse_stage(
    dataset_dir: str | Path, datalist: str | Path, configs: Sequence[str], options: Mapping[str, Any]
) -> CoarseStage:
    """Read the coarse stage from the configurations of a training, and from refine.json how its input is prepared.

    Args:
        dataset_dir: folder of the data set, whose list may name the label graph.
        datalist: its list.
        configs: names of the training's configurations, merged in this order.
        options: keys of them and their values; those of the training alone do not matter.

    Raises:
        InputError: for a value that is refused.
    """
    given = {key: value for key, value in options.items() if key not in _OF_TRAINING}
    training = _parser(configs, {**given, "dataset_dir": str(dataset_dir), "datalist": str(datalist)})
    size, device = _parsed(training, "patch_size"), _parsed(training, "device")
    preprocessing = {key: _parsed(training, key) for key in PREPROCESSING}
    refinement = _parser(["refine"], {**preprocessing, "coarse_size": size})
    return CoarseStage(
        build=lambda: _parsed(training, "network_def"),
        transform=_parsed(refinement, "computed_logits::transform"),
        graph=_parsed(training, "graph"),
        size=(int(size[0]), int(size[1]), int(size[2])),
        preprocessing=preprocessing,
        device=device,
    )


def _folder() -> Path:
    folder = bundle(NAME).folder
    assert folder is not None
    return folder


def _parser(configs: Sequence[str], options: Mapping[str, Any]) -> ConfigParser:
    files = [_folder() / "configs" / f"{config}.json" for config in configs]
    parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in files]))
    for key, value in {**options, "bundle_root": str(_folder())}.items():
        parser[key] = list(value) if isinstance(value, tuple) else value
    parser.parse()
    return parser


def _parsed(parser: ConfigParser, key: str) -> Any:
    try:
        return parser.get_parsed_content(key)
    except Exception as error:
        cause = first_cause(error)
        if not isinstance(cause, InputError):
            raise
        raise InputError(str(cause)) from error


if __name__ == "__main__":
    run(main)
