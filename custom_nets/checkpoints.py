# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: reading files safely, published weights to ours, and loading with every disagreement named."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from custom_nets.errors import InputError
from custom_nets.files import written_whole
from custom_nets.nets.rsanet import RSANet

StateDict = dict[str, Tensor]

#: Names under which training scripts wrap a state dict.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")

#: The first two bytes of what `torch.save` writes: a zip archive, or a pickle (before PyTorch 1.6).
_BEGINNINGS = (b"PK", b"\x80\x02")


def read_checkpoint(path: str | Path, trust: bool = False) -> Any:
    """Read what `torch.save` wrote to ``path``, without unpickling anything but tensors and plain containers.

    Args:
        path: the file.
        trust: also unpickle whole Python objects, which runs the code that the file holds.

    Raises:
        InputError: for a missing, truncated or foreign file, or one that needs ``trust``.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint file; check the path, or train first.")
    with path.open("rb") as file:
        if file.read(2) not in _BEGINNINGS:
            raise InputError(f"{path}: is no PyTorch checkpoint; give a file that torch.save wrote.")
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust)
    except Exception as error:  # damaged pickles raise whatever their bytes happen to mean
        raise InputError(f"{path}: {_complaint(error, trust)}") from error


def _complaint(error: Exception, trust: bool) -> str:
    if isinstance(error, UnpicklingError) and not trust:
        return (
            f"holds Python objects besides tensors ({first_line(error)}). If you trust its author, convert it with "
            "`python -m tools.convert_checkpoint NAME FILE OUT.pt --trust`, which runs code from the file."
        )
    if isinstance(error, AttributeError | ImportError):
        return (
            f"holds objects of a program that is not installed here ({first_line(error)}). Run the conversion where "
            "that program can be imported, or have the file's author save a plain state dict."
        )
    return (
        f"cannot be read as a checkpoint ({first_line(error)}); the file is cut off, or torch.save did not write it. "
        "Copy or download it again."
    )


def first_line(error: BaseException) -> str:
    """The first sentence of an error's text, or its class where there is none."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].split(". ")[0]


def unwrap(content: Any, source: str = "the checkpoint") -> StateDict:
    """Return the state dict in ``content``: bare, a module, under one of `WRAPPERS`.

    The prefixes of data-parallel and compiled networks (`module.`, `_orig_mod.`) are taken off.

    Raises:
        InputError: when there is none.
    """
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if isinstance(content, Mapping):
        for wrapper in WRAPPERS:
            if isinstance(content.get(wrapper), Mapping | nn.Module):
                return unwrap(content[wrapper], source)
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        found = (
            f"a mapping with {sorted(map(str, content))[:5]}"
            if isinstance(content, Mapping)
            else type(content).__name__
        )
        raise InputError(
            f"{source}: no state dict found, but {found}; expected tensors by name, bare or under {WRAPPERS}."
        )
    return {re.sub(r"^((module|_orig_mod)\.)+", "", name): value for name, value in content.items()}


def disagreements(state_dict: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """List, a line each, every name of ``state_dict`` that is missing, unexpected or of another shape."""
    lines = [f"missing     {name} {list(expected[name].shape)}" for name in expected if name not in state_dict]
    lines += [f"unexpected  {name} {list(state_dict[name].shape)}" for name in state_dict if name not in expected]
    lines += [
        f"mis-shaped  {name}: found {list(value.shape)}, expected {list(expected[name].shape)}"
        for name, value in state_dict.items()
        if name in expected and value.shape != expected[name].shape
    ]
    return lines


def require_same(state_dict: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str, network: str) -> None:
    """Refuse a state dict that is not one of ``network``.

    Raises:
        InputError: naming every missing, unexpected and mis-shaped entry.
    """
    lines = disagreements(state_dict, expected)
    if lines:
        raise InputError(
            f"{source}: is no checkpoint of this {network}: {len(lines)} of {len(expected)} entries disagree. "
            "Give the checkpoint of the same network, or the network_def it was trained with.\n  " + "\n  ".join(lines)
        )


def bare(network: nn.Module) -> nn.Module:
    """The network inside DistributedDataParallel or a compiled wrapper."""
    network = getattr(network, "module", network)
    return getattr(network, "_orig_mod", network)


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load the weights in ``path`` (`models/model.pt`, or `models/last.pt` of a run) into ``network``, strictly.

    Raises:
        InputError: for a file that cannot be read, or is no checkpoint of this network.
    """
    state_dict = unwrap(read_checkpoint(path), str(path))
    network = bare(network)
    require_same(state_dict, network.state_dict(), str(path), type(network).__name__)
    network.load_state_dict(state_dict)


def save_weights(state_dict: Mapping[str, Tensor], path: str | Path) -> None:
    """Write a bare state dict, whole or not at all."""
    with written_whole(path) as temporary:
        torch.save(dict(state_dict), temporary)


def from_official(name: str, state_dict: Mapping[str, Any], **options: Any) -> StateDict:
    """Turn a published state dict into one that loads with ``strict=True`` into our network.

    Args:
        name: which network; a key of `OFFICIAL`.
        state_dict: published names; may be wrapped (`WRAPPERS`) and prefixed with `module.`.
        options: constructor arguments of the network where they are not its defaults. Channel numbers and batch norm
            are read from the shapes.

    Returns:
        The state dict of our network; the tensors are shared with the input.

    Raises:
        InputError: for an unknown name, or a state dict of another network (all disagreements are listed).
    """
    if name not in OFFICIAL:
        raise InputError(f"'{name}': no published checkpoint of this name is known; choose one of {sorted(OFFICIAL)}.")
    return OFFICIAL[name](unwrap(state_dict), **options)


def rename(state_dict: StateDict, rules: Mapping[str, str]) -> StateDict:
    """Apply regular-expression ``rules`` to the names, in their order."""
    renamed = {}
    for name, value in state_dict.items():
        for pattern, replacement in rules.items():
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


_RSANET_NAMES = {
    r"^init_conv\.": "stem.0.",
    r"^conv(\d)\.layer\.(layer\.)?": r"encoder\1.",
    r"^down(\d)\.(down|layer)\.(layer\.)?": r"down\1.",
    r"^center\.layer\.(layer\.)?": "bottleneck.",
    r"^up_concat(\d)\.up\.up\.": r"decoder\1.up.",
    r"^up_concat(\d)\.conv\.layer\.(layer\.)?": r"decoder\1.block.",
    r"^final\.0\.": "head.convolve.",
    r"^final\.1\.": "head.classify.",
    r"^rsa_block\.": "attention.",
}


def _rsanet(state_dict: StateDict, **options: Any) -> StateDict:
    """Names of RSANet's authors to ours; a plain U-Net's checkpoint gets a fresh attention block with β = 0."""
    state_dict = rename(state_dict, _RSANET_NAMES)
    options = _rsanet_options(state_dict) | options
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            network = RSANet(**options)
        except (TypeError, ValueError) as error:
            raise InputError(f"the options {options} make no RSANet: {error}") from error
    if not any(name.startswith("attention") for name in state_dict):
        fresh = {name: value for name, value in network.state_dict().items() if name.startswith("attention")}
        state_dict = state_dict | fresh
    require_same(state_dict, network.state_dict(), "the published state dict", "RSANet")
    return state_dict


def _rsanet_options(state_dict: StateDict) -> dict[str, Any]:
    """Constructor arguments that the shapes tell.

    The widths are those of the network's only if its convolutions and norms agree on them: else some shape is wrong,
    and the comparison with the default network names it.
    """
    options: dict[str, Any] = {}
    shapes = {name: list(value.shape) for name, value in state_dict.items()}
    levels = ("encoder1", "encoder2", "encoder3", "encoder4", "bottleneck")
    norms = [shapes.get(f"{level}.0.norm.weight", []) for level in levels]
    convolutions = [shapes.get(f"{level}.1.conv.weight", []) for level in levels]
    if all(len(n) == 1 and n == c[:1] for n, c in zip(norms, convolutions, strict=True)):
        options["filters"] = [width for (width,) in norms]
    for option, name, axis in (("in_channels", "stem.0.weight", 1), ("out_channels", "head.classify.weight", 0)):
        if len(shapes.get(name, [])) == 5:
            options[option] = shapes[name][axis]
    if any(name.endswith("running_mean") for name in state_dict):
        options["norm"] = "BN"
    return options


#: Published checkpoints that can be converted: name -> function of the unwrapped state dict.
OFFICIAL: dict[str, Callable[..., StateDict]] = {"rsanet": _rsanet}
