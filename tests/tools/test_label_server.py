# SPDX-License-Identifier: Apache-2.0
"""What `make label-server` refuses, and the application's folder that it makes; the server itself: tests_label."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch

from custom_nets.checkpoints import save_weights
from custom_nets.errors import InputError
from custom_nets.registry import ROOT, available
from tests_label.small_bundles import OPTIONS, make_bundle
from tools import _label_app, label_server
from tools._command import run
from tools._label_app import Served, put_bundle


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "scan.nii.gz").touch()
    return tmp_path / "studies"


@pytest.fixture(autouse=True)
def _never_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "execve", lambda *words: pytest.fail("a server was started"))


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as stop:
        run(label_server.main, [str(word) for word in words])
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    return told


@pytest.mark.parametrize(
    ("bundles", "said"),
    [
        ("no_such", "bundle 'no_such' is unknown: choose one of"),
        ("no/such", "no/such: no bundle is there"),
        ("rsanet,rsanet", "rsanet: given twice"),
    ],
)
def test_bundles_that_cannot_be_served(
    bundles: str, said: str, studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refusal(capsys, bundles, studies)


def test_data_that_cannot_be_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "DATA=FOLDER" in refusal(capsys, "rsanet", "")
    assert "gone: no such folder" in refusal(capsys, "rsanet", tmp_path / "gone")
    (tmp_path / "scan.dcm").touch()
    assert "has no image (*.nii.gz, *.nii)" in refusal(capsys, "rsanet", tmp_path)


def test_without_weights_nothing_is_written(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "rsanet", studies, "--app", tmp_path / "app", "--port", free_port(), "--checkpoint", tmp_path / "gone.pt"
    assert "gone.pt: no such model; train the bundle first" in refusal(capsys, *words)
    assert not (tmp_path / "app").exists()


def test_options_of_one_model_are_not_for_several(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "are for one bundle" in refusal(capsys, "rsanet,s2anet", studies, "--checkpoint=model.pt")


def test_a_port_in_use(studies: Path, taken_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"127.0.0.1:{taken_port} cannot be listened at" in refusal(capsys, "rsanet", studies, "--port", taken_port)


def test_without_monai_label(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def not_there(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(_label_app, "files", not_there)
    words = make_bundle("rsanet", tmp_path), studies, "--app", tmp_path / "app", "--port", free_port()
    assert "make label-environment" in refusal(capsys, *words)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_nothing_of_the_users_is_overwritten(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = make_bundle("rsanet", tmp_path / "model")
    words = copy, studies, "--app", tmp_path, "--port", free_port()
    assert "is no application of MONAI Label" in refusal(capsys, *words)
    with pytest.raises(InputError, match="is the copy that is served"):
        put_bundle(tmp_path, Served(copy))
    assert (copy / "configs" / "train.json").is_file()


def test_the_server_that_is_started(tmp_path: Path, studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, app = make_bundle("rsanet", tmp_path / "bundles"), tmp_path / "app"
    started: list[tuple[Any, ...]] = []
    monkeypatch.setattr(label_server, "make_application", lambda app: None)
    monkeypatch.setattr(os, "execve", lambda *words: started.append(words))
    monkeypatch.chdir(tmp_path)
    port = free_port()
    run(label_server.main, [str(bundle), str(studies), "--app", str(app), "--port", str(port)])
    [(_, words, environment)] = started
    assert Path.cwd() == app
    assert " ".join(words).endswith(
        f" monailabel.main start_server --app {app} --studies {studies} --host 127.0.0.1 --port {port} "
        "--conf models rsanet --conf zoo_source local --conf sam2 false"
    )
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
    assert environment["MONAI_LABEL_SESSION_PATH"] == str(app / "sessions")


@pytest.mark.parametrize("name", sorted(available()))
def test_a_bundle_in_the_application(name: str, tmp_path: Path) -> None:
    """Its options, the weights that its network takes, and values of labels as 3D Slicer numbers them."""
    trained = make_bundle(name, tmp_path / "trained") / "models" / "model.pt"
    wrapped = tmp_path / "wrapped.pt"
    torch.save({"state_dict": torch.load(trained, weights_only=True)}, wrapped)
    folder = available()[name].folder
    assert put_bundle(tmp_path, Served(folder, checkpoint=wrapped, options=OPTIONS[name])) == wrapped
    served = tmp_path / "model" / name
    assert torch.load(served / "models" / "model.pt", weights_only=True).keys() == torch.load(trained).keys()
    metadata = json.loads((served / "configs" / "metadata.json").read_text(encoding="utf-8"))
    labels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert [int(value) for value in labels] == list(range(len(labels)))
    for workflow in ("train", "inference"):
        config = json.loads((served / "configs" / f"{workflow}.json").read_text(encoding="utf-8"))
        assert config["patch_size"] == OPTIONS[name]["patch_size"]


def test_labels_of_another_graph_have_the_values_of_its_files(tmp_path: Path) -> None:
    options = {**OPTIONS["spineparsenet"], "label_graph": "spider"}
    bundle = make_bundle("spineparsenet", tmp_path / "bundles", options)
    put_bundle(tmp_path, Served(bundle, options=options))
    metadata = json.loads((tmp_path / "model" / "spineparsenet" / "configs" / "metadata.json").read_text("utf-8"))
    labels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert (labels["9"], labels["100"], labels["201"]) == ("T9", "spinal canal", "L5/S1")
    assert "10" not in labels


def test_what_was_trained_is_served_again(tmp_path: Path) -> None:
    bundle = make_bundle("rsanet", tmp_path / "bundles")
    models = tmp_path / "model" / "rsanet" / "models"
    put_bundle(tmp_path, Served(bundle))
    trained = {name: value + 1 for name, value in torch.load(models / "model.pt", weights_only=True).items()}
    save_weights(trained, models / "model.pt")
    save_weights(trained, models / "last.pt")
    assert put_bundle(tmp_path, Served(bundle)) == models / "model.pt"
    assert _same(models / "model.pt", trained)
    assert [path.name for path in models.glob("*.pt")] == ["model.pt"], "MONAI Label would take the shortest name"
    for again in (Served(bundle, fresh=True), Served(bundle, checkpoint=bundle / "models" / "model.pt")):
        save_weights(trained, models / "model.pt")
        assert put_bundle(tmp_path, again) == bundle / "models" / "model.pt"
        assert not _same(models / "model.pt", trained)
        assert _same(models / "earlier" / "model.pt", trained)


def _same(path: Path, weights: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, weights[name]) for name, value in torch.load(path, weights_only=True).items())


def test_weights_that_would_be_ignored_are_refused(tmp_path: Path) -> None:
    """MONAI Label would serve random ones in their place."""
    bundle = make_bundle("rsanet", tmp_path / "bundles")
    other = make_bundle("zoom_resunet", tmp_path / "bundles") / "models" / "model.pt"
    with pytest.raises(InputError, match="is no checkpoint of this RSANet"):
        put_bundle(tmp_path, Served(bundle, checkpoint=other))
    with pytest.raises(InputError, match="no such model; train the bundle first"):
        put_bundle(tmp_path, Served(bundle, checkpoint=tmp_path / "gone.pt"))
    with pytest.raises(InputError, match="--filter: is no option of this bundle; did you mean --filters"):
        put_bundle(tmp_path, Served(bundle, options={"filter": [1]}))
