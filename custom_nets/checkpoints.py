# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: reading files safely, published weights to ours, and loading with every disagreement named."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from custom_nets.errors import InputError
from custom_nets.files import written_whole
from custom_nets.pickled_modules import standing_in

_logger = logging.getLogger(__name__)

StateDict = dict[str, Tensor]

#: Names under which training scripts wrap a state dict.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")

#: The first two bytes of what `torch.save` writes: a zip archive, or a pickle (before PyTorch 1.6).
_BEGINNINGS = (b"PK", b"\x80\x02")

#: What a NumPy number is pickled with; training scripts keep their best score as one.
_NUMBERS: list[Any] = [
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]


def read_checkpoint(path: str | Path, trust: bool = False, classes: Sequence[str] = ()) -> Any:
    """Read what `torch.save` wrote to ``path``, without unpickling anything but tensors and plain containers.

    Args:
        path: the file.
        trust: also unpickle whole Python objects, which runs the code that the file holds.
        classes: full names of network classes, as "model.UNet3D", that the file may hold and that are not installed.
            Empty modules stand in for them, so that such a file, if it was written by PyTorch 1.6 or later, is read
            without ``trust``; its state dict is what counts.

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
        with standing_in(classes), torch.serialization.safe_globals(_NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=not trust)
    except Exception as error:  # damaged pickles raise whatever their bytes happen to mean
        raise InputError(f"{path}: {_complaint(error, trust)}") from error


def _complaint(error: Exception, trust: bool) -> str:
    if isinstance(error, UnpicklingError) and not trust:
        named = re.search(r"\bGLOBAL (\S+)", str(error))
        what = named[1] if named else first_line(error)
        return (
            f"holds Python objects besides tensors ({what}). If you trust its author, convert it with "
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


def load_weights(network: nn.Module, path: str | Path, least_share: float = 1.0) -> None:
    """Load the weights in ``path`` (`models/model.pt`, or `models/last.pt` of a run) into ``network``.

    Args:
        network: changed in place.
        path: the file.
        least_share: 1 = strictly. Below 1, for a stage of training that starts from another network's model: the
            entries whose name and shape agree are copied, the others keep their values, and the log says which.

    Raises:
        InputError: for a file that cannot be read; when entries disagree, or less than ``least_share`` of the
            network's entries are found, naming each.
    """
    state_dict = unwrap(read_checkpoint(path), str(path))
    network = bare(network)
    expected, name = network.state_dict(), type(network).__name__
    lines = disagreements(state_dict, expected)
    matched = {key: value for key, value in state_dict.items() if _same_shape(value, expected.get(key))}
    if least_share == 1 or len(matched) < least_share * len(expected):
        require_same(state_dict, expected, str(path), name)
    network.load_state_dict(matched, strict=False)
    report = "".join(f"\n  {line}" for line in lines)
    _logger.info("%s: %d of %d entries of %s match%s", path, len(matched), len(expected), name, report)


def _same_shape(value: Tensor, expected: Tensor | None) -> bool:
    return expected is not None and value.shape == expected.shape


def weights_digest(network: nn.Module) -> str:
    """:func:`state_digest` of a network's state dict."""
    return state_digest(bare(network).state_dict())


def state_digest(state_dict: Mapping[str, Tensor]) -> str:
    """SHA-256 of all names, types, shapes and values of a state dict, as hexadecimal text.

    It is the same for the same weights whichever file they came from, on whichever device they are.
    """
    digest = hashlib.sha256()
    for name, value in sorted(state_dict.items()):
        value = value.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_weights(state_dict: Mapping[str, Tensor], path: str | Path) -> None:
    """Write a bare state dict, whole or not at all."""
    with written_whole(path) as temporary:
        torch.save(dict(state_dict), temporary)


#: Published checkpoints that can be converted: name -> module with a function ``convert(state_dict, **options)``.
OFFICIAL = {
    "rsanet": "custom_nets.published.rsanet",
    "s2anet": "custom_nets.published.s2anet",
    "s2ca_net": "custom_nets.published.s2ca_net",
    "spineparsenet.coarse": "custom_nets.published.gcsn",
    "spineparsenet.fine": "custom_nets.published.resunet2d",
    "zoom_resunet": "custom_nets.published.zoom_resunet",
}


def from_official(name: str, state_dict: Mapping[str, Any] | nn.Module, **options: Any) -> StateDict:
    """Turn a published state dict into one that loads with ``strict=True`` into our network.

    Args:
        name: which network; a key of `OFFICIAL`.
        state_dict: published names; may be wrapped (`WRAPPERS`) and prefixed with `module.`, or be a module.
        options: constructor arguments of the network where they are not its defaults. What the shapes tell, such as
            channel numbers, is read from them. Besides, what describes the file: :func:`file_options_of`.

    Returns:
        The state dict of our network; the tensors are shared with the input.

    Raises:
        InputError: for an unknown name, or a state dict of another network (all disagreements are listed).
    """
    if name not in OFFICIAL:
        raise InputError(f"'{name}': no published checkpoint of this name is known; choose one of {sorted(OFFICIAL)}.")
    return import_module(OFFICIAL[name]).convert(unwrap(state_dict), **options)


def classes_of(name: str) -> Sequence[str]:
    """Full names of the classes that files of the published network ``name`` hold; see :func:`read_checkpoint`."""
    return getattr(import_module(OFFICIAL[name]), "CLASSES", ())


def file_options_of(name: str) -> Sequence[str]:
    """Options of :func:`from_official` that describe a file of ``name`` and are no arguments of the network."""
    return getattr(import_module(OFFICIAL[name]), "FILE_OPTIONS", ())


def told_options(name: str, state_dict: StateDict) -> dict[str, Any]:
    """Arguments of the network that a published state dict of ``name`` tells, where its module reads them."""
    tell = getattr(import_module(OFFICIAL[name]), "network_options", None)
    return tell(state_dict) if tell else {}


def rename(state_dict: StateDict, rules: Mapping[str, str]) -> StateDict:
    """Apply regular-expression ``rules`` to the names, in their order."""
    renamed = {}
    for name, value in state_dict.items():
        for pattern, replacement in rules.items():
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed
