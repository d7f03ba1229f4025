# SPDX-License-Identifier: Apache-2.0
"""Check a bundle against the rules of the Model Zoo, MONAI and MONAI Label."""

from __future__ import annotations

from pathlib import Path

from custom_nets.model_zoo.checking import check_bundle
from tools._command import run


def main(folder: str, *, live: bool = True) -> None:
    """Check a bundle, in the repository or exported, without a network: one line a rule, exit status 1 if one fails.

    Args:
        folder: of the bundle.
        live: also build its network and its workflows, on the smallest made-up data; --live False leaves that out.
    """
    verdicts = check_bundle(Path(str(folder)), live)
    print("\n".join(map(str, verdicts)))
    if any(verdict.verdict == "fails" for verdict in verdicts):
        raise SystemExit(1)


if __name__ == "__main__":
    run(main)
