# SPDX-License-Identifier: Apache-2.0
"""Batches that the first stage can be trained on: a norm over the means of whole volumes needs two of them."""

from __future__ import annotations

from custom_nets.errors import InputError, stops_with_message


@stops_with_message
def drops_last(items: int, batch_size: int) -> bool:
    """Whether the last batch of an epoch is left out if it is not full, as the published refinement does.

    Args:
        items: of the training set that a process has: volumes of the first stage, slices of the second.
        batch_size: of them.

    Raises:
        SystemExit: with one line, for fewer than two in a batch or in all, whose batch statistics would be undefined.
    """
    if batch_size < 2:
        raise InputError(f"batch_size is {batch_size}: batch norm needs at least 2.")
    if items < 2:
        raise InputError(f"a process has {items} item to train on: batch norm needs at least 2.")
    return items > batch_size
