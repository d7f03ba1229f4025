# SPDX-License-Identifier: Apache-2.0
"""The input guard: a case compared with the fingerprint of the model that is to segment it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from custom_nets.errors import InputError
from custom_nets.fingerprints.channel_rules import contrast_finding, swapped_finding
from custom_nets.fingerprints.content import Fingerprint
from custom_nets.fingerprints.findings import Finding, Subject
from custom_nets.fingerprints.geometry_rules import geometry_finding
from custom_nets.fingerprints.intensity_rules import empty_finding, intensity_finding, inverted_finding
from custom_nets.fingerprints.measuring import CaseMeasures, measured, sampled_files
from custom_nets.fingerprints.summary import skull_gap_of, skull_of

_SKULL_REMEDY = {
    "present": "Remove the skull first (brain extraction), as it was done with the training scans.",
    "absent": "Give the whole head: this model was trained on scans with the skull.",
}


def unusual(fingerprint: Fingerprint, files: Sequence[str | Path], modalities: Sequence[str]) -> list[Finding]:
    """Compare a case with what a model was trained on, before the network runs.

    Args:
        fingerprint: of the model.
        files: NIfTI files, one a modality in the network's order, or one 4D file that holds them all.
        modalities: their names, for the sentences.

    Returns:
        What is unusual; of several signs of one cause the clearest alone. Empty for a case like those of the training.

    Raises:
        InputError: a file that cannot be read, or another number of images than the model takes.
    """
    paths = [Path(file) for file in files]
    scans = sampled_files(paths)
    known = fingerprint.modalities
    if len(scans) != len(known):
        raise InputError(
            f"{paths[0] if paths else 'the case'}: {len(scans)} images ({', '.join(modalities)}), the model was "
            f"trained on {len(known)} ({', '.join(known)}): give one a modality."
        )
    places = paths if len(paths) == len(scans) else paths * len(scans)
    names = list(modalities) if len(modalities) == len(known) else list(known)
    subjects = [
        Subject(fingerprint, modality, place, f"{name} ({place.name})")
        for modality, place, name in zip(known, places, names, strict=True)
    ]
    return _compared(subjects, names, measured(dict(zip(known, scans, strict=True))))


def _compared(subjects: Sequence[Subject], names: Sequence[str], case: CaseMeasures) -> list[Finding]:
    fingerprint = subjects[0].fingerprint
    pairs = [(subject, case.scans[subject.modality]) for subject in subjects]
    spoilt = [one for pair in pairs if (one := empty_finding(*pair) or inverted_finding(*pair))]
    if spoilt:
        return spoilt
    geometry = [one for pair in pairs if (one := geometry_finding(*pair))]
    skull = skull_finding(fingerprint, case)
    if skull is not None:
        geometry = [one for one in geometry if one.kind not in ("extent", "voxels")]  # a head is a longer brain
    found = [*_of_the_case(geometry), *([skull] if skull else [])]
    swapped = swapped_finding(fingerprint, names, case)
    if swapped is not None:
        found.append(swapped)
    elif not found:
        found += [one for pair in pairs if (one := contrast_finding(*pair))]
    return found + [one for pair in pairs if (one := intensity_finding(*pair))]


def skull_finding(fingerprint: Fingerprint, case: CaseMeasures) -> Finding | None:
    """The skull is there where it was on none of the training scans, or the other way round."""
    here, seen = skull_of(case), fingerprint.skull
    other = {"present": "absent", "absent": "present"}.get(here)
    if other is None or seen.get(here, 0) or 2 * seen.get(other, 0) < fingerprint.cases:
        return None
    gap = skull_gap_of(case)
    word = "shows" if here == "present" else "does not show"
    return Finding(
        f"the scan {word} the skull (on {gap:.0%} of the rays from the middle of the head), in training it was "
        f"{other} on {seen[other]} of {fingerprint.cases} cases.",
        _SKULL_REMEDY[here],
        "skull",
    )


def _of_the_case(findings: Sequence[Finding]) -> list[Finding]:
    """One of each kind: the scans of a case lie on one grid, and so do their faults."""
    return list({finding.kind: finding for finding in reversed(findings)}.values())[::-1]
