# SPDX-License-Identifier: Apache-2.0
"""Which modality a file or a DICOM series is, by the patterns that a bundle declares and those that the user gives.

A pattern is looked for anywhere in a name, from the beginning of a word to the end of one. Words are what stands
between anything but letters and digits; upper and lower case are equal. ``*`` and ``?`` stand for letters of one word,
and a ``*`` that is a word of its own for any number of words: ``t1_*_gd`` is found in c01_T1-mprage_sag_Gd. Of patterns
that overlap the longest decides, so that t1_post is no T1; of those that do not the last one, since names go from the
patient to the modality.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from custom_nets.errors import InputError
from custom_nets.registry import Bundle
from custom_nets.scans.file_names import label_end, stem_of, words_of

LABEL = "label"
#: The pattern of every name that says nothing of its modality.
ANY = "*"

#: What says that an image is of some sequence, whether a bundle wants that one or not.
SEQUENCES = (
    *("t1", "t1w", "t1n", "mprage", "t1ce", "t1c", "t1gd", "t1post", "t1km", "t1wks"),
    *(f"{t1}_*_{agent}" for t1 in ("t1*", "mprage") for agent in ("ce", "gd", "gad*", "post", "km", "contrast")),
    *("post_*_t1", "post_*_t1w", "ce_*_t1w", "gd_*_t1", "t1_c"),
    *("t2", "t2w", "t2f", "t2_star", "t2star", "t2s", "swi", "swan", "flair", "t2_*_flair", "t2flair"),
    *("dark_fluid", "t2_*_dark_fluid", "pd", "pdw", "pd_*_t2", "stir", "t2_*_stir", "t1map", "t2map", "t2starw"),
    *("adc", "dwi", "dwi_*_adc", "b0", "trace", "tracew", "ktrans", "dce", "cbf", "cbv", "asl", "bold"),
    *("epi", "tof", "mra", "ct", "pet", "localizer", "scout", "survey", "phase", "magnitude*", "fieldmap"),
)
_GRID = re.compile(r"_(?:to|regto|in|on|onto|space)_$")  # what follows names the grid, not the modality


@dataclass(frozen=True)
class Reading:
    """What a name says.

    Attributes:
        modality: that the name matches; an empty string for none.
        keys: what is left of the name without the match, by which files of one case are brought together; the most
            likely first.
        rivals: further modalities that the same words match as well, so that it cannot be told which one it is.
        also: further modalities that other words match, as the first T1 of P1_T1_FLAIR does; what the last one says is
            right only if further files agree.
        other: the name says that it is none of the wanted modalities.
        label: whether it is a label map or a result, and no scan.
        named: whether anything in the name says so; False where every name would do.
    """

    modality: str = ""
    keys: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    other: bool = False
    label: bool = False
    named: bool = False


@dataclass(frozen=True)
class _Hit:
    modality: str  # an empty string for a sequence that is not wanted
    given: bool
    start: int
    end: int
    literals: int

    def overlaps(self, other: _Hit) -> bool:
        return self.start < other.end and other.start < self.end

    def beats(self, other: _Hit) -> bool:
        """Whether of two that overlap this one decides."""
        if self.modality == other.modality or not self.overlaps(other):
            return False
        if not (self.modality and other.modality) and self.given != other.given:
            return self.given
        sizes = [(hit.end - hit.start, hit.literals) for hit in (self, other)]
        return sizes[0] > sizes[1]


class NamePatterns:
    """The patterns of a bundle's modalities, of which the user may have replaced some.

    Args:
        bundle: its metadata's ``file_name_patterns``; a modality without any goes by its name.
        given: modality, or "label", -> globs that replace those of the bundle.

    Raises:
        InputError: for a modality that the bundle does not have.
    """

    def __init__(self, bundle: Bundle, given: Mapping[str, Sequence[str]] | None = None) -> None:
        self.modalities = bundle.modalities
        self.given = by_modality(given or {}, self.modalities)
        self._label = _compiled(self.given.get(LABEL, ()))
        declared = {name: bundle.file_name_patterns.get(name, (name, f"{name}w")) for name in self.modalities}
        self.wanted = {name: tuple(self.given.get(name, declared[name])) for name in self.modalities}
        self._wanted = {name: _compiled(patterns) for name, patterns in self.wanted.items()}
        self._anything = next((name for name, patterns in self.wanted.items() if ANY in patterns), "")
        self._sequences = _compiled(SEQUENCES)

    def read(self, name: str) -> Reading:
        """What a file's name without its extension says, or the description of a DICOM series."""
        words = words_of(name)
        hits = [hit for hit in self._hits(words) if hit.given or not _GRID.search(words[: hit.start])]
        wanted = {(hit.start, hit.end) for hit in hits if hit.modality}
        hits = [hit for hit in hits if hit.modality or (hit.start, hit.end) not in wanted]
        hits = [hit for hit in hits if not any(other.beats(hit) for other in hits)]
        last = max(hits, key=lambda hit: (hit.end, hit.end - hit.start, hit.literals), default=None)
        place, certain = label_end(words)
        if place and (certain or last is None or last.end <= place) and not self._asks_for_label(last):
            return Reading(label=True, named=True)
        if last is None:
            named = self._whole_name(name)
            modality = named or self._anything
            rest = self._keys(words, self._cut_whole(name, modality)) if modality else ()
            return Reading(modality, rest, named=bool(named))
        if not last.modality:
            asked = ANY in self.given.get(self._anything, ())  # the user's own * is said of every file
            return Reading(self._anything, self._keys(words, [])) if asked else Reading(other=True, named=True)
        others = [hit for hit in hits if hit.modality not in ("", last.modality)]
        rivals = dict.fromkeys(hit.modality for hit in others if hit.overlaps(last) or (hit.given and last.given))
        also = dict.fromkeys(hit.modality for hit in others if hit.modality not in rivals)
        spans = sorted({(hit.start, hit.end) for hit in hits if hit.modality == last.modality and hit.end == last.end})
        keys = [f"{words[:start]}_{words[end:]}".strip("_") for start, end in spans]
        return Reading(last.modality, self._keys(words, keys), tuple(rivals), tuple(also), named=True)

    def label_keys(self, name: str) -> tuple[str, ...]:
        """What is left of the name of a label map without the user's pattern of it; empty where it is none."""
        words = words_of(name)
        found = [(match.start(1), match.end(1)) for one in self._label for match in one.expression.finditer(words)]
        return tuple(dict.fromkeys(f"{words[:start]}_{words[end:]}".strip("_") for start, end in found))

    def hint(self, modality: str, files: bool = True) -> str:
        """How to say which files, or which DICOM series, are of that modality."""
        path = f" or '{{case}}_{modality}.nii.gz'" if files else ""
        return f"--{modality} PATTERN, such as --{modality} '*_{modality.lower()}*'{path}"

    def _keys(self, words: str, cut: Sequence[str]) -> tuple[str, ...]:
        """Scans of a single modality are told apart by their whole names first."""
        whole = (words.strip("_"),) if len(self.modalities) == 1 else ()
        return tuple(dict.fromkeys((*whole, *cut)))

    def _hits(self, words: str) -> Iterator[_Hit]:
        compiled = [("", self._sequences), *self._wanted.items()]
        for modality, patterns in compiled:
            for pattern in patterns:
                if pattern.piece not in words:
                    continue
                for match in pattern.expression.finditer(words):
                    yield _Hit(modality, modality in self.given, match.start(1), match.end(1), pattern.literals)

    def _asks_for_label(self, hit: _Hit | None) -> bool:
        """Whether the user's own pattern says seg or mask: then such a file is wanted."""
        patterns = self.given.get(hit.modality, ()) if hit is not None and hit.given else ()
        return any(label_end(words_of(pattern))[0] for pattern in patterns)

    def _whole_name(self, name: str) -> str:
        """The modality of which a glob of the user describes the whole name, where no run of words did."""
        fits = (
            modality
            for modality, patterns in self.given.items()
            if modality != LABEL and any(fnmatchcase(name.casefold(), _bare(pattern)) for pattern in patterns)
        )
        return next(fits, "")

    def _cut_whole(self, name: str, modality: str) -> list[str]:
        """The name without the letters of the glob, but for those that it begins with: ``sub*_mprage``."""
        rest = name.casefold()
        for pattern in self.given.get(modality, ()):
            if fnmatchcase(rest, _bare(pattern)):
                for piece in re.split(r"[*?]+", _bare(pattern))[1:]:
                    rest = "_".join(rest.rsplit(piece, 1)) if piece else rest
                break
        return [words_of(rest).strip("_")]


@dataclass(frozen=True)
class _Compiled:
    expression: re.Pattern[str]
    literals: int
    piece: str  # letters that every match holds, which tell most names apart at once


def by_modality(given: Mapping[str, object], modalities: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What the user says of each modality, under the bundle's names, in tuples.

    Raises:
        InputError: for a modality that the bundle does not have.
    """
    known = {name.casefold(): name for name in (*modalities, LABEL)}
    result = {}
    for name, value in given.items():
        if str(name).casefold() not in known:
            raise InputError(f"--{name}: the bundle has no such modality: use {', '.join((*modalities, LABEL))}.")
        result[known[str(name).casefold()]] = tuple(map(str, value if isinstance(value, list | tuple) else [value]))
    return result


def _bare(pattern: str) -> str:
    return stem_of(Path(pattern)).casefold()


def _compiled(patterns: Sequence[str]) -> list[_Compiled]:
    return [_compile(pattern) for pattern in patterns if pattern != ANY]


def _compile(pattern: str) -> _Compiled:
    words = words_of(_bare(pattern)).strip("_").split("_")
    while len(words) > 1 and words[0] == "*":
        words = words[1:]
    while len(words) > 1 and words[-1] == "*":
        words = words[:-1]
    parts = []
    for number, word in enumerate(words):
        if word == "*" and len(words) > 1:
            parts.append("(?:[^_]+_)*")
        else:
            escaped = re.escape(word).replace(r"\*", "[^_]*").replace(r"\?", "[^_]")
            parts.append(escaped + ("_" if number < len(words) - 1 else ""))
    literals = sum(letter not in "*?" for letter in "".join(words))
    piece = max((part for word in words for part in re.split(r"[*?]", word)), key=len)
    return _Compiled(re.compile(rf"(?<=_)(?=({''.join(parts)})_)"), literals, piece)
