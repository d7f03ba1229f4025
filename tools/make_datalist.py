# SPDX-License-Identifier: Apache-2.0
"""Find the scans in a folder, check them, split them by patient and write ``datalist.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_nets.datasets.building import (
    OFFICIAL_TEST,
    Examined,
    SplitPlan,
    assign,
    datalist_content,
    examine_found,
    has_plain_label,
    has_test_apart,
    with_plain_labels,
    without_broken,
)
from custom_nets.datasets.checks import CheckOptions
from custom_nets.datasets.domains import Domain, domain_named, in_convention, in_series, with_graph
from custom_nets.datasets.layouts import LABEL, Found, Layout, detect_layout, find_cases, general_layout
from custom_nets.datasets.merged_masks import FOLDER
from custom_nets.datasets.metaimage import convert_folder
from custom_nets.datasets.problems import errors_of, report
from custom_nets.datasets.spine_layouts import spider_files
from custom_nets.datasets.splits import PUBLISHED_SEED
from custom_nets.datasets.tumour_labels import KEY as CONVENTION_KEY
from custom_nets.datasets.volumes import AFFINE_TOLERANCE_MM
from custom_nets.errors import InputError
from custom_nets.files import write_json
from custom_nets.label_graphs.reading import KEY as GRAPH_KEY
from custom_nets.label_graphs.reading import listed_label_graph
from tools._arguments import number, whole
from tools._case_table import case_table, fold_of
from tools._command import run


def main(
    domain: str,
    dataset_dir: str,
    *,
    layout: str = "auto",
    modalities: str | Sequence[str] | None = None,
    table: str | None = None,
    label_convention: str | None = None,
    label_graph: str | None = None,
    series: str | None = None,
    fractions: str | Sequence[float] | None = None,
    folds: int | None = None,
    fold: int | None = None,
    seed: int | None = None,
    rater: int = 1,
    official_test: bool = True,
    unlabelled: bool = False,
    skip_broken: bool = False,
    skip_known_problems: bool = False,
    affine_tolerance_mm: float = AFFINE_TOLERANCE_MM,
    output: str = "datalist.json",
    overwrite: bool = False,
    **patterns: str,
) -> None:
    """Find the scans in a folder, check every file, split by patient and write datalist.json.

    Patients stay together; sites and lesion volumes are spread evenly, except in the published divisions of brats and,
    with folds, of mrspineseg. Two tables are printed: the cases, and all problems. Lesion masks that are several a
    scan, or hold other values than 0 and 1 (atlas), are merged into merged_labels/CASE_label.nii.gz. Masks of pelvic
    structures, one file each, become label maps by merge_labels. The .mha files of spider are converted once, to NIfTI
    in DATASET_DIR/nifti.
    Any other layout is given by a pattern for each modality and the label, relative to DATASET_DIR, such as
    --T1 "{patient}/{case}_T1.nii.gz" --label "{patient}/{case}_seg.nii.gz"; * and ** work as in a shell.

    Args:
        domain: the task: ms_lesions, atlas, pelvis, brats, or of spines mrspineseg, spider and spine (anybody's scans).
        dataset_dir: the folder of the data set; the list is written into it, with paths relative to it.
        layout: auto, a known layout (of ms_lesions mslesseg, isbi2015, ljubljana; of atlas atlas_r1.1, atlas_r1.2,
            atlas_r2.0; of pelvis split_folders, decathlon, case_folders; of brats brats, which is that of 2017
            to 2021, brats2023, msd_task01, case_folders; of mrspineseg mrspineseg, which is the download, and
            mrspineseg_scripts; of spine those of pelvis), or general with patterns.
        modalities: the input channels in order, such as T1,T2,FLAIR, which is the default of ms_lesions; that of atlas
            is T1, that of pelvis MR, that of brats T1,T2,T1CE,FLAIR, that of spines T2. The 4D files of msd_task01
            keep their own order.
        table: label table of pelvis, JSON or lines such as Femur, left:1; left out, the 54 structures of s2anet.
        label_convention: values of core, oedema and enhancing tumour in the label maps of brats: brats (1, 2, 4),
            brats2023 (1, 2, 3) or msd (2, 1, 3). Left out, that of the layout; brats with patterns.
        label_graph: of the label maps of spines: mrspineseg, spider, or a file that python -m tools.label_graph wrote.
            Left out, spider's own, else mrspineseg. The list names it, files in DATASET_DIR relative to that.
        series: of spider: t2, t1 or t2_space; left out, t2.
        fractions: shares of the patients for training,validation,testing. Left out, ms_lesions gets 0.7,0.1,0.2 unless
            the data set has its own test scans; atlas 0.1 for validation and, as in the paper, 31/239 for testing;
            pelvis 0.1 and, as in the paper, 6/27, unless folders train, val and test divide it already; brats the
            published division, a fifth of the sorted cases for validation and the rest for training; spines
            0.7,0.1,0.2. With folds, only the test share counts, and it is 0 unless given.
        folds: number of folds for cross-validation; writes datalist_fold0.json ... and datalist_folds.json. Those of
            mrspineseg are the published ones unless fractions is given, where each tests its share of a permutation of
            the cases and validates the first 4 of the others.
        fold: write only this fold, counted from 0, as OUTPUT.
        seed: another seed gives another split; left out, 0, and 256 for the published division of brats.
        rater: whose labels to take where several persons drew (isbi2015: 1 or 2).
        official_test: use the data set's own test scans as testing; with --noofficial_test deal them out too and
            leave out those without labels. Those of atlas have none and cannot be scored together with the scans held
            out for testing, so that they become the testing list of datalist_official_test.json. So do those of
            mrspineseg, and those of brats where fractions has a test share.
        unlabelled: the scans have no labels; all become testing, for inference.
        skip_broken: leave cases with errors out instead of refusing to write.
        skip_known_problems: leave cases out whose labels the data set's users found wrong (atlas_r2.0: two).
        affine_tolerance_mm: how far apart two files of a case may put a corner of the volume.
        output: name of the list, in DATASET_DIR.
        overwrite: replace a list that exists.
        patterns: pattern of each modality and of the label.
    """
    root, task = Path(str(dataset_dir)), _task(domain, table, label_convention, label_graph, series)
    if not root.is_dir():
        raise InputError(f"dataset_dir {str(root)!r} is not a folder: give the folder that holds the scans")
    if task.series:
        _convert(root, task.layouts[0])
    channels = _words(modalities) if modalities is not None else list(task.modalities)
    plan = _plan(task, _shares(fractions), _optional("folds", folds), _optional("seed", seed), official_test)
    structure = _layout(root, task, layout, channels, patterns, not unlabelled)
    print(f"layout {structure.name}: {structure.expects}")
    if label_convention is None and structure.label_convention:
        task = in_convention(task, structure.label_convention)
    found = find_cases(root, structure, channels, whole("rater", rater), not unlabelled)
    channels = list(structure.stacked) or channels
    if skip_known_problems:
        found = found.without_known_problems()
    lists_official = has_test_apart(found.cases, plan)
    outputs = _outputs(root, str(output), folds, _optional("fold", fold), lists_official, overwrite)
    tolerance_mm = number("affine_tolerance_mm", affine_tolerance_mm)
    options = CheckOptions(
        affine_tolerance_mm=tolerance_mm,
        lesion_masks=structure.lesion_masks,
        label_convention=task.label_convention,
        label_graph=task.label_graph,
    )
    usable = _usable(root, found, channels, list(task.labels), options, skip_broken)
    if structure.lesion_masks:
        usable = _with_plain_labels(root, usable, tolerance_mm)
    splits = assign(usable, plan)
    own_part = "testing" if plan.tests_in_folds else "validation"
    print(case_table(usable, splits, fold, own_part))
    header = _header(domain, task, channels, structure, plan, rater, root)
    contents = [datalist_content(root, usable, parts, task, header) for parts in splits]
    if fold is not None:
        contents = [contents[fold]]
    elif folds is not None:
        key = "tested_in_fold" if plan.tests_in_folds else "validated_in_fold"
        contents.append({**header, key: fold_of(usable, splits, own_part)})
    if OFFICIAL_TEST in splits[0]:
        apart = ["testing" if part == OFFICIAL_TEST else None for part in splits[0]]
        contents.append(datalist_content(root, usable, apart, task, header))
    for path, content in zip(outputs, contents, strict=False):  # the last is not needed if its scans are all broken
        print(f"wrote {write_json(path, content)}")


def _task(
    domain: str, table: str | None, label_convention: str | None, label_graph: str | None, series: str | None
) -> Domain:
    task = domain_named(str(domain), table)
    if label_convention is not None:
        task = in_convention(task, str(label_convention))
    if label_graph is not None:
        task = with_graph(task, str(label_graph))
    return task if series is None else in_series(task, str(series))


def _plan(
    task: Domain, fractions: list[float] | None, folds: int | None, seed: int | None, official_test: bool
) -> SplitPlan:
    as_published = task.published_split and fractions is None and folds is None
    # Scans without labels would keep those that are held out from being scored.
    tests_apart = task.always_test or (task.published_split and fractions is not None and fractions[-1] > 0)
    default_seed = PUBLISHED_SEED if as_published else 0
    return SplitPlan(
        fractions,
        folds,
        default_seed if seed is None else seed,
        official_test,
        task.fractions,
        tests_apart,
        task.published_split,
        task.published_folds,
    )


def _header(
    domain: str, task: Domain, channels: Sequence[str], structure: Layout, plan: SplitPlan, rater: int, root: Path
) -> dict[str, Any]:
    """What a list says besides its cases."""
    made_by = {
        "layout": structure.name,
        "seed": plan.seed,
        "fractions": plan.fractions,
        "folds": plan.folds,
        "rater": rater,
    }
    if task.published_split:
        made_by["published_split"] = plan.as_published
    if task.published_folds:
        made_by["published_folds"] = plan.tests_in_folds
    header: dict[str, Any] = {
        "name": domain,
        "modality": {str(number): name for number, name in enumerate(channels)},
        "made_by": made_by,
    }
    if task.label_convention:
        header[CONVENTION_KEY] = task.label_convention
    if task.label_graph:
        header[GRAPH_KEY] = listed_label_graph(root, task.label_graph)
    return header


def _convert(root: Path, structure: Layout) -> None:
    """Make the NIfTI files of a data set that is published as MetaImage files."""
    written, there = convert_folder(root, spider_files(structure))
    if written or there:
        print(f"converted {len(written)} .mha file(s) to NIfTI, {there} were there already")


def _usable(
    root: Path, found: Found, channels: Sequence[str], labels: Sequence[int], options: CheckOptions, skip_broken: bool
) -> list[Examined]:
    """Check the cases, print all problems, and keep the sound cases if that is allowed."""
    examined, problems = examine_found(found, channels, labels, options)
    print(report(problems, root))
    errors = errors_of(problems)
    if errors and not skip_broken:
        broken = len({problem.case for problem in errors})
        raise InputError(f"{broken} case(s) of {root} have errors, see the table: correct them or add --skip_broken")
    usable = without_broken(examined)
    if not usable:
        raise InputError(f"{root}: no usable case is left: see the table of problems, and --layout")
    return usable


def _with_plain_labels(root: Path, usable: Sequence[Examined], tolerance_mm: float) -> list[Examined]:
    """Give every case one 0/1 label file, and say how many had to be written."""
    other = [one for one in usable if not has_plain_label(one)]
    if not other:
        return list(usable)
    merged = sum(len(one.case.labels) > 1 for one in other)
    result = with_plain_labels(root, usable, tolerance_mm)
    print(
        f"{root / FOLDER}: masks of {merged} scan(s) merged, single masks of {len(other) - merged} scan(s) with other "
        "values than 0 and 1 made 0/1"
    )
    return result


def _layout(
    root: Path, task: Domain, name: str, channels: Sequence[str], patterns: dict[str, str], labelled: bool
) -> Layout:
    known = {layout.name: layout for layout in task.layouts}
    if name not in ("auto", "general", *known):
        raise InputError(f"layout {name!r} is unknown: use one of auto, {', '.join(known)}, general")
    roles = [*channels, *([LABEL] if labelled else [])]
    stray = [option for option in patterns if option not in roles or name in known]
    if stray:
        raise InputError(
            f"option --{stray[0]} is unknown here: patterns are for {', '.join(roles)} with --layout general"
        )
    if name in known:
        return known[name]
    if name == "auto" and not patterns:
        return detect_layout(root, task.layouts, channels, labelled)
    absent = [role for role in roles if role not in patterns]
    if absent:
        raise InputError(f'no pattern for {absent[0]}: add --{absent[0]} "{{patient}}/{{case}}_{absent[0]}.nii.gz"')
    return general_layout(patterns, labelled, task.lesion_masks)


def _outputs(
    root: Path, output: str, folds: int | None, fold: int | None, lists_official: bool, overwrite: bool
) -> list[Path]:
    """The files to write, known to be free before the long reading begins."""
    path = root / output
    if path.suffix != ".json" or path.parent.resolve() != root.resolve():
        raise InputError(f"output {output!r}: give a file name ending in .json; the list lies in the data set's folder")
    if fold is not None and (folds is None or not 0 <= fold < folds):
        raise InputError(f"fold is {fold}: give --folds K and a fold from 0 to K - 1")
    paths = [path]
    if folds is not None and fold is None:
        paths = [path.with_name(f"{path.stem}_fold{number}.json") for number in range(folds)]
        paths.append(path.with_name(f"{path.stem}_folds.json"))
    if lists_official:
        paths.append(path.with_name(f"{path.stem}_official_test.json"))
    taken = [path for path in paths if path.exists()]
    if taken and not overwrite:
        raise InputError(f"{taken[0]} exists: add --overwrite to replace it, or --output another name")
    return paths


def _words(value: str | Sequence[str]) -> list[str]:
    """``T1,T2`` as the command line gives it: a string, or already a tuple."""
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    words = [str(word).strip() for word in parts]
    if len(set(words)) < len(words) or not all(words):
        raise InputError(f"modalities is {','.join(words)}: name each modality once")
    return words


def _optional(option: str, value: Any) -> int | None:
    return None if value is None else whole(option, value)


def _shares(value: Any) -> list[float] | None:
    if value is None:
        return None
    try:
        return [float(part) for part in (value.split(",") if isinstance(value, str) else value)]
    except (TypeError, ValueError):
        raise InputError(f"fractions is {value!r}: give three numbers, such as 0.7,0.1,0.2") from None


if __name__ == "__main__":
    run(main)
