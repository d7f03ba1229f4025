# SPDX-License-Identifier: Apache-2.0
"""One linter for the configurations of all bundles: each rule is a function whose docstring says the rule."""

from __future__ import annotations

from pathlib import Path

from custom_nets.config_linter import (
    component_rules,
    drift_rules,
    folder_rules,
    key_rules,
    metadata_rules,
    stage_rules,
    text_rules,
)
from custom_nets.config_linter.reading import BundleFiles, Finding, read_bundle

CONFIG_RULES = (*text_rules.CONFIG_RULES, *key_rules.CONFIG_RULES, *component_rules.CONFIG_RULES)
BUNDLE_RULES = (
    *folder_rules.BUNDLE_RULES,
    *metadata_rules.BUNDLE_RULES,
    *key_rules.BUNDLE_RULES,
    *drift_rules.BUNDLE_RULES,
    *stage_rules.BUNDLE_RULES,
)

__all__ = ["BUNDLE_RULES", "CONFIG_RULES", "BundleFiles", "Finding", "lint", "read_bundle"]


def lint(folder: Path) -> list[Finding]:
    """Return everything that the rules find in the bundle in ``folder``.

    A configuration that cannot be merged or resolved is judged by the rules about its text alone.
    """
    bundle = read_bundle(folder)
    findings = [finding for rule in BUNDLE_RULES for finding in rule(bundle)]
    for config in bundle.configs.values():
        rules = text_rules.CONFIG_RULES if config.broken else CONFIG_RULES
        findings.extend(finding for rule in rules for finding in rule(config))
    return findings
