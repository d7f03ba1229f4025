# SPDX-License-Identifier: Apache-2.0
"""Dictionary transforms between the values that a file's label map has and the numbers of a graph's nodes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type
from numpy.typing import NDArray

from custom_nets.case_names import file_of
from custom_nets.errors import InputError
from custom_nets.label_graphs.graph import LabelGraph

#: A table's entry for a value that the graph does not have.
_UNKNOWN = -1


class LabelsToNodesd(MapTransform):
    """Bring label maps from a file's values to node numbers 0 to K - 1, in which networks and scores think.

    Args:
        keys: label maps of any shape.
        graph: whose labels the files have: their ``value``, and what ``also`` stands for them.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for more than 256 labels; when called, for a value that is no label, naming the file.
    """

    def __init__(self, keys: KeysCollection, graph: LabelGraph, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.table = np.full(65536, _UNKNOWN, np.int16)
        for node, label in enumerate(graph.labels):
            self.table[[label.value, *label.also]] = node
        self.known = ", ".join(str(label.value) for label in graph.labels)
        _check_count(graph)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace ``data[key]`` by node numbers, uint8, metadata kept."""
        result = dict(data)
        for key in self.key_iterator(result):
            value = torch.as_tensor(result[key])
            nodes = self._nodes(value.numpy(force=True), file_of(result[key], key))
            result[key] = convert_to_dst_type(nodes, value, dtype=torch.uint8)[0]
        return result

    def _nodes(self, values: NDArray[Any], file: str) -> NDArray[np.uint8]:
        with np.errstate(invalid="ignore"):  # not a number becomes a whole one, which then differs
            whole = values.astype(np.int64)
        possible = (whole == values) & (whole >= 0) & (whole < len(self.table))
        nodes = self.table[np.where(possible, whole, 0)]
        unknown = ~possible | (nodes == _UNKNOWN)
        if unknown.any():
            raise InputError(
                f"{file}: {np.count_nonzero(unknown)} voxels hold {values[unknown][0]:g}, which is no label of the "
                f"graph ({self.known}); correct the file, or name a label_graph that has it."
            )
        return nodes.astype(np.uint8)


class NodesToLabelsd(MapTransform):
    """Bring label maps from node numbers back to the values that files have, the ``value`` of each label.

    Args:
        keys: of node numbers, any shape.
        graph: whose nodes they are.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for more than 256 labels; when called, for a number that is no node, naming the file.
    """

    def __init__(self, keys: KeysCollection, graph: LabelGraph, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        values = [label.value for label in graph.labels]
        self.dtype = torch.uint8 if max(values) < 256 else torch.int16 if max(values) < 32768 else torch.uint16
        self.values = np.array(values)
        _check_count(graph)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace ``data[key]`` by values, uint8, or int16 or uint16 if the graph needs it; metadata kept."""
        result = dict(data)
        for key in self.key_iterator(result):
            value = torch.as_tensor(result[key])
            nodes = value.numpy(force=True)
            if nodes.size and not 0 <= nodes.min() <= nodes.max() < len(self.values):
                raise InputError(
                    f"{file_of(result[key], key)}: holds {nodes.min():g} to {nodes.max():g}, but the graph's nodes are"
                    f" 0 to {len(self.values) - 1}; name the label_graph that the network was trained with."
                )
            result[key] = convert_to_dst_type(self.values[nodes.astype(np.int64)], value, dtype=self.dtype)[0]
        return result


def _check_count(graph: LabelGraph) -> None:
    if len(graph) > 256:
        raise InputError(f"the label graph has {len(graph)} labels: label maps in memory hold at most 256.")
