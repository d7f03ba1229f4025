# SPDX-License-Identifier: Apache-2.0
"""What the data lists of each task look like: its modalities, its labels, and the public data sets known for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from custom_nets.datasets.atlas_layouts import ATLAS_R1_1, ATLAS_R1_2, ATLAS_R2_0
from custom_nets.datasets.brats_layouts import BRATS_FROM_2023, BRATS_TO_2021, MSD_TASK01, TUMOUR_FOLDERS
from custom_nets.datasets.label_table import read_label_table
from custom_nets.datasets.layouts import Layout
from custom_nets.datasets.ms_layouts import ISBI2015, LJUBLJANA, MSLESSEG
from custom_nets.datasets.pelvis_layouts import CASE_FOLDERS, DECATHLON, SPLIT_FOLDERS
from custom_nets.datasets.spine_layouts import MRSPINESEG, MRSPINESEG_SCRIPTS, SPIDER_SERIES, SPINE_FOLDERS
from custom_nets.datasets.tumour_labels import label_names
from custom_nets.errors import InputError
from custom_nets.label_graphs.reading import read_label_graph


@dataclass(frozen=True)
class Domain:
    """One task.

    Attributes:
        modalities: the input channels in the bundle's order.
        labels: name of each label value, background included; empty where ``labels_of`` tells.
        layouts: the data sets whose structure is known.
        fractions: shares of the patients for training, validation, testing unless the user gives others.
        always_test: whether labelled scans are held out for testing also where the data set has test scans of its own.
            Those without labels cannot be scored, so they are listed in a file of their own.
        labels_of: the bundle that lists the labels, for which a user may give others; an empty string = ``labels``.
        label_convention: of the label maps of brain tumours, where the layout and the user name none; it tells the
            labels, see :func:`in_convention`. An empty string for other tasks.
        published_split: whether cases are dealt out by the published rule unless the user wants shares or folds.
        published_folds: whether folds are dealt out by the published rule unless the user wants shares.
        label_graph: of the label maps of spines, where the user names none; it tells the labels, see
            :func:`with_graph`. An empty string for other tasks.
        series: the scans of one session by name, where the user may choose another than ``layouts`` have, see
            :func:`in_series`.
    """

    modalities: tuple[str, ...]
    labels: Mapping[int, str]
    layouts: Sequence[Layout]
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    always_test: bool = False
    labels_of: str = ""
    label_convention: str = ""
    published_split: bool = False
    published_folds: bool = False
    label_graph: str = ""
    series: Mapping[str, Layout] = field(default_factory=dict)

    @property
    def lesion_masks(self) -> bool:
        """Whether the labels of the known data sets are masks that may have to be merged or binarised."""
        return any(layout.lesion_masks for layout in self.layouts)


MS_LESIONS = Domain(("T1", "T2", "FLAIR"), {0: "background", 1: "lesion"}, (MSLESSEG, ISBI2015, LJUBLJANA))

# Tomita et al. 2020 tested on 31 of 239 scans. How they divided the other 208 is not told: a tenth of all is ours.
_ATLAS_TESTED = 31 / 239
ATLAS = Domain(
    ("T1",),
    {0: "background", 1: "lesion"},
    (ATLAS_R1_1, ATLAS_R1_2, ATLAS_R2_0),
    fractions=(0.9 - _ATLAS_TESTED, 0.1, _ATLAS_TESTED),
    always_test=True,
)

# S2aNet was tested on 6 of 27 volumes. How the other 21 were divided is not told: a tenth of all is ours.
_PELVIS_TESTED = 6 / 27
PELVIS = Domain(
    ("MR",),
    {},
    (SPLIT_FOLDERS, DECATHLON, CASE_FOLDERS),
    fractions=(0.9 - _PELVIS_TESTED, 0.1, _PELVIS_TESTED),
    labels_of="s2anet",
)

BRATS = Domain(
    ("T1", "T2", "T1CE", "FLAIR"),
    {},
    (BRATS_TO_2021, BRATS_FROM_2023, MSD_TASK01, TUMOUR_FOLDERS),
    fractions=(0.8, 0.2, 0.0),
    label_convention="brats",
    published_split=True,
)

# The masks of MRSpineSeg's own test scans are not public.
MRSPINESEG_CHALLENGE = Domain(
    ("T2",), {}, (MRSPINESEG, MRSPINESEG_SCRIPTS), always_test=True, published_folds=True, label_graph="mrspineseg"
)
SPIDER = Domain(("T2",), {}, (SPIDER_SERIES["t2"],), label_graph="spider", series=SPIDER_SERIES)
SPINE = Domain(("T2",), {}, SPINE_FOLDERS, label_graph="mrspineseg")

DOMAINS: dict[str, Domain] = {
    "ms_lesions": MS_LESIONS,
    "atlas": ATLAS,
    "pelvis": PELVIS,
    "brats": BRATS,
    "mrspineseg": MRSPINESEG_CHALLENGE,
    "spider": SPIDER,
    "spine": SPINE,
}


def domain_named(name: str, table: str | None = None) -> Domain:
    """The domain of that name.

    Args:
        name: one of ``DOMAINS``.
        table: a label table instead of the bundle's, see ``read_label_table``.

    Raises:
        InputError: with the names that exist; for a table that cannot be read, or where the labels are fixed.
    """
    if name not in DOMAINS:
        raise InputError(f"domain {name!r} is unknown: use one of {', '.join(DOMAINS)}")
    domain = DOMAINS[name]
    if domain.labels_of:
        return replace(domain, labels=read_label_table(table, domain.labels_of))
    if domain.label_convention:
        domain = in_convention(domain, domain.label_convention)
    if domain.label_graph:
        domain = with_graph(domain, domain.label_graph)
    if table is not None:
        fixed = ", ".join(f"{value} {label}" for value, label in domain.labels.items())
        raise InputError(f"table is {table!r}: the labels of {name} are always {fixed}, so leave it out")
    return domain


def in_convention(domain: Domain, convention: str) -> Domain:
    """The same task with the labels of another convention.

    Raises:
        InputError: for an unknown convention, or a task whose labels follow none.
    """
    if not domain.label_convention:
        raise InputError(f"label_convention is {convention!r}: only label maps of brats have one, so leave it out")
    return replace(domain, labels=label_names(convention), label_convention=convention)


def with_graph(domain: Domain, label_graph: str) -> Domain:
    """The same task with the labels of another graph.

    Raises:
        InputError: for a graph that cannot be read, or a task whose labels have none.
    """
    if not domain.label_graph:
        raise InputError(f"label_graph is {label_graph!r}: only label maps of spines have one, so leave it out")
    return replace(domain, labels=read_label_graph(label_graph).file_names(), label_graph=label_graph)


def in_series(domain: Domain, series: str) -> Domain:
    """The same task with another series of its scans.

    Raises:
        InputError: naming the series that there are, or for a task whose scans are not told apart so.
    """
    if series not in domain.series:
        there = f"use one of {', '.join(domain.series)}" if domain.series else "only scans of spider have several"
        raise InputError(f"series is {series!r}: {there}")
    layout = domain.series[series]
    return replace(domain, layouts=(layout,), modalities=layout.modalities)
