# SPDX-License-Identifier: Apache-2.0
"""The order check of predicted spines in a workflow: the transform that checks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from custom_nets.label_graphs.graph import LabelGraph, graph_from
from custom_nets.label_maps import single_label_map
from custom_nets.spine.order import order_findings

#: What the key of a label map's findings ends with.
FINDINGS_POSTFIX = "_order"


class OrderCheckd(MapTransform):
    """Check the order along the spine of label maps of nodes; they stay as they are.

    The findings of :func:`~custom_nets.spine.order.order_findings` are stored beside each label map: those of ``pred``
    as ``pred_order``. It has to stand before the transform that turns nodes into the values of files.

    Args:
        keys: of the label maps, 1 x D x H x W.
        graph: of the nodes, or what :func:`~custom_nets.label_graphs.graph.graph_from` reads.
        allow_missing_keys: do not raise for a missing key.

    Raises:
        InputError: for a graph that does not hold together; when called, for another shape or values.
    """

    def __init__(
        self, keys: KeysCollection, graph: LabelGraph | Mapping[str, Any], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.graph = graph_from(graph)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Store the findings of ``data[key]`` for every key."""
        result = dict(data)
        for key in self.key_iterator(result):
            affine = result[key].affine.cpu().numpy() if isinstance(result[key], MetaTensor) else None
            findings = order_findings(single_label_map(result[key]), self.graph, affine)
            result[f"{key}{FINDINGS_POSTFIX}"] = findings
        return result
