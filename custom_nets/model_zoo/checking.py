# SPDX-License-Identifier: Apache-2.0
"""Every rule of the Model Zoo, of MONAI's bundles and of MONAI Label, applied to a bundle without a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from custom_nets.config_linter import Finding, findings_by_rule
from custom_nets.model_zoo import (
    card_rules,
    code_rules,
    folder_rules,
    form_rules,
    label_rules,
    large_file_rules,
    live_process,
    metadata_rules,
    package_rules,
)
from custom_nets.model_zoo.verdicts import Problem, Rule, Verdict, fails, judged, read_subject, text_of

RULES: tuple[Rule, ...] = (
    *folder_rules.RULES,
    *large_file_rules.RULES,
    *card_rules.RULES,
    *metadata_rules.RULES,
    *label_rules.RULES,
    *code_rules.RULES,
    *form_rules.RULES,
    *package_rules.RULES,
)

__all__ = ["RULES", "Verdict", "check_bundle"]


def check_bundle(folder: Path, live: bool = True) -> list[Verdict]:
    """Check a bundle: rules about its files, those of the configurations' linter, and rules that run it.

    Nothing is written into the folder. The verdict "later" is no failure: a bundle inside the repository lacks what
    its export adds, and large files need an address only when they go to the Zoo.

    Args:
        folder: of a bundle, in the repository or exported.
        live: also import the bundle's own code, in a process of its own, build its network and its workflows.

    Returns:
        A verdict for each rule.

    Raises:
        InputError: there is no bundle in the folder.
    """
    subject = read_subject(Path(folder))
    verdicts = [judged(text_of(rule), rule(subject)) for rule in RULES]
    verdicts += [judged(text_of(rule), _problems(found)) for rule, found in findings_by_rule(subject.files)]
    return [*verdicts, *(live_process.live_verdicts(subject) if live else [])]


def _problems(findings: Iterable[Finding]) -> Iterator[Problem]:
    for finding in findings:
        yield fails(f"{finding.where}: {finding.key}: {finding.problem}", finding.remedy)
