# SPDX-License-Identifier: Apache-2.0
"""A coarse network's logits of many cases into files, those alone that are not there yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from torch import nn
from tqdm import tqdm

from custom_nets.errors import InputError
from custom_nets.label_graphs.graph import LabelGraph
from custom_nets.spine.coarse_logits import (
    Provenance,
    graph_digest,
    graph_names,
    logits_path,
    read_logits,
    read_provenance,
    without_padding,
    write_logits,
)
from custom_nets.spine.logits_sources import cases_by_name, coarse_logits_of
from custom_nets.spine.transforms import SlicesPad


@dataclass(frozen=True)
class CoarseStage:
    """A coarse network as a configuration describes it, without its weights.

    Attributes:
        build: makes the network, untrained.
        transform: of one case; makes the network's input of it, "image" 1 x D x h x w.
        graph: its label graph.
        size: slices, rows and columns of its input.
        preprocessing: options that decide what it sees.
        device: on which to compute.
    """

    build: Callable[[], nn.Module]
    transform: Callable[[dict[str, Any]], Mapping[str, Any]]
    graph: LabelGraph
    size: tuple[int, int, int]
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device | str = "cpu"

    def provenance(self, checkpoint: str, trained_on: Sequence[str]) -> Provenance:
        """What logits of this stage come from, but for the case.

        Args:
            checkpoint: digest of the weights.
            trained_on: names of the cases that the network was trained on.
        """
        names, graph = graph_names(self.graph), graph_digest(self.graph)
        return Provenance("", checkpoint, tuple(sorted(trained_on)), names, graph, self.size, self.preprocessing)


def missing_logits(folder: str | Path, names: Sequence[str], origin: Provenance, graph: LabelGraph) -> Iterator[str]:
    """Yield the names of the cases whose file is not there, is damaged, or is of another origin.

    Args:
        folder: of the files.
        names: of the cases.
        origin: what the logits have to come from; its case does not matter.
        graph: label graph.
    """
    for name in names:
        path = logits_path(folder, name)
        try:
            same = path.is_file() and read_provenance(path).to_json() == replace(origin, case=name).to_json()
            if same:
                read_logits(path, graph, name)
        except InputError:
            same = False
        if not same:
            yield name


def store_logits(
    cases: Sequence[Mapping[str, Any]],
    stage: CoarseStage,
    load: Callable[[nn.Module], None],
    folder: str | Path,
    origin: Provenance,
    progress: bool = True,
) -> tuple[int, int]:
    """Compute and write the logits of those cases whose file is not there from the same origin.

    Args:
        cases: of a data list, of different names.
        stage: the network.
        load: loads its weights; not called when all is there.
        folder: where FOLDER/CASE.npz go.
        origin: from ``stage.provenance``.
        progress: show a progress bar.

    Returns:
        How many files were written, and how many were there.

    Raises:
        InputError: two cases have one name, weights that do not fit, or logits that cannot be stored.
    """
    named = cases_by_name(cases)
    wanted = list(missing_logits(folder, list(named), origin, stage.graph))
    if wanted:
        network = stage.build()
        load(network)
        network = network.to(stage.device).eval().requires_grad_(False)
        bar = tqdm(total=len(named), initial=len(named) - len(wanted), desc="coarse logits", disable=not progress)
        with bar:
            for name in wanted:
                prepared = stage.transform(dict(named[name]))
                logits = coarse_logits_of(network, lambda case: case, prepared, name, stage.device)
                own = without_padding(logits, slices_of(prepared["image"])).numpy()
                write_logits(logits_path(folder, name), own, replace(origin, case=name))
                bar.update()
    return len(wanted), len(named) - len(wanted)


def slices_of(image: Any) -> int:
    """Slices D of a volume, 1 x D x h x w, without those that `SlicesPad` has put around it."""
    if isinstance(image, MetaTensor):
        for operation in image.applied_operations:
            if operation["class"] == SlicesPad.__name__:
                return int(operation["orig_size"][0])
    return int(image.shape[1])
