# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints become ours in every form that people save them in; everything else is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from custom_nets.checkpoints import (
    OFFICIAL,
    WRAPPERS,
    from_official,
    load_weights,
    read_checkpoint,
    save_weights,
    unwrap,
)
from custom_nets.errors import InputError
from custom_nets.nets.rsanet import RSANet
from tests.recipe import recipe_state
from tests.reference import rsanet as reference
from tools._command import run
from tools.convert_checkpoint import convert

StateDict = dict[str, Tensor]


class Narrow(reference.RSANet):
    """The published network with few channels; a class of its own for pickled modules."""


def published(monkeypatch: pytest.MonkeyPatch, **options: Any) -> reference.RSANet:
    monkeypatch.setattr(reference, "WIDTHS", (8, 8, 16, 16, 32))
    return Narrow(**options)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> reference.RSANet:
    return published(monkeypatch)


@pytest.fixture
def state(module: reference.RSANet) -> StateDict:
    return module.state_dict()


def command(*arguments: str) -> None:
    run(convert, [str(argument) for argument in arguments])


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    with pytest.raises(SystemExit) as stop:
        command(*arguments)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize(
    ("options", "ours"),
    [
        ({}, {}),
        ({"in_channels": 1, "out_channels": 4}, {"in_channels": 1, "out_channels": 4}),
        ({"groups": None}, {"norm": "BN"}),
        ({"groups": 4}, {"norm": "GN_4"}),
        ({"rsa": False}, {}),
    ],
    ids=str,
)
def test_round_trip_is_strict_and_keeps_every_value(
    options: dict[str, Any], ours: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = recipe_state(published(monkeypatch, **options))
    told = {key: value for key, value in ours.items() if value == "GN_4"}  # the groups do not show in the shapes
    converted = from_official("rsanet", state, **told)
    network = RSANet(filters=(8, 8, 16, 16, 32), **ours)
    network.load_state_dict(converted, strict=True)
    for name, value in zip(state.values(), converted.values(), strict=False):
        assert torch.equal(name, value)
    if options.get("rsa", True):
        assert len(converted) == len(state)
    else:
        fresh = list(converted)[len(state) :]
        assert all(name.startswith("attention.") for name in fresh)
        assert all(converted[name] == 0 for name in fresh if ".betas." in name)


def test_a_plain_unet_becomes_an_rsanet_of_the_same_function(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = published(monkeypatch, rsa=False).eval()
    network = RSANet(filters=(8, 8, 16, 16, 32)).eval()
    network.load_state_dict(from_official("rsanet", plain.state_dict()))
    x = torch.randn(1, 3, 7, 18, 33, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(x), plain(x), atol=1e-5, rtol=1e-5)
    assert from_official("rsanet", plain.state_dict()).keys() == network.state_dict().keys()
    fresh = []
    for seed in (1, 2):  # the fresh block is the same whatever was drawn before, and takes nothing from the generator
        torch.manual_seed(seed)
        random_state = torch.get_rng_state()
        fresh.append(from_official("rsanet", plain.state_dict())["attention.g_conv.weight"])
        assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(*fresh)


FORMS: dict[str, Callable[[StateDict], Any]] = {
    "bare": lambda state: state,
    "old format": lambda state: state,
    **{wrapper: (lambda state, wrapper=wrapper: {wrapper: state, "epoch": 7}) for wrapper in WRAPPERS},
    "module.": lambda state: {f"module.{name}": value for name, value in state.items()},
    "compiled": lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
    "wrapped module.": lambda state: {"net": {f"module.{name}": value for name, value in state.items()}},
    "wrapped twice": lambda state: {"state_dict": {"model": state}},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_is_read(
    form: Callable[[StateDict], Any], state: StateDict, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    zipped = request.node.callspec.id != "old format"
    torch.save(form(state), tmp_path / "theirs.pth", _use_new_zipfile_serialization=zipped)
    command("rsanet", tmp_path / "theirs.pth", tmp_path / "out" / "ours.pt", "--filters", "[8,8,16,16,32]")
    network = RSANet(filters=(8, 8, 16, 16, 32))
    load_weights(network, tmp_path / "out" / "ours.pt")
    assert torch.equal(network.stem[0].weight, state["init_conv.weight"])
    assert from_official("rsanet", form(state)).keys() == network.state_dict().keys()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["ours.pt"]


def test_the_published_size_fits_the_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(reference.RSANet().state_dict(), tmp_path / "theirs.pth")
    command("rsanet", tmp_path / "theirs.pth", tmp_path / "ours.pt")
    assert "24,554,339 numbers; it loads with strict=True into the network of bundle rsanet" in capsys.readouterr().out
    RSANet().load_state_dict(torch.load(tmp_path / "ours.pt", weights_only=True))


@pytest.mark.parametrize("wrapped", [False, True])
def test_pickled_modules_need_trust(
    module: reference.RSANet, wrapped: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "theirs.pth", tmp_path / "ours.pt"
    torch.save({"model": nn.DataParallel(module)} if wrapped else module, file)
    message = refused(capsys, "rsanet", file, out)
    assert str(file) in message
    assert "--trust" in message
    assert not out.exists()
    command("rsanet", file, out, "--trust", "--filters=[8,8,16,16,32]")
    assert len(unwrap(read_checkpoint(out))) == 74


def truncated(state: StateDict, file: Path) -> None:
    torch.save(state, file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


BROKEN: dict[str, tuple[Callable[[StateDict, Path], Any], str]] = {
    "missing": (lambda state, file: None, "no such checkpoint file"),
    "folder": (lambda state, file: file.mkdir(), "no such checkpoint file"),
    "truncated": (truncated, "the file is cut off"),
    "garbage": (lambda state, file: file.write_bytes(b"\x80\x02epoch"), "the file is cut off"),
    "empty": (lambda state, file: file.touch(), "is no PyTorch checkpoint"),
    "text": (lambda state, file: file.write_text("epoch,dice\n1,0.5\n"), "is no PyTorch checkpoint"),
    "other content": (lambda state, file: torch.save({"epoch": 3}, file), r"no state dict found, but a mapping with"),
    "list": (lambda state, file: torch.save([1, 2], file), "no state dict found, but list"),
    "tensor": (lambda state, file: torch.save(torch.zeros(3), file), "no state dict found, but Tensor"),
    "empty dict": (lambda state, file: torch.save({}, file), "no state dict found"),
}


@pytest.mark.parametrize(("write", "message"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("options", [[], ["--trust"]], ids=str)
def test_broken_files_are_named(
    write: Callable[[StateDict, Path], Any],
    message: str,
    options: list[str],
    state: StateDict,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "theirs.pth"
    write(state, file)
    found = refused(capsys, "rsanet", file, tmp_path / "ours.pt", *options)
    assert message in found
    assert str(file) in found
    assert not (tmp_path / "ours.pt").exists()


class Vanishing(nn.Module):
    pass


def test_a_module_of_a_program_that_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(Vanishing(), tmp_path / "theirs.pth")
    monkeypatch.delattr(f"{__name__}.Vanishing")
    message = refused(capsys, "rsanet", tmp_path / "theirs.pth", tmp_path / "ours.pt", "--trust")
    assert "a program that is not installed here" in message
    assert "Vanishing" in message


def test_other_networks_and_wrong_shapes_list_every_name(state: StateDict) -> None:
    with pytest.raises(InputError) as other:
        from_official("rsanet", nn.Sequential(nn.Conv3d(1, 2, 1)).state_dict())
    assert "unexpected  0.weight [2, 1, 1, 1, 1]" in str(other.value)
    assert "missing     decoder1.block.1.norm.bias [32]" in str(other.value)
    wrong = dict(state)
    del wrong["down2.down.weight"]
    wrong["extra"] = torch.zeros(2)
    wrong["rsa_block.betas.0"] = torch.zeros(1)
    wrong["final.1.weight"] = torch.zeros(2, 4, 1, 1, 1)
    with pytest.raises(InputError) as mixed:
        from_official("rsanet", wrong)
    assert str(mixed.value).splitlines()[1:] == [
        "  missing     down2.weight [8, 8, 3, 3, 3]",
        "  unexpected  extra [2]",
        "  mis-shaped  head.classify.weight: found [2, 4, 1, 1, 1], expected [2, 8, 1, 1, 1]",
        "  mis-shaped  attention.betas.0: found [1], expected []",
    ]


@pytest.mark.parametrize("shape", [(), (60,), (64, 3)], ids=str)
@pytest.mark.parametrize(
    ("key", "ours"),
    [("conv2.layer.layer.0.norm.weight", "encoder2.0.norm.weight"), ("center.layer.layer.1.conv.weight", "bottleneck")],
)
def test_one_wrong_shape_of_the_default_network_is_one_line(key: str, ours: str, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        state = reference.RSANet().state_dict() | {key: torch.zeros(shape)}
    with pytest.raises(InputError, match=f"1 of 74 entries disagree(.|\n)*mis-shaped  {ours}"):
        from_official("rsanet", state)


@pytest.mark.parametrize("key", ["init_conv.weight", "final.1.weight"])
def test_input_and_output_weights_of_a_wrong_rank(key: str, state: StateDict) -> None:
    with pytest.raises(InputError, match="1 of 74 entries disagree"):
        from_official("rsanet", state | {key: torch.zeros(())})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nnunet", "{file}", "{out}"], "'nnunet': no published checkpoint of this name is known; choose one of "),
        (["rsanet", "{file}", "{file}"], "give a file to write that ends in .pt and is not the one to read"),
        (["rsanet", "{file}", "{out}x"], "give a file to write that ends in .pt"),
        (["rsanet", "{file}", "{file}/ours.pt"], "cannot be written"),
        (["rsanet", "{file}", "{out}", "--norm", "GN_7"], "8 channels do not divide into 7 groups"),
        (["rsanet", "{file}", "{out}", "--width", "3"], "unexpected keyword argument 'width'"),
        (["rsanet", "{file}", "{out}", "--in_channels", "1"], "mis-shaped  stem.0.weight"),
        (["rsanet", "{file}", "{out}"], "of bundle rsanet, as its network_def is; name what differs as --option"),
    ],
    ids=str,
)
def test_wrong_command_lines(
    arguments: list[str], message: str, state: StateDict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "theirs.pt", tmp_path / "ours.pt"
    torch.save(state, file)
    narrow = [] if len(arguments) == 3 and "/ours" not in arguments[2] else ["--filters=[8,8,16,16,32]"]
    assert message in refused(capsys, *(a.format(file=file, out=out) for a in arguments), *narrow)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.pt"]


def test_names_known_are_the_promised_ones() -> None:
    assert set(OFFICIAL) == {
        "rsanet",
        "zoom_resunet",
        "s2anet",
        "s2ca_net",
        "spineparsenet.coarse",
        "spineparsenet.fine",
    }
    with pytest.raises(InputError, match=r"'unet': no published checkpoint .* choose one of \['rsanet'"):
        from_official("unet", {})


def test_load_weights_takes_runs_and_wrapped_networks_and_refuses_others(tmp_path: Path) -> None:
    network = RSANet(filters=(8, 8, 16, 16, 32))
    save_weights(network.state_dict(), tmp_path / "model.pt")
    torch.save({"model": network.state_dict(), "optimizer": {"lr": 0.1}, "epoch": 3}, tmp_path / "last.pt")
    for file in ("model.pt", "last.pt"):
        twin = nn.DataParallel(RSANet(filters=(8, 8, 16, 16, 32)))
        load_weights(twin, tmp_path / file)
        assert torch.equal(twin.module.head.classify.weight, network.head.classify.weight)
    with pytest.raises(InputError, match=r"model\.pt: is no checkpoint of this RSANet: .* entries disagree"):
        load_weights(RSANet(filters=(8, 8, 8, 16, 32)), tmp_path / "model.pt")
