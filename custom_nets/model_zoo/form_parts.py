# SPDX-License-Identifier: Apache-2.0
"""The networks of a bundle that get exported forms, and the inputs on which the forms are compared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn
from torch.export import Dim

from custom_nets.errors import InputError
from custom_nets.model_zoo.exportable import Exportable, exportable
from custom_nets.running_config import built_network
from custom_nets.spine.weights import load_stages

Shape = tuple[int, ...]

#: Pixels along an edge of the blocks in example images.
_BLOCK = 8


@dataclass(frozen=True)
class Part:
    """A network that is exported by itself.

    Attributes:
        name: of its files in models/, without suffix.
        network: in eval mode.
        inputs: their names.
        shapes: for each comparison, the shapes of the inputs.
        configured: see `custom_nets.model_zoo.torchscript_form.write_torchscript`.
        intensities: mean and standard deviation of the inputs.
    """

    name: str
    network: nn.Module
    inputs: tuple[str, ...]
    shapes: tuple[tuple[Shape, ...], ...]
    configured: Mapping[str, Any] | None = None
    intensities: tuple[float, float] = (0.0, 1.0)

    @property
    def facts(self) -> Exportable:
        """What holds for its forms."""
        return exportable(self.network)

    @property
    def onnx_facts(self) -> Exportable:
        """What holds for its ONNX form: of a first size that no open form takes, it is made for that size alone."""
        return self.facts if self.facts.holds(self.shapes[0][0]) else replace(self.facts, multiple=0)

    def open_axes(self, shapes: Sequence[Shape]) -> list[dict[int, Any]]:
        """The axes of each input that an exported form leaves open: those of the image, and all sizes of the others."""
        facts = self.onnx_facts
        first = facts.open_axes(shapes[0])
        if not facts.multiple:
            return [first, *({0: first[0]} if first else {} for _ in shapes[1:])]
        others = [
            {0: first[0], **{axis: Dim(f"{name}{axis}", min=2) for axis in range(2, len(shape))}}
            for name, shape in list(zip(self.inputs, shapes, strict=True))[1:]
        ]
        return [first, *others]

    def examples(self, shapes: Sequence[Shape], seed: int = 0) -> list[Tensor]:
        """Noise of the shapes, the same each time; see `_noise`."""
        rng = np.random.default_rng(seed)
        mean, deviation = self.intensities
        return [torch.from_numpy((mean + deviation * _noise(rng, shape)).astype(np.float32)) for shape in shapes]


def _noise(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Standard normal values, most of whose variance is in blocks: of white noise deep maps would see nothing."""
    size = shape[2:]
    blocks = rng.standard_normal((*shape[:2], *(-(-length // _BLOCK) for length in size)))
    for axis, length in enumerate(size, start=2):
        blocks = blocks.repeat(_BLOCK, axis=axis).take(range(length), axis=axis)
    return np.sqrt(0.8) * blocks + np.sqrt(0.2) * rng.standard_normal(shape)


@dataclass(frozen=True)
class Loaded:
    """The network of a bundle.

    Attributes:
        network: with its weights, in eval mode.
        parts: what is exported of it.
        as_one: the whole network is, for more than one size.
    """

    network: nn.Module
    parts: tuple[Part, ...]
    as_one: bool


def read_parts(folder: Path, volume: Sequence[int] | None = None) -> Loaded:
    """Build the network of a bundle, load models/model.pt, and say what is exported of it.

    Args:
        folder: of the bundle.
        volume: D, H, W for which a network that prepares whole volumes itself is exported as a whole too.

    Raises:
        InputError: the weights are not this network's, or the network is of a class that nothing is known of.
    """
    network = built(folder)
    load_stages(network, folder / "models" / "model.pt")
    parts = parts_of(network, folder)
    if volume is not None and not exportable(network).any_size:
        parts.append(_whole(network, volume))
    return Loaded(network, tuple(parts), as_one=exportable(network).any_size)


def built(folder: Path) -> nn.Module:
    """Build the network of a bundle's inference, in eval mode.

    Raises:
        InputError: the network refuses its arguments.
    """
    parser = ConfigParser()
    parser.read_config(folder / "configs" / "inference.json")
    parser["bundle_root"] = str(folder)
    return built_network(parser).eval()


def parts_of(network: nn.Module, folder: Path) -> list[Part]:
    """Return what is exported of a bundle's network: itself, or the stages of one that is tied to a size as a whole."""
    if not exportable(network).any_size:
        return _stages(network)
    metadata = ConfigParser.load_config_file(folder / "configs" / "metadata.json")
    image = metadata["network_data_format"]["inputs"]["image"]
    shapes = _shapes(image["num_channels"], image["spatial_shape"], exportable(network))
    return [Part("model", network, ("image",), shapes)]


def _shapes(channels: int, rule: Sequence[Any], facts: Exportable) -> tuple[tuple[Shape, ...], ...]:
    """Two equal sizes, a mixed one with two samples and, where any size will do, an odd one; or the only size."""
    if all(isinstance(length, int) for length in rule):
        return (((1, channels, *rule),),)
    found = [re.fullmatch(r"(?:(\d+)\s*\*\s*)?n", str(length)) for length in rule]
    if not all(found):
        raise InputError(f"spatial_shape {list(rule)}: give numbers, or multiples of n such as '16*n'.")
    units = [int(one[1] or 1) for one in found if one is not None]
    numbers = ((2, 2, 2), (3, 3, 3), (2, 4, 3)) if len(units) == 3 else ((4, 4), (8, 8), (6, 8))
    sizes = [tuple(n * unit for n, unit in zip(one, units, strict=True)) for one in numbers]
    shapes = [(1, channels, *sizes[0]), (1, channels, *sizes[1]), (2, channels, *sizes[2])]
    if facts.multiple == 1:
        shapes.append((1, channels, *(length + 1 + 2 * axis for axis, length in enumerate(sizes[2]))))
    return tuple((shape,) for shape in shapes)


def _stages(network: Any) -> list[Part]:
    """Both stages of SpineParseNet at the sizes that it gives them, and at another one."""
    parts: list[Part] = []
    shapes: tuple[tuple[Shape, ...], ...]
    channels, labels = network.in_channels, network.labels
    slices, *coarse = network.coarse_size
    # what a stage is given is not what the metadata say of the whole
    told: dict[str, Any] = {"_meta_::network_data_format": {}}
    if network.coarse is not None:
        shapes = (((1, channels, slices, *coarse),), ((2, channels, 18, 36, 44),))
        configured = {"exported": "$@network_def.coarse", **told}
        parts.append(Part("coarse", network.coarse, ("image",), shapes, configured))
    if network.refinement is not None:
        multiple, names = network.refinement.multiple, ("image", "coarse_logits")
        pairs: list[tuple[Shape, ...]] = [
            ((1, channels, *network.fine_size), (1, labels, *coarse)),
            ((2, channels, 2 * multiple, 3 * multiple), (2, labels, 12, 20)),
        ]
        alone = not network.refinement.coarse_channels
        shapes = tuple(pair[:1] if alone else pair for pair in pairs)
        configured = {"exported": "$@network_def.refinement", **told}
        parts.append(Part("refinement", network.refinement, names[: len(shapes[0])], shapes, configured))
    return parts


def _whole(network: Any, volume: Sequence[int]) -> Part:
    if len(volume) != 3 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in volume):
        raise InputError(f"volume is {volume}: give three numbers of voxels, such as [12,64,96].")
    shape = (1, network.in_channels, *volume)
    name = f"model_{'x'.join(map(str, volume))}"
    intensities = (network.intensity_mean, network.intensity_std)
    return Part(name, network, ("image",), ((shape,),), None, intensities)
