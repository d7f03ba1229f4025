# SPDX-License-Identifier: Apache-2.0
"""From a folder of scans to cases: a layout says by patterns which file is which modality of which case."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from custom_nets.datasets.merged_masks import made_here
from custom_nets.datasets.problems import Problem
from custom_nets.errors import InputError

IMAGE, LABEL = "image", "label"
NIFTI = r"\.nii(?:\.gz)?"
_NOTHING = "(?!)"  # matches no file


@dataclass(frozen=True)
class Layout:
    """The folder structure of one data set.

    The patterns are regular expressions for the path relative to the data set's folder, with forward slashes. Their
    named groups tell the case: ``patient`` and, where there are several scans a patient, ``time`` or ``case``; ``part``
    is the folder of the data set's own division, of which "test...", "ts" and "validation" (a challenge's own, whose
    labels are not public) mark the official test scans; ``site`` is the hospital or cohort.

    Attributes:
        name: what the user types.
        expects: the structure as the user sees it.
        images: pattern of each modality that the data set has; of ``IMAGE`` alone where one file holds them all.
        label: pattern of the label.
        raters: how many persons drew labels; ``RATER`` in the label's pattern stands for the number chosen.
        lesion_masks: labels are masks in which every positive value is lesion, and a scan may have several of them.
        known_problems: what the data set's users reported about single patients.
        sections: the section of the data list for each ``part``, in lower case, of a division that is to be kept; a
            case then is in one part only.
        stacked: the modalities in the order in which one 4D file a case holds them; empty where each is a file.
        label_convention: which value of a brain tumour's label map is which part, see ``custom_nets.tumours.regions``;
            an empty string = the task's.
        case_prefix: what the names of all cases begin with, where a file's path tells only the rest.
    """

    name: str
    expects: str
    images: Mapping[str, re.Pattern[str]]
    label: str
    raters: int = 1
    lesion_masks: bool = False
    known_problems: Mapping[str, str] = field(default_factory=dict)
    sections: Mapping[str, str] = field(default_factory=dict)
    stacked: tuple[str, ...] = ()
    label_convention: str = ""
    case_prefix: str = ""

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the data set has."""
        return self.stacked or tuple(self.images)

    def files_of(self, modalities: Sequence[str]) -> tuple[str, ...]:
        """The image files that make up a case with these modalities, as keys of ``images``."""
        return (IMAGE,) if self.stacked else tuple(modalities)

    def label_pattern(self, rater: int) -> re.Pattern[str]:
        """The pattern of the labels of one rater, counted from 1."""
        if not 1 <= rater <= self.raters:
            raise InputError(f"rater is {rater}: the layout {self.name} has labels of {self.raters} rater(s)")
        return re.compile(self.label.replace("RATER", str(rater)), re.IGNORECASE)


@dataclass(frozen=True)
class FoundCase:
    """One scan session of one patient.

    Attributes:
        name: unique in the data set.
        patient: the same for all time points of a person.
        images: one file a modality, in channel order, or one file of all of them.
        labels: the label map, several where masks are to be merged; empty for an unlabelled test scan.
        official_test: whether the data set's authors made it a test scan.
        site: hospital or cohort; an empty string where the data set does not tell.
        known_problem: what the data set's users reported about it.
        section: where the data set's own division puts it; an empty string where there is none to keep.
    """

    name: str
    patient: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    official_test: bool
    site: str = ""
    known_problem: str = ""
    section: str = ""


@dataclass(frozen=True)
class Found:
    """The complete cases, and what is wrong with the others."""

    cases: list[FoundCase] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def without_known_problems(self) -> Found:
        """The same without the cases whose data are reported to be wrong."""
        return Found([case for case in self.cases if not case.known_problem], self.problems)


def find_cases(
    root: str | Path, layout: Layout, modalities: Sequence[str], rater: int = 1, labelled: bool = True
) -> Found:
    """Find the cases of a data set.

    Args:
        root: the data set's folder.
        layout: its structure.
        modalities: the modalities wanted, in channel order; that of a 4D file stays the file's.
        rater: whose labels to take.
        labelled: whether labels are looked for at all.

    Returns:
        The cases sorted by name. A case that lacks a file, or has two candidates for one, is a problem and no case.
        When ``labelled``, scans outside the official test part need a label.

    Raises:
        InputError: the layout lacks a modality or the rater, or its 4D files hold more than the modalities.
    """
    _require_modalities(layout, modalities)
    images = layout.files_of(modalities)
    patterns = {name: layout.images[name] for name in images}
    if labelled:
        patterns[LABEL] = layout.label_pattern(rater)
    found = Found()
    for (name, patient, _), group in sorted(_grouped(Path(root), patterns, bool(layout.sections)).items()):
        files, official_test = group.files, group.official_test
        name, patient = layout.case_prefix + name, layout.case_prefix + patient
        with_label = labelled and (LABEL in files or not official_test)
        needed = [*images, *([LABEL] if with_label else [])]
        faults = list(_faults(name, needed, files, layout))
        found.problems.extend(faults)
        if not faults:
            labels = tuple(files[LABEL]) if with_label else ()
            paths = tuple(files[role][0] for role in images)
            known = layout.known_problems.get(patient.lower(), "")
            section = layout.sections.get(group.part, "")
            found.cases.append(FoundCase(name, patient, paths, labels, official_test, group.site, known, section))
    return found


def detect_layout(
    root: str | Path, layouts: Sequence[Layout], modalities: Sequence[str], labelled: bool = True
) -> Layout:
    """The layout that finds most cases in ``root``.

    Raises:
        InputError: no layout finds any file; the message shows what each expects.
    """

    def matches(layout: Layout) -> int:
        if not set(modalities) <= set(layout.modalities):
            return 0
        found = find_cases(root, layout, modalities, labelled=labelled)
        return len(found.cases) * 1000 + len(found.problems)  # complete cases count more than broken ones

    best = max(layouts, key=matches)
    if matches(best) == 0:
        known = "".join(f"\n  --layout {layout.name}: {layout.expects}" for layout in layouts)
        raise InputError(
            f"{root}: no known structure with {', '.join(modalities)}. Known are:{known}\n"
            f'  or give patterns: --{modalities[0]} "{{patient}}/{{case}}_{modalities[0]}.nii.gz" ... '
            '--label "{patient}/{case}_seg.nii.gz"'
        )
    return best


def modality_patterns(frame: str, files: Mapping[str, str]) -> dict[str, re.Pattern[str]]:
    """A pattern for each modality: ``FILE`` in ``frame`` replaced by what the modality's files are called."""
    return {name: re.compile(frame.replace("FILE", file), re.IGNORECASE) for name, file in files.items()}


def general_layout(patterns: Mapping[str, str], labelled: bool = True, lesion_masks: bool = False) -> Layout:
    """A layout from the user's own glob patterns.

    ``*`` and ``?`` match within a folder name, ``**`` across folders, ``{case}`` and ``{patient}`` stand for the names;
    without ``{patient}`` every case is a patient of its own.

    Args:
        patterns: modality (or ``label``) to pattern, relative to the data set's folder.
        labelled: whether a pattern for the labels is needed.
        lesion_masks: as in ``Layout``.

    Returns:
        The layout.

    Raises:
        InputError: no pattern for the label, or patterns whose placeholders are missing or differ.
    """
    if labelled and LABEL not in patterns:
        raise InputError('no pattern for the labels: add --label, such as --label "{patient}/{case}_seg.nii.gz"')
    placeholders = {role: frozenset(re.findall(r"\{(\w*)\}", str(pattern))) for role, pattern in patterns.items()}
    first = next(iter(patterns))
    for role, names in placeholders.items():
        if not names or not names <= {"case", "patient"}:
            raise InputError(
                f"--{role} {patterns[role]!r}: use the placeholder {{case}}, and {{patient}} where there is one"
            )
        if names != placeholders[first]:
            raise InputError(
                f"--{role} {patterns[role]!r}: use the same placeholders as in --{first} {patterns[first]!r}"
            )
    compiled = {role: _from_glob(str(pattern)) for role, pattern in patterns.items()}
    expects = ", ".join(f"{role}: {pattern}" for role, pattern in patterns.items())
    images = {role: re.compile(pattern) for role, pattern in compiled.items() if role != LABEL}
    label = f"(?-i:{compiled.get(LABEL, _NOTHING)})"
    return Layout("general", expects, images, label, lesion_masks=lesion_masks)


def _from_glob(pattern: str) -> str:
    """A glob pattern with placeholders as a regular expression; a repeated placeholder means the same text."""
    seen: set[str] = set()
    parts = []
    for token in re.split(r"(\{\w+\}|\*\*/|\*\*|\*|\?)", pattern.removeprefix("./")):
        if token.startswith("{"):
            name = token[1:-1]
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)")
            seen.add(name)
        else:
            wildcards = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
            parts.append(wildcards.get(token, re.escape(token)))
    return "".join(parts)


_Key = tuple[str, str, bool]


@dataclass
class _Group:
    """The files of one case by role (a modality or the label), its site, and the data set's part that it is in."""

    site: str
    part: str
    files: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def official_test(self) -> bool:
        """Whether the data set's authors made it a test scan."""
        return self.part.startswith(("test", "ts", "validation"))


def _require_modalities(layout: Layout, modalities: Sequence[str]) -> None:
    missing = [name for name in modalities if name not in layout.modalities]
    if missing:
        raise InputError(f"modality {missing[0]!r} is not in {layout.name}: use any of {', '.join(layout.modalities)}")
    if layout.stacked and set(modalities) != set(layout.stacked):
        raise InputError(
            f"modalities is {','.join(modalities)}, but each file of {layout.name} holds {', '.join(layout.stacked)}: "
            "leave --modalities out"
        )


def _grouped(root: Path, patterns: Mapping[str, re.Pattern[str]], across_parts: bool) -> dict[_Key, _Group]:
    """All files that match, by case; masks that were merged by an earlier call are left out.

    Unless ``across_parts``, a test scan and another one of the same name are two cases.
    """
    groups: dict[_Key, _Group] = {}
    for path in _files(root):
        relative = path.relative_to(root).as_posix()
        for role, pattern in patterns.items():
            if (match := pattern.fullmatch(relative)) and not (role == LABEL and made_here(path)):
                said = match.groupdict()
                group = _Group(said.get("site") or "", (said.get("part") or "").lower())
                key = (*_name_and_patient(said), group.official_test and not across_parts)
                groups.setdefault(key, group).files.setdefault(role, []).append(path)
    return groups


def _name_and_patient(groups: Mapping[str, str | None]) -> tuple[str, str]:
    session = groups.get("case") or groups.get("time")
    patient = groups.get("patient") or session or ""
    said = session == patient or re.match(rf"{re.escape(patient)}[^0-9a-zA-Z]", session or "")
    return (session or patient) if said or not session else f"{patient}_{session}", patient


def _files(root: Path) -> Iterator[Path]:
    """Every file below ``root`` by name, through links but never in circles; hidden ones are left out."""
    visited = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and real not in visited)
        if real not in visited:
            yield from (Path(folder) / name for name in sorted(files) if not name.startswith("."))
        visited.add(real)


def _faults(name: str, needed: Sequence[str], files: Mapping[str, list[Path]], layout: Layout) -> Iterator[Problem]:
    for role in needed:
        candidates = files.get(role, [])
        if not candidates:
            there = ", ".join(role for role in files if files[role])
            advice = f"bring it to its place ({layout.expects}), or leave the case out with --skip_broken"
            yield Problem(name, "", f"no {role} file (found only {there})", advice)
        elif len(candidates) > 1 and not (role == LABEL and layout.lesion_masks and _differ_in_name(candidates)):
            advice = "keep one of them, point to the folder that holds one, or give patterns"
            yield Problem(name, str(candidates[0]), f"{len(candidates)} files for {role}, also {candidates[1]}", advice)


def _differ_in_name(paths: Sequence[Path]) -> bool:
    """False for copies of one mask in several folders, or compressed and not."""
    return len({path.name.split(".nii")[0].lower() for path in paths}) == len(paths)
