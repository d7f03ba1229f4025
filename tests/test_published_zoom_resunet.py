# SPDX-License-Identifier: Apache-2.0
"""Files of the 3D-ResU-Net's program, whole pickled modules of classes that are not here, become ours.

The program is played by classes made here, of the names that its files hold.
"""

from __future__ import annotations

import logging
import os
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from custom_nets.checkpoints import WRAPPERS, classes_of, from_official, load_weights, read_checkpoint, save_weights
from custom_nets.errors import InputError
from custom_nets.nets.zoom_resunet import ZoomResUNet
from tests.recipe import filled, image
from tests.reference import zoom_resunet as reference
from tools._command import run
from tools.convert_checkpoint import convert

NARROW = {"base_width": 2, "num_groups": 2}
VARIANT = {"in_channels": 2, "out_channels": 3, "use_bias": False, "base_width": 4, "num_groups": 4}
OPTIONS = ["--base_width", "2", "--num_groups", "2"]
#: Options that cannot be told from shapes, or that differ from the bundle's network_def.
VARIANT_OPTIONS = [part for key, value in VARIANT.items() for part in (f"--{key}", str(value))]


@contextmanager
def program(**more: type) -> Iterator[types.ModuleType]:
    """Let a module `model` with the published classes (and more) be importable as long as the context lasts."""
    model = types.ModuleType("model")
    classes = {
        "UNet3D": type("UNet3D", (reference.ZoomResUNet,), {"__module__": "model"}),
        "Encoder": type("Encoder", (reference.Block,), {"__module__": "model"}),
        **more,
    }
    for name, kind in classes.items():
        setattr(model, name, kind)
    with mock.patch.dict(sys.modules, {"model": model}):
        yield model


def published(model: types.ModuleType, **options: Any) -> nn.Module:
    """The published network as its program builds it: of its own classes, with layers that have no parameters."""
    network = filled(model.UNet3D(**(options or NARROW)))
    for child in network.children():
        if isinstance(child, reference.Block):
            child.__class__ = model.Encoder
    network.maxpool, network.relu = nn.MaxPool3d(2), nn.ReLU(inplace=True)
    network.names = {"ec0", "dc0b"}
    return network


def save(
    path: Path, form: Callable[[nn.Module], Any] = lambda network: network, zipped: bool = True, **options: Any
) -> Path:
    with program() as model:
        torch.save(form(published(model, **options)), path, _use_new_zipfile_serialization=zipped)
    return path


def command(*arguments: Any) -> None:
    run(convert, [str(argument) for argument in arguments])


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    with pytest.raises(SystemExit) as stop:
        command(*arguments)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "Traceback" not in message
    return message


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    before = set(sys.modules)
    yield
    assert not {name for name in set(sys.modules) - before if name.partition(".")[0] == "model"}
    allowed = torch.serialization.get_safe_globals()
    assert "model." not in str(allowed) and nn.Conv3d not in allowed and set not in allowed


def assert_converted(file: Path, options: dict[str, Any] = NARROW) -> None:
    ours = ZoomResUNet(**options).eval()
    load_weights(ours, file)
    plain = filled(reference.ZoomResUNet(**options))
    x = image((1, options.get("in_channels", 1), 9, 8, 12))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), plain(x), atol=1e-4, rtol=1e-4)


def wrapped(state: dict[str, Tensor]) -> dict[str, Any]:
    return {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}


FORMS: dict[str, Callable[[nn.Module], Any]] = {
    "module": lambda network: network,
    "state dict": lambda network: network.state_dict(),
    "module.": lambda network: {f"module.{name}": value for name, value in network.state_dict().items()},
    "wrapped module.": lambda network: wrapped(network.state_dict()),
    **{key: (lambda network, key=key: {key: network.state_dict(), "epoch": 3}) for key in WRAPPERS},
    "module in a dict": lambda network: {"model": network, "epoch": 3},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_a_zip_file_is_read_without_trust(form: Callable[[nn.Module], Any], tmp_path: Path) -> None:
    file = save(tmp_path / "net-epoch-007.pth", form)
    command("zoom_resunet", file, tmp_path / "ours.pt", *OPTIONS)
    assert_converted(tmp_path / "ours.pt")


def test_a_file_of_an_old_pytorch_needs_trust(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = save(tmp_path / "net-epoch-007.pth", zipped=False), tmp_path / "ours.pt"
    message = refused(capsys, "zoom_resunet", file, out, *OPTIONS)
    assert str(file) in message and "--trust" in message and "runs code from the file" in message
    assert not out.exists()
    command("zoom_resunet", file, out, "--trust", *OPTIONS)
    assert_converted(out)


def test_a_zip_file_is_read_with_trust_too(tmp_path: Path) -> None:
    command("zoom_resunet", save(tmp_path / "theirs.pth"), tmp_path / "ours.pt", "--trust", *OPTIONS)
    assert_converted(tmp_path / "ours.pt")


def test_the_published_size_fits_the_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = save(tmp_path / "theirs.pth", base_width=16)
    command("zoom_resunet", file, tmp_path / "ours.pt")
    assert "126 entries, 18,438,561 numbers; it loads with strict=True into the network of bundle zoom_resunet" in (
        capsys.readouterr().out
    )
    ZoomResUNet().load_state_dict(torch.load(tmp_path / "ours.pt", weights_only=True))


def test_other_options_of_the_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = save(tmp_path / "theirs.pth", **VARIANT)
    command("zoom_resunet", file, tmp_path / "ours.pt", *VARIANT_OPTIONS)
    assert_converted(tmp_path / "ours.pt", VARIANT)
    assert "mis-shaped  ec0.conv1.weight" in refused(
        capsys, "zoom_resunet", file, tmp_path / "other.pt", "--num_groups=4"
    )


def test_shapes_tell_all_options_but_the_groups() -> None:
    state = reference.ZoomResUNet(**VARIANT).state_dict()
    assert from_official("zoom_resunet", state, num_groups=4).keys() == ZoomResUNet(**VARIANT).state_dict().keys()
    for groups in (3, 0):
        with pytest.raises(InputError, match=rf"make no ZoomResUNet: .* num_groups {groups}"):
            from_official("zoom_resunet", state, num_groups=groups)
    with pytest.raises(InputError, match=r"make no ZoomResUNet: .*unexpected keyword argument 'width'"):
        from_official("zoom_resunet", state, width=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ec0.conv1.weight": None}, "missing     ec0.conv1.weight"),
        ({"extra": torch.zeros(2)}, r"1 of 126 entries disagree(.|\n)*unexpected  extra \[2\]"),
        ({"up3.0.weight": torch.zeros(3)}, r"1 of 126 entries disagree(.|\n)*mis-shaped  up3.0.weight: found \[3\]"),
        ({"dc0b.0.weight": torch.zeros(())}, r"mis-shaped  dc0b.0.weight: found \[\]"),
    ],
    ids=str,
)
def test_another_network_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with torch.device("meta"):
        state = reference.ZoomResUNet().state_dict() | change
    with pytest.raises(InputError, match=message):
        from_official("zoom_resunet", {name: value for name, value in state.items() if value is not None})


def test_the_other_bundles_network_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(nn.Sequential(nn.Conv3d(1, 2, 1)).state_dict(), tmp_path / "theirs.pth")
    message = refused(capsys, "zoom_resunet", tmp_path / "theirs.pth", tmp_path / "ours.pt")
    assert "unexpected  0.weight [2, 1, 1, 1, 1]" in message and "missing     ec0.conv1.weight" in message


def test_a_module_of_the_program_is_not_read_for_another_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, "rsanet", save(tmp_path / "theirs.pth"), tmp_path / "ours.pt")
    assert "model.UNet3D" in message and "--trust" in message


class Command:
    """What a malicious file holds: unpickled in full, it runs a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("place", ["attribute", "beside", "alone"])
def test_code_in_a_file_is_not_run(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trap = Command(tmp_path / "ran")

    def form(network: nn.Module) -> Any:
        if place == "attribute":
            network.trap = trap
            return network
        return {"model": network, "trap": trap} if place == "beside" else trap

    message = refused(capsys, "zoom_resunet", save(tmp_path / "theirs.pth", form), tmp_path / "ours.pt", *OPTIONS)
    assert "system" in message and "--trust" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs.pth"]


def test_another_class_of_the_program_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with program(Dataset=type("Dataset", (), {"__module__": "model"})) as model:
        network = published(model)
        network.data = model.Dataset()
        torch.save(network, tmp_path / "theirs.pth")
    message = refused(capsys, "zoom_resunet", tmp_path / "theirs.pth", tmp_path / "ours.pt", *OPTIONS)
    assert "model.Dataset" in message
    message = refused(capsys, "zoom_resunet", tmp_path / "theirs.pth", tmp_path / "ours.pt", "--trust", *OPTIONS)
    assert "a program that is not installed here" in message and "Dataset" in message


@pytest.mark.parametrize("trust", [False, True])
def test_a_module_of_that_name_that_is_there_is_there_again(trust: bool, tmp_path: Path) -> None:
    file = save(tmp_path / "theirs.pth")
    with program() as model:
        found = read_checkpoint(file, trust, classes_of("zoom_resunet"))
        assert sys.modules["model"] is model
        assert not isinstance(found, reference.ZoomResUNet), "an empty module stands in"
    assert len(found.state_dict()) == 126


def test_the_stand_ins_are_taken_away_after_a_failure(tmp_path: Path) -> None:
    with program(Dataset=type("Dataset", (), {"__module__": "model"})) as model:
        torch.save(model.Dataset(), tmp_path / "theirs.pth")
    for trust in (False, True):
        with pytest.raises(InputError):
            read_checkpoint(tmp_path / "theirs.pth", trust, classes_of("zoom_resunet"))


def changed(path: Path) -> dict[str, Tensor]:
    """Weights of which one is missing, one mis-shaped and one more than the network has."""
    state = {name: value + 1 for name, value in ZoomResUNet(**NARROW).state_dict().items()}
    del state["ec0.gn1.weight"]
    state["dc0b.0.bias"] = torch.zeros(7)
    save_weights(state | {"extra": torch.zeros(2)}, path)
    return state


@pytest.mark.parametrize("share", [0.5, 124 / 126])
def test_a_stage_starts_from_the_entries_that_match(
    share: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = changed(tmp_path / "model.pt")
    network = ZoomResUNet(**NARROW)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with caplog.at_level(logging.INFO):
        load_weights(network, tmp_path / "model.pt", least_share=share)
    assert "model.pt: 124 of 126 entries of ZoomResUNet match" in caplog.text
    assert "\n  missing     ec0.gn1.weight [4]" in caplog.text
    assert "\n  unexpected  extra [2]" in caplog.text
    assert "\n  mis-shaped  dc0b.0.bias: found [7], expected [1]" in caplog.text
    for name, value in network.state_dict().items():
        kept = name in ("ec0.gn1.weight", "dc0b.0.bias")
        assert torch.equal(value, before[name] if kept else state[name]), name


@pytest.mark.parametrize("share", [0.99, 1.0])
def test_too_few_entries_are_refused_and_nothing_is_changed(share: float, tmp_path: Path) -> None:
    changed(tmp_path / "model.pt")
    network = ZoomResUNet(**NARROW)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(InputError, match=r"3 of 126 entries disagree(.|\n)*mis-shaped  dc0b.0.bias: found \[7\]"):
        load_weights(network, tmp_path / "model.pt", least_share=share)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_file_of_another_network_has_no_share(tmp_path: Path) -> None:
    save_weights(nn.Conv3d(1, 2, 1).state_dict(), tmp_path / "model.pt")
    with pytest.raises(InputError, match="128 of 126 entries disagree"):
        load_weights(ZoomResUNet(**NARROW), tmp_path / "model.pt", least_share=0.1)


def test_all_entries_go_from_stage_to_stage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = ZoomResUNet(**NARROW), ZoomResUNet(**NARROW, checkpoint_full_resolution=True)
    save_weights(first.state_dict(), tmp_path / "model.pt")
    with caplog.at_level(logging.INFO):
        load_weights(second, tmp_path / "model.pt", least_share=0.9)
    assert "126 of 126 entries of ZoomResUNet match" in caplog.text
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
