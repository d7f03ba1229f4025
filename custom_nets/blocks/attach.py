# SPDX-License-Identifier: Apache-2.0
"""Put an attention block behind any submodule of any 3D network, without touching the network's code.

>>> from custom_nets.blocks.attach import attach_attention
>>> attach_attention(network, "down_layers.3", example_shape=(1, 3, 32, 32, 32))
>>> network.load_state_dict(pretrained, strict=False)  # only "rsa.*" is missing

The blocks start as the identity, so the network's output is at first the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from custom_nets.blocks.non_local import NonLocalBlock
from custom_nets.blocks.slice_attention import RSABlock

#: Name of the child that holds the attached blocks, by the kind of block.
_CHILDREN = {"rsa": "rsa", "non-local": "non_local"}
_LISTED_NAMES = 30


class AttachedBlocks(nn.ModuleDict):
    """The blocks attached to a network, a child of it: key = name of the place, dots written as two underscores."""


class BlockHook:
    """Forward hook that passes a submodule's output through a block; a class, so that copies and pickles keep it."""

    def __init__(self, block: nn.Module) -> None:
        self.block = block

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Replace the output of the submodule; the signature is PyTorch's."""
        return self.block(output)

    @property
    def __name__(self) -> str:
        """Asked for by `torch.jit.script` alone, which cannot compile the hook."""
        raise RuntimeError("attached by a hook, which TorchScript cannot script: attach it with as_wrapper=True.")


class WithAttention(nn.Module):
    """A submodule and the block behind it, as one module of one input."""

    def __init__(self, stage: nn.Module, block: nn.Module) -> None:
        super().__init__()
        self.stage = stage
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Apply the submodule, then the block."""
        return self.block(self.stage(x))


class _Calls:
    """What one submodule did in the dry run."""

    def __init__(self) -> None:
        self.outputs: list[Tensor | None] = []
        self.description = ""
        self.one_input = True

    def note(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        """Forward hook: remember shape, dtype and device of the output, not its values."""
        fits = isinstance(output, Tensor) and output.ndim == 5
        self.outputs.append(output.new_empty((0, *output.shape[1:])) if fits else None)
        shape = f" of shape {list(output.shape)}" if isinstance(output, Tensor) else ""
        self.description = f"a {type(output).__name__}{shape}"
        self.one_input = self.one_input and len(inputs) == 1 and not named and isinstance(inputs[0], Tensor)

    def place(self) -> Tensor | None:
        """The output that a block can stand behind, if there is one."""
        return self.outputs[0] if len(self.outputs) == 1 else None


def attachable_places(network: nn.Module, example_shape: Sequence[int]) -> dict[str, int]:
    """Return the submodules that a block can stand behind: dotted name -> number of channels.

    A 5-D tensor is taken for N x C x D x H x W. Transformer blocks that keep the channels last also give one; no
    program can tell, so do not attach behind those.

    Args:
        network: any network that takes one tensor.
        example_shape: N, C, D, H, W of an input that the network takes; the smaller, the quicker.

    Raises:
        ValueError: when the network does not run on such an input.
    """
    calls = _dry_run(network, example_shape)
    places = {name: calls[module].place() for name, module in _named(network)}
    return {name: output.shape[1] for name, output in places.items() if output is not None}


def attach_attention(
    network: nn.Module,
    names: str | Sequence[str],
    example_shape: Sequence[int],
    block: str = "rsa",
    directions: Sequence[str] | None = None,
    as_wrapper: bool = False,
    **block_options: Any,
) -> dict[str, nn.Module]:
    """Put an attention block behind each of the submodules ``names`` of ``network``, in place.

    One dry run without gradients, in eval mode, finds the numbers of channels; it leaves weights, statistics, random
    state and train mode as they were. All or nothing: when one name is refused, nothing is attached.

    By default the blocks become children of a new child `rsa` (or `non_local`) of the network and are called by forward
    hooks: every old entry of the state dict keeps its name. Deep copies, pickles, `torch.jit.trace`, `torch.compile`,
    `torch.export` and distributed data parallel keep the hook; `torch.jit.script` refuses it and `nn.DataParallel`
    does not support it. With ``as_wrapper`` the submodule is replaced by a `WithAttention`, which can be scripted but
    renames the submodule's entries from `name.*` to `name.stage.*`: load pretrained weights before.

    Args:
        network: any network that takes one tensor N x C x D x H x W.
        names: dotted name of a submodule, as in `network.named_modules()`, or several. Each must return one 5-D
            tensor, once a forward pass.
        example_shape: N, C, D, H, W of an input that the network takes; the smaller, the quicker.
        block: "rsa" or "non-local".
        directions: for "rsa", see `RSABlock`; the published order if left out.
        as_wrapper: replace the submodules in place of hooking them.
        block_options: further arguments of `RSABlock` or `NonLocalBlock`.

    Returns:
        The new blocks by the names given.

    Raises:
        ValueError: for a name or an option that does not fit, saying what was found and what would fit.
    """
    names = [names] if isinstance(names, str) else list(names)
    if block not in _CHILDREN:
        raise ValueError(f"block '{block}' is unknown: choose one of {list(_CHILDREN)}.")
    if directions is not None:
        if block != "rsa":
            raise ValueError(f"directions {list(directions)}: a '{block}' block has none; leave the option out.")
        block_options["directions"] = tuple(directions)
    outputs = _checked_places(network, names, example_shape, as_wrapper)
    kind = RSABlock if block == "rsa" else NonLocalBlock
    blocks: dict[str, nn.Module] = {
        name: kind(output.shape[1], **block_options)
        .to(output.device, output.dtype)
        .train(network.get_submodule(name).training)
        for name, output in outputs.items()
    }
    if as_wrapper:
        stages = {name: network.get_submodule(name) for name in blocks}  # wrapping one may rename another
        for name, stage in stages.items():
            _wrap(network, stage, blocks[name])
    else:
        _hook(network, blocks, _CHILDREN[block])
    return blocks


def _hook(network: nn.Module, blocks: dict[str, nn.Module], child: str) -> None:
    holder = getattr(network, child, None)
    if isinstance(network, nn.Sequential | nn.ModuleList | nn.ModuleDict) or not (
        holder is None or isinstance(holder, AttachedBlocks)
    ):
        raise ValueError(
            f"the {type(network).__name__} cannot take a further child '{child}', which would hold the blocks: put the "
            "network into a module of its own, or use as_wrapper=True."
        )
    if holder is None:
        holder = AttachedBlocks().train(network.training)
        network.add_module(child, holder)
    for name, block in blocks.items():
        holder[name.replace(".", "__")] = block
        network.get_submodule(name).register_forward_hook(BlockHook(block))


def _wrap(network: nn.Module, stage: nn.Module, block: nn.Module) -> None:
    """Replace the submodule wherever the network holds it: some networks hold one in two lists."""
    wrapper = WithAttention(stage, block).train(stage.training)
    holders = [
        (parent, key) for parent in network.modules() for key, child in parent._modules.items() if child is stage
    ]
    for parent, key in holders:
        if parent is not wrapper:
            parent._modules[key] = wrapper


def _checked_places(
    network: nn.Module, names: list[str], example_shape: Sequence[int], as_wrapper: bool
) -> dict[str, Tensor]:
    """The output of each submodule of ``names`` in the dry run, without values; refuses what cannot take a block."""
    calls = _dry_run(network, example_shape)
    modules = dict(_named(network))
    taken: set[nn.Module] = set()
    outputs: dict[str, Tensor] = {}
    for name in names:
        reason = _refusal(name, modules, calls, as_wrapper)
        if name in modules and (modules[name] in taken or _has_block(network, name)):
            reason = f"'{name}' has an attached block already; there is room for one."
        if reason:
            raise ValueError(f"The {type(network).__name__}'s submodule {reason}")
        taken.add(modules[name])
        output = calls[modules[name]].place()
        assert output is not None
        outputs[name] = output
    return outputs


def _refusal(name: str, modules: dict[str, nn.Module], calls: dict[nn.Module, _Calls], as_wrapper: bool) -> str:
    """Why no block can stand behind the submodule ``name``; empty when it can."""
    names = [other for other, module in modules.items() if calls[module].place() is not None]
    if name not in modules:
        return f"'{name}' does not exist. {_suggestions(name, names)}"
    found = calls[modules[name]]
    if not found.outputs:
        return (
            f"'{name}' is never called in a forward pass (a list of layers never is: name one of its layers). "
            + _suggestions(name, names)
        )
    if len(found.outputs) > 1:
        return f"'{name}' is called {len(found.outputs)} times in one forward pass. {_suggestions(name, names)}"
    if found.place() is None:
        return (
            f"'{name}' returned {found.description}; a block stands behind one 5-D tensor N x C x D x H x W. "
            + _suggestions(name, names)
        )
    if as_wrapper and not found.one_input:
        return f"'{name}' takes more than one tensor, which a wrapper cannot hand on: leave as_wrapper out."
    return ""


def _suggestions(name: str, fitting: list[str]) -> str:
    close = get_close_matches(name, fitting, n=3, cutoff=0.5)
    outer_first = sorted(fitting, key=lambda other: other.count("."))
    listed = close + [other for other in outer_first if other not in close]
    more = f" and {len(listed) - _LISTED_NAMES} more" if len(listed) > _LISTED_NAMES else ""
    return f"These fit: {', '.join(listed[:_LISTED_NAMES]) or 'none'}{more}."


def _named(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All submodules under all their names, without the network itself and the blocks attached earlier."""
    attached = {part for holder in network.modules() if isinstance(holder, AttachedBlocks) for part in holder.modules()}
    named = network.named_modules(remove_duplicate=False)
    return ((name, module) for name, module in named if name and module not in attached)


def _has_block(network: nn.Module, name: str) -> bool:
    """Whether a block was attached to this submodule, by a hook or by a wrapper of which it is now a part."""
    module, parent = network.get_submodule(name), network.get_submodule(name.rpartition(".")[0])
    hooked = any(isinstance(hook, BlockHook) for hook in module._forward_hooks.values())
    return hooked or isinstance(module, WithAttention) or isinstance(parent, WithAttention)


def _dry_run(network: nn.Module, example_shape: Sequence[int]) -> dict[nn.Module, _Calls]:
    """Run the network once on zeros and note what every submodule returns."""
    if len(example_shape) != 5 or min(example_shape) < 1:
        raise ValueError(f"example_shape {list(example_shape)}: give the five numbers N, C, D, H, W of an input.")
    calls = {module: _Calls() for module in network.modules()}
    hooks = [module.register_forward_hook(calls[module].note, with_kwargs=True) for module in calls]
    some = next(chain(network.parameters(), network.buffers()), torch.zeros(()))
    dtype = some.dtype if some.is_floating_point() else torch.float32
    try:
        with _evaluating(network, some.device), torch.no_grad():
            network(torch.zeros(tuple(example_shape), device=some.device, dtype=dtype))
    except Exception as error:  # whatever a foreign network raises for a size that does not suit it
        raise ValueError(
            f"the {type(network).__name__} does not run on example_shape {list(example_shape)}: give N, C, D, H, W of "
            f"an input that it takes. It said: {str(error) or type(error).__name__}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    return calls


@contextmanager
def _evaluating(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Eval mode and a random state of its own; every submodule gets its own train mode back."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
