# SPDX-License-Identifier: Apache-2.0
"""Where the refinement takes the coarse network's logits from: stored files, or the network itself.

A source is called with a case's name and its number of slices, and returns K x D x h x w in half precision.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor, nn
from torch.utils.data import get_worker_info
from tqdm import tqdm

from custom_nets.case_names import case_name
from custom_nets.checkpoints import require_same
from custom_nets.errors import InputError, stops_with_message
from custom_nets.label_graphs.graph import LabelGraph
from custom_nets.spine.coarse_logits import half_precision, logits_path, read_logits, without_padding
from custom_nets.spine.weights import first_stage_of

_COMPUTING = threading.Lock()  # of the module: a lock cannot be pickled with the data set that holds a source


class LogitsSource(Protocol):
    """What gives the logits of a case: K x ``slices`` x h x w, float16."""

    def __call__(self, case: str, slices: int) -> Tensor:
        """Return the logits of the case of this name, whose volume has this many slices."""
        ...


class StoredLogits:
    """Logits from files, FOLDER/CASE.npz, as `python -m tools.coarse_logits` writes them. Nothing is kept.

    Args:
        folder: of the files.
        graph: label graph of the refinement.
        out_of_fold: refuse logits of a network that was trained on the very case.
        coarse_size: of the coarse network's input, that the files have to be of; None = any.
        preprocessing: options that the files have to be computed with; None = any.
    """

    def __init__(
        self,
        folder: str | Path,
        graph: LabelGraph,
        out_of_fold: bool = True,
        coarse_size: Sequence[int] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.graph = graph
        self.out_of_fold = out_of_fold
        self.coarse_size = coarse_size
        self.preprocessing = preprocessing

    def __call__(self, case: str, slices: int | None) -> Tensor:
        """Read and check the file of a case.

        Raises:
            InputError: see :func:`~custom_nets.spine.coarse_logits.read_logits`.
        """
        logits = read_logits(
            logits_path(self.folder, case),
            self.graph,
            case,
            slices,
            coarse_size=self.coarse_size,
            preprocessing=self.preprocessing,
            out_of_fold=self.out_of_fold,
        )
        return torch.from_numpy(logits)


class ComputedLogits:
    """Logits from the coarse network, computed once for all cases when the first is asked for, and kept in memory.

    The network is in eval mode and gets no gradients. It has to be asked first by the process that starts the data
    loader's, which the filling of a cache does: loader processes inherit what is there and compute nothing.

    Args:
        network: the coarse network; 1 x 1 x D x h x w -> 1 x K x D x h x w logits in eval mode.
        cases: of the data list, all that will be asked for.
        transform: of one case, {"image": [paths], ...}; makes the network's input of it, "image" 1 x D x h x w, padded
            evenly along D where the volume has fewer slices.
        checkpoint: weights, of the coarse network or of both stages, loaded when the first case is asked for; None =
            the network has them already.
        device: on which to compute.
        progress: show a progress bar.

    Raises:
        InputError: two cases have one name; when called: the checkpoint does not fit, the logits are not finite or
            overflow half precision, an unknown case, or slices that are not the input's.
    """

    def __init__(
        self,
        network: nn.Module,
        cases: Sequence[Mapping[str, Any]],
        transform: Callable[[dict[str, Any]], Mapping[str, Any]],
        checkpoint: str | Path | None = None,
        device: torch.device | str = "cpu",
        progress: bool = True,
    ) -> None:
        self.network: nn.Module | None = network
        self.cases = cases_by_name(cases)
        self.transform = transform
        self.checkpoint = checkpoint
        self.device = torch.device(device)
        self.progress = progress
        self.logits: dict[str, Tensor] = {}

    def __call__(self, case: str, slices: int) -> Tensor:
        """Return the logits of a case, computing those of all cases first if that has not been done."""
        with _COMPUTING:  # caches are filled by threads
            if self.network is not None:
                self._compute_all(self.network)
                self.network = None
        if case not in self.logits:
            raise InputError(f"case {case!r} is not among the {len(self.logits)} whose coarse logits were computed.")
        return without_padding(self.logits[case], slices)

    def _compute_all(self, network: nn.Module) -> None:
        if get_worker_info() is not None:
            raise InputError(
                "coarse_logits is 'computed', which has to happen before loader processes start: give --cache_rate 1, "
                "or --num_workers 0."
            )
        if self.checkpoint is not None:
            load_coarse(network, self.checkpoint)
        network = network.to(self.device).eval().requires_grad_(False)
        for name in tqdm(self.cases, desc="coarse logits", disable=not self.progress):
            self.logits[name] = coarse_logits_of(network, self.transform, self.cases[name], name, self.device)


def load_coarse(network: nn.Module, checkpoint: str | Path) -> None:
    """Load the coarse network's weights from a file of its own, or of both stages.

    Raises:
        InputError: for a file that cannot be read or is of another network.
    """
    weights = first_stage_of(checkpoint)
    require_same(weights, network.state_dict(), str(checkpoint), type(network).__name__)
    network.load_state_dict(weights)


@torch.no_grad()
def coarse_logits_of(
    network: nn.Module,
    transform: Callable[[dict[str, Any]], Mapping[str, Any]],
    case: Mapping[str, Any],
    name: str,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Compute the logits of one case with a network in eval mode: K x D x h x w float16 on the CPU, padding included.

    Raises:
        InputError: the logits are not finite, or overflow half precision.
    """
    image = torch.as_tensor(transform(dict(case))["image"]).as_subclass(Tensor)
    logits = network(image[None].to(device))[0].float().cpu().numpy()
    return torch.from_numpy(half_precision(logits, name))


def cases_by_name(cases: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The cases of a data list by their names.

    Raises:
        InputError: two cases have one name.
    """
    named: dict[str, Mapping[str, Any]] = {}
    for case in cases:
        name = case_name(case["image"])
        if name in named:
            one, other = (found["image"] for found in (named[name], case))
            raise InputError(
                f"two cases are called '{name}': {one} and {other}; their coarse logits would be taken for each "
                "other's. Name the files of a case after it."
            )
        named[name] = case
    return named


@stops_with_message
def require_stored_logits(source: StoredLogits, *lists: Sequence[Mapping[str, Any]], progress: bool = True) -> None:
    """Read and check the stored logits of all cases, before a training begins.

    Args:
        source: the files.
        lists: cases of data lists; all of them have to have different names.
        progress: show a progress bar.

    Raises:
        SystemExit: with one line, for what :class:`StoredLogits` refuses.
    """
    names = cases_by_name([case for cases in lists for case in cases])
    for name in tqdm(names, desc="checking coarse logits", disable=not progress):
        source(name, None)


class AddCoarseLogitsd(MapTransform):
    """Add the coarse network's logits to a case, behind the deterministic transforms.

    Args:
        keys: of one volume, 1 x D x H x W, whose slices the logits have to have.
        source: called with the case's name and D.
        name_key: where `custom_nets.case_names.CaseNamed` put the name.
        logits_key: where the logits go: K x D x h x w, float16.
    """

    def __init__(
        self, keys: KeysCollection, source: LogitsSource, name_key: str = "case_name", logits_key: str = "coarse_logits"
    ) -> None:
        super().__init__(keys)
        self.source = source
        self.name_key = name_key
        self.logits_key = logits_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the logits; the rest stays as it is."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[self.logits_key] = self.source(result[self.name_key], result[key].shape[1])
        return result
