# SPDX-License-Identifier: Apache-2.0
"""`make label-server BUNDLE=NAME DATA=STUDIES`: bundles as models of a MONAI Label server."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError
from custom_nets.registry import ROOT, bundle
from tools._arguments import names_in, whole
from tools._command import run
from tools._label_app import Served, make_application, put_bundle, weights_of

_IMAGES = ("*.nii.gz", "*.nii")


def main(
    bundles: str | Sequence[str],
    data: str,
    *,
    checkpoint: str | None = None,
    overlay: str | None = None,
    app: str | None = None,
    fresh: bool = False,
    host: str = "127.0.0.1",
    port: int = 8000,
    **options: Any,
) -> None:
    """Serve bundles to 3D Slicer, OHIF or any program that speaks REST, until it is stopped with Ctrl-C.

    A copy of each bundle is served. What is trained over REST stays in the application's folder, and is served again
    by the same command.

    Args:
        bundles: a name of this repository's, or the folder of an export; several with commas between them.
        data: folder of NIfTI images, one file a scan (several modalities as one 4D file), or the address of a DICOMweb
            server.
        checkpoint: weights of the bundle; left out, those trained here last, else its models/model.pt.
        overlay: a configuration with which the checkpoint was trained, such as demo.
        app: the application's folder; default label/apps/BUNDLES in the repository.
        fresh: begin with the bundle's weights again, not with those trained here.
        host: address to listen at; 0.0.0.0 lets other machines in, and MONAI Label asks nobody for a password.
        port: to listen at.
        options: any option of the bundle with which the checkpoint was trained, such as filters.
    """
    folders = _folders(names_in(bundles))
    if len(folders) > 1 and (checkpoint or overlay or options):
        raise InputError("--checkpoint, --overlay and options of a model are for one bundle: export the others first.")
    studies = _studies(str(data))
    _require_free(str(host), whole("--port", port))
    here = Path(app).absolute() if app else ROOT / "label" / "apps" / "+".join(folder.name for folder in folders)
    model = Path(str(checkpoint)).absolute() if checkpoint else None
    served = [Served(folder, model, overlay, options, bool(fresh)) for folder in folders]
    for one in served:
        weights_of(here, one)  # before anything is written
    make_application(here)
    for one in served:
        print(f"{one.folder.name}: weights of {put_bundle(here, one)}", flush=True)
    print(f"http://{host}:{port} serves {studies}; what is trained stays in {here}", flush=True)
    _become_server(here, studies, [folder.name for folder in folders], str(host), port)


def _folders(names: Sequence[str]) -> list[Path]:
    folders = [_folder(name) for name in names]
    twice = {folder.name for folder in folders if [one.name for one in folders].count(folder.name) > 1}
    if twice:
        raise InputError(f"{', '.join(sorted(twice))}: given twice; of each name one bundle can be served.")
    return folders


def _folder(name: str) -> Path:
    """Folder of a bundle of the repository, or of an export."""
    if (Path(name) / "configs" / "metadata.json").is_file():
        return Path(name).absolute()
    if os.sep in name:
        raise InputError(f"{name}: no bundle is there; give the folder of an export, with configs/metadata.json in it.")
    return bundle(name).folder


def _studies(data: str) -> str:
    """The data as the server takes them."""
    if data.startswith(("http://", "https://")):
        return data
    if not data:
        raise InputError("no images: give the folder that holds them, make label-server BUNDLE=NAME DATA=FOLDER.")
    folder = Path(data).absolute()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of the images.")
    if not any(True for pattern in _IMAGES for _ in folder.glob(pattern)):
        raise InputError(
            f"{folder}: has no image ({', '.join(_IMAGES)}); put them there, one file a scan, or see "
            "`python -m tools.label_studies --help`."
        )
    return str(folder)


def _require_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise InputError(f"{host}:{port} cannot be listened at ({error}): choose another --port.") from None


def _become_server(app: Path, studies: str, names: Sequence[str], host: str, port: int) -> None:
    """Go on as MONAI Label, which takes Ctrl-C and signals then."""
    conf = {"models": ",".join(names), "zoo_source": "local", "sam2": "false"}
    words = [sys.executable, "-W", "ignore", "-m", "monailabel.main", "start_server", "--app", str(app)]
    words += ["--studies", studies, "--host", host, "--port", str(port)]
    for key, value in conf.items():
        words += ["--conf", key, value]
    os.chdir(app)  # so that an export finds its own custom_nets, and not the repository's
    os.execve(sys.executable, words, _environment(app, names))


def _environment(app: Path, names: Sequence[str]) -> dict[str, str]:
    environment = {**os.environ, "MONAI_LABEL_SESSION_PATH": str(app / "sessions")}
    environment.setdefault("MONAI_LABEL_DICOMWEB_SEARCH_FILTER", '{"Modality": "MR"}')  # MONAI Label's own is CT
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])  # torchrun
    if not all((app / "model" / name / "custom_nets").is_dir() for name in names):
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
    return environment


if __name__ == "__main__":
    run(main)
