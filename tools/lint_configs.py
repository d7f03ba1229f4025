# SPDX-License-Identifier: Apache-2.0
"""Check the bundles' configurations, metadata and cards."""

from __future__ import annotations

from custom_nets.config_linter import Finding, lint, read_bundle
from custom_nets.config_linter.folder_rules import write_card
from custom_nets.errors import InputError
from custom_nets.registry import ROOT, available, bundle
from tools._command import run
from tools.info import readme_is_current


def main(*names: str, write: bool = False) -> None:
    """Check the bundles' configurations, metadata and cards: one line a finding, exit status 1 if there is one.

    Args:
        names: the bundles to check; all of them when none is named.
        write: first bring the tables in the bundles' cards (docs/README.md) up to date.
    """
    chosen = [bundle(str(name)) for name in names] or list(available().values())
    if not chosen:
        raise InputError(f"{ROOT}: there is no bundle here")
    findings: list[Finding] = []
    for entry in chosen:
        folder = entry.folder or ROOT
        if write and (card := write_card(read_bundle(folder))):
            print(f"wrote {card}")
        findings.extend(lint(folder))
    if not names and not readme_is_current():
        findings.append(
            Finding("README.md", "bundles", "is not what the registry has", "python -m tools.info --readme --write")
        )
    if findings:
        print("\n".join(map(str, findings)))
        raise SystemExit(1)
    print(f"{len(chosen)} bundle(s) checked: nothing found")


if __name__ == "__main__":
    run(main)
