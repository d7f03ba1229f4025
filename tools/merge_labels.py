# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.merge_labels MASKS_DIR OUT`: binary masks, one file a structure, to one label map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tqdm import tqdm

from custom_nets.datasets.label_table import read_label_table
from custom_nets.datasets.mask_folders import MaskFolder, MergedCase, mask_folders, merge_folder, values_named
from custom_nets.datasets.merging import RULES
from custom_nets.datasets.problems import Problem, errors_of, report, text_table
from custom_nets.errors import InputError
from tools._command import run


def main(
    masks_dir: str,
    output: str,
    *,
    table: str | None = None,
    overlap: str = "first",
    order: str | Sequence[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Merge binary NIfTI masks, each named after its structure, into one label map on their grid.

    Case, spaces, commas, hyphens and underscores of the names do not matter, nor where the side stands: "Femur,
    left.nii" and "left_femur.nii.gz" are the same. Prints which structures share voxels and who got them, and writes
    that as JSON beside the label map (OUT_merge.json).

    Args:
        masks_dir: folder of the masks of one case, or a folder of such folders, one a case.
        output: the label map, .nii.gz; for several cases a folder, which gets {case}.nii.gz.
        table: label table, JSON such as {"0": "background", "1": "Femur, left"} or lines such as Femur, left:1; left
            out, the 54 structures of s2anet.
        overlap: who gets a voxel of several masks, one of first (the lowest label value, or who comes first in order;
            as published, where the order was that of the directory), last (the reverse), smallest or largest (the
            structure with fewer or more voxels) and error (nobody, the case is refused).
        order: structures that come first, with commas between them, such as femur_left,hip_bone_left; the others
            follow by label value.
        overwrite: replace label maps that exist.
    """
    structures = read_label_table(table)
    rule = next((rule for rule in RULES if rule == overlap), None)
    if rule is None:
        raise InputError(f"overlap is {overlap!r}: use one of {', '.join(RULES)}")
    preferred = values_named(_names(order), structures)
    folders = mask_folders(str(masks_dir), str(output))
    taken = [folder.output for folder in folders if folder.output.exists()]
    if taken and not overwrite:
        raise InputError(f"{taken[0]} exists: add --overwrite to replace it, or give another output")
    done, problems = list[MergedCase](), list[Problem]()
    for folder in tqdm(folders, desc="merging masks", unit="case", disable=None if len(folders) > 1 else True):
        merged, faults = merge_folder(folder, structures, rule, preferred)
        done += [merged] if merged else []
        problems += faults
    print(report(problems, str(masks_dir)))
    for text in _tables(done, structures):
        print(text)
    _conclude(folders, done, errors_of(problems))


def _conclude(folders: Sequence[MaskFolder], done: Sequence[MergedCase], errors: Sequence[Problem]) -> None:
    """Say what was written, and end with an error when a case is missing."""
    written = {one.case for one in done}
    outputs = [folder.output for folder in folders if folder.case in written]
    if outputs:
        others = f" and {len(outputs) - 1} more label maps beside it" if len(outputs) > 1 else ""
        print(f"wrote {outputs[0]}{others}")
    if errors:
        broken = list(dict.fromkeys(problem.case for problem in errors))
        raise InputError(f"{len(broken)} of {len(folders)} case(s) not merged, see the table: {', '.join(broken)}")


def _tables(done: Sequence[MergedCase], structures: Mapping[int, str]) -> Iterator[str]:
    if not done:
        return
    rows = []
    for one in done:
        shared = sum(one.merged.claimed.values()) - sum(one.merged.kept.values())
        shape = "x".join(map(str, one.merged.label.shape))
        rows.append((one.case, shape, len(one.merged.claimed), sum(one.merged.kept.values()), shared, len(one.absent)))
    yield text_table(("case", "shape", "masks", "voxels", "voxels lost to others", "absent"), rows)
    voxels, cases = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    for one in done:
        for pair in one.merged.overlaps:
            voxels[pair.winner, pair.loser] += pair.voxels
            cases[pair.winner, pair.loser] += 1
    if voxels:
        pairs = [(structures[got], structures[lost], n, cases[got, lost]) for (got, lost), n in voxels.most_common()]
        yield text_table(("got the shared voxels", "lost them", "voxels", "cases"), pairs)
    absent = Counter(value for one in done for value in one.absent)
    if absent:
        named = [
            structures[value] + (f" (in {absent[value]} of {len(done)})" if len(done) > 1 else "")
            for value in sorted(absent)
        ]
        yield f"no mask of: {'; '.join(named)}"


def _names(order: str | Sequence[str] | None) -> list[str]:
    """``a,b`` as the command line gives it: a string, or already a tuple."""
    if order is None:
        return []
    parts = order if isinstance(order, list | tuple) else str(order).split(",")
    return [str(part).strip() for part in parts]


if __name__ == "__main__":
    run(main)
