# SPDX-License-Identifier: Apache-2.0
"""What to do about label maps of spines that hold other values than their label graph."""

from __future__ import annotations

from collections.abc import Iterable

from custom_nets.label_graphs.chains import NAMED


def advice_on_values(found: Iterable[float], label_graph: str) -> str:
    """What to do about a label map with values that its graph does not have.

    Args:
        found: all values of the label map but 0.
        label_graph: name or file of the graph that it should follow.
    """
    values = set(found)
    others = [
        f"--label_graph {name}"
        for name, build in NAMED.items()
        if name != label_graph and values <= set(build().file_names())
    ]
    instead = [*others, "the graph of your labels with --label_graph FILE (python -m tools.label_graph writes it)"]
    return f"label graph {label_graph!r} does not have them: give {' or '.join(instead)}"
