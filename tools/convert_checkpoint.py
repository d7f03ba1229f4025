# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.convert_checkpoint NAME FILE OUT.pt`: weights of a paper's authors, for our network and bundle."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_nets.errors import InputError
from custom_nets.registry import available
from tools._command import run


def convert(name: str, file: str, out: str, *, trust: bool = False, **options: Any) -> None:
    """Convert a published checkpoint into one that the bundle's network loads with strict=True.

    FILE may be a bare state dict, one under state_dict, model_state_dict, model or net, with names that begin with
    `module.`, or a pickled module: of zoom_resunet's authors as it is if PyTorch 1.6 or later wrote it, else with
    --trust. Whatever does not fit is listed, and nothing is written.

    Args:
        name: which published network, for example rsanet.
        file: the checkpoint as its authors' code saved it.
        out: the file to write, a bare state dict; the bundle takes it as models/model.pt.
        trust: read Python objects besides tensors too. This runs code from the file: trust its author first.
        options: arguments of the network where they are not those of the bundle's network_def, for example
            --in_channels 1 --norm BN. For s2anet also --slice_order ascending or centre_first, the order in which FILE
            concatenates slices, where nothing in it tells.
    """
    from custom_nets.checkpoints import (
        OFFICIAL,
        classes_of,
        file_options_of,
        from_official,
        read_checkpoint,
        save_weights,
        told_options,
        unwrap,
    )

    source, target = Path(str(file)), Path(str(out))
    if name not in OFFICIAL:
        raise InputError(f"'{name}': no published checkpoint of this name is known; choose one of {sorted(OFFICIAL)}.")
    if not isinstance(trust, bool):
        raise InputError(f"--trust {trust}: takes no value; put it behind the files.")
    if target.suffix != ".pt" or target.is_dir() or target.resolve() == source.resolve():
        raise InputError(f"{target}: give a file to write that ends in .pt and is not the one to read.")
    content = read_checkpoint(source, trust, classes_of(name))
    published = unwrap(content, str(source))
    state_dict = from_official(name, published, **options)
    of_network = {key: value for key, value in options.items() if key not in file_options_of(name)}
    checked = _check(name, state_dict, source, of_network, told_options(name, published))
    try:
        save_weights(state_dict, target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error}); give another place.") from error
    parameters = sum(value.numel() for value in state_dict.values())
    print(f"wrote {target}: {len(state_dict)} entries, {parameters:,} numbers; {checked}")


def _check(name: str, state_dict: dict[str, Any], source: Path, options: dict[str, Any], told: dict[str, Any]) -> str:
    """Compare with the network that the bundle's train.json defines, changed by the options; say what was compared.

    A refusal names the options that the file tells otherwise.
    """
    bundle = available().get(name)
    if bundle is None:
        return "it loads with strict=True"
    from monai.bundle import ConfigParser

    from custom_nets.checkpoints import require_same

    parser = ConfigParser()
    parser.read_config(bundle.folder / "configs" / "train.json")
    for option, value in options.items():
        parser[f"network_def::{option}"] = value
    network = parser.get_parsed_content("network_def")
    others = {option: value for option, value in told.items() if _differs(_defined(parser, network, option), value)}
    what = f"name what differs as --option value{f', here{_typed(others)}' if others else ''}"
    hint = "" if options and not others else f", as its network_def is; {what}"
    require_same(state_dict, network.state_dict(), str(source), f"{type(network).__name__} of bundle {name}{hint}")
    changed = f" with{_typed(options)}" if options else ""
    return f"it loads with strict=True into the network of bundle {name}{changed}"


def _defined(parser: Any, network: Any, option: str) -> Any:
    """What network_def gives an option, or else the network's default."""
    key = f"network_def::{option}"
    if key in parser:
        return parser.get_parsed_content(key)
    return inspect.signature(type(network)).parameters[option].default


def _differs(defined: Any, told: Any) -> bool:
    """Whether they are two values; three equal numbers in a list are the one number, a tuple is a list."""
    if isinstance(defined, Sequence) and isinstance(told, int):
        return any(value != told for value in defined)
    return (list(defined) if isinstance(told, tuple) else defined) != (list(told) if isinstance(told, tuple) else told)


def _typed(options: dict[str, Any]) -> str:
    """The options as one types them, a space before each."""
    values = {key: ",".join(map(str, v)) if isinstance(v, list | tuple) else v for key, v in options.items()}
    return "".join(f" --{option} {value}" for option, value in values.items())


if __name__ == "__main__":
    run(convert)
