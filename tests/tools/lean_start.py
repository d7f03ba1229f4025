# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.tools.lean_start``: find all parts of all bundles' predictions after a start as the command's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pydoc import locate
from typing import Any

from tools._lean_start import leave_out

if __name__ == "__main__":
    leave_out()

from custom_nets.bundle_configs import read_configs
from custom_nets.registry import available

PARTS = ("network_def", "preprocessing", "inferer", "postprocessing")


def targets(part: Any) -> Iterator[str]:
    """Every component that a part of a configuration names."""
    if isinstance(part, dict) and "_target_" in part:
        yield part["_target_"]
    for one in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from targets(one)


if __name__ == "__main__":
    assert sys.modules["itk"] is None
    for name, bundle in available().items():
        if bundle.folder is not None:
            config = read_configs(bundle.folder)["inference"]
            wanted = [one for part in PARTS for one in targets(config[part]) if one.startswith("custom_nets.")]
            assert len(wanted) > 1, name
            assert all(locate(one) is not None for one in wanted), name
