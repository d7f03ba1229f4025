# SPDX-License-Identifier: Apache-2.0
"""One linter for the configurations of all bundles: each rule is a function whose docstring says the rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
from custom_nets.config_linter.reading import BundleFiles, Config, Finding, read_bundle

CONFIG_RULES = (*text_rules.CONFIG_RULES, *key_rules.CONFIG_RULES, *component_rules.CONFIG_RULES)
BUNDLE_RULES = (
    *folder_rules.BUNDLE_RULES,
    *metadata_rules.BUNDLE_RULES,
    *key_rules.BUNDLE_RULES,
    *drift_rules.BUNDLE_RULES,
    *stage_rules.BUNDLE_RULES,
)

__all__ = ["BUNDLE_RULES", "CONFIG_RULES", "BundleFiles", "Finding", "findings_by_rule", "lint", "read_bundle"]

#: A rule about a whole bundle, or about one configuration.
LintRule = Callable[[BundleFiles], Iterable[Finding]] | Callable[[Config], Iterable[Finding]]


def lint(folder: Path) -> list[Finding]:
    """Return everything that the rules find in the bundle in ``folder``."""
    return [finding for _, found in findings_by_rule(read_bundle(folder)) for finding in found]


def findings_by_rule(bundle: BundleFiles) -> Iterator[tuple[LintRule, Iterator[Finding]]]:
    """Yield each rule with what it finds in the bundle, of a bundle's configurations in all of them.

    A configuration that cannot be merged or resolved is judged by the rules about its text alone.
    """
    for bundle_rule in BUNDLE_RULES:
        yield bundle_rule, iter(bundle_rule(bundle))
    for config_rule in CONFIG_RULES:
        yield config_rule, _in_configs(config_rule, bundle)


def _in_configs(rule: Callable[[Config], Iterable[Finding]], bundle: BundleFiles) -> Iterator[Finding]:
    for config in bundle.configs.values():
        if rule in text_rules.CONFIG_RULES or not config.broken:
            yield from rule(config)
