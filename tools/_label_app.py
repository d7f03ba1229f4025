# SPDX-License-Identifier: Apache-2.0
"""The folder from which MONAI Label serves bundles: its sample application, and a copy of each bundle.

A copy, because a training over REST writes into the bundle that is served.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from custom_nets.checkpoints import save_weights
from custom_nets.errors import InputError
from custom_nets.files import write_json
from custom_nets.model_zoo.filled_metadata import with_labels
from custom_nets.model_zoo.form_parts import built
from custom_nets.model_zoo.labels import own_labels, with_labels_inside
from custom_nets.model_zoo.model_options import overlay_options, read_configs, with_options
from custom_nets.spine.weights import load_stages

MODEL = "model.pt"
_APPLICATION = "sample-apps/monaibundle/main.py"
#: Of a bundle's folder, what a run writes.
_WRITTEN = ("models", "eval", "__pycache__")
#: In a bundle's `models`, where files go that MONAI Label would offer as its models.
_ASIDE = "earlier"
#: 3D Slicer numbers the labels that it submits 1, 2, 3 ...: where label maps have conventions, one without a gap.
WITHOUT_GAP = {"output_convention": "brats2023", "label_convention": "brats2023"}


@dataclass(frozen=True)
class Served:
    """A bundle to be served.

    Attributes:
        folder: of the bundle in this repository, or of an export; its name is the model's.
        checkpoint: weights to start with; None = those that were served last, else the bundle's own models/model.pt.
        overlay: a configuration with which the model was trained, such as demo.
        options: with which it was trained, besides.
        fresh: forget what was trained in the application's folder.
    """

    folder: Path
    checkpoint: Path | None = None
    overlay: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    fresh: bool = False


def make_application(app: Path) -> None:
    """Copy MONAI Label's application for bundles, as it is, into the folder ``app``.

    Raises:
        InputError: this Python has no MONAI Label, or the folder holds something else.
    """
    if app.is_dir() and any(app.iterdir()) and not (app / "main.py").is_file():
        raise InputError(f"{app}: is no application of MONAI Label; choose an empty folder with --app FOLDER.")
    try:
        shipped = files("monailabel") or []
    except PackageNotFoundError:
        raise InputError(
            "this Python has no MONAI Label: make its environment with `make label-environment`, and start the server "
            "with `make label-server`."
        ) from None
    main = next(Path(str(file.locate())) for file in shipped if file.as_posix().endswith(_APPLICATION))
    unwanted = shutil.ignore_patterns("logs", "model", "__pycache__")
    shutil.copytree(main.resolve().parent, app, ignore=unwanted, dirs_exist_ok=True)


def weights_of(app: Path, served: Served) -> Path:
    """Return the file of the weights that will be served from the folder ``app``.

    Raises:
        InputError: there is none.
    """
    trained = app / "model" / served.folder.name / "models" / MODEL
    if served.checkpoint is None and not served.fresh and trained.is_file():
        return trained
    weights = served.checkpoint or served.folder / "models" / MODEL
    if not weights.is_file():
        raise InputError(f"{weights}: no such model; train the bundle first, or name one with --checkpoint FILE.")
    return weights


def put_bundle(app: Path, served: Served) -> Path:
    """Copy a bundle into the application's folder, with weights that its network takes; return the weights' file.

    MONAI Label loads weights without a word about entries that do not fit, and would serve random ones: so they are
    loaded here first, and written as it reads them, bare, with all stages in one file.

    Raises:
        InputError: there are no weights, or they are of another network; an unknown option or overlay; the bundle is
            such a copy.
    """
    target = app / "model" / served.folder.name
    if target.resolve() == served.folder.resolve():
        raise InputError(f"{target}: is the copy that is served; give the bundle that it was made of.")
    weights = weights_of(app, served)
    _copy_all_but_models(served.folder, target)
    _set_options(target, served)
    network = built(target)
    load_stages(network, weights)
    _put_aside(target / "models")
    save_weights(network.state_dict(), target / "models" / MODEL)
    return weights


def _copy_all_but_models(source: Path, target: Path) -> None:
    for path in target.iterdir() if target.is_dir() else ():
        if path.name not in _WRITTEN:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*_WRITTEN), dirs_exist_ok=True)


def _set_options(target: Path, served: Served) -> None:
    configs = read_configs(target)
    options = {key: value for key, value in WITHOUT_GAP.items() if any(key in config for config in configs.values())}
    options |= overlay_options(configs, served.overlay) if served.overlay else {}
    options = with_labels_inside({**options, **served.options}, target)
    changed = with_options(configs, options)
    for name in changed:
        if changed[name] != configs[name]:
            write_json(target / "configs" / f"{name}.json", changed[name])
    _name_labels(target / "configs" / "metadata.json", options)


def _name_labels(metadata: Path, options: Mapping[str, Any]) -> None:
    """Let the metadata name the values that the label maps will hold."""
    if (labels := own_labels(options)) is not None:
        write_json(metadata, with_labels(ConfigParser.load_config_file(metadata), labels))


def _put_aside(models: Path) -> None:
    """Leave no file but the model that comes: of several, MONAI Label takes the shortest name, which is last.pt."""
    for path in models.glob("*.pt"):
        (models / _ASIDE).mkdir(exist_ok=True)
        path.replace(models / _ASIDE / path.name)
