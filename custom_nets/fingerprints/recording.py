# SPDX-License-Identifier: Apache-2.0
"""The fingerprint of a training: its scans are measured while they are checked, and it is written with the model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_nets.datasets.checks import CheckOptions, check_cases
from custom_nets.datasets.datalist import load_section, read_header
from custom_nets.datasets.modalities import listed_modalities, order_of
from custom_nets.datasets.problems import require_sound
from custom_nets.datasets.volumes import Volume
from custom_nets.fingerprints.appearance import Samples
from custom_nets.fingerprints.content import Fingerprint, write_fingerprint
from custom_nets.fingerprints.measuring import CaseMeasures, Sampled, measured
from custom_nets.fingerprints.summary import correlations_seen, modality_seen, skulls_seen
from custom_nets.registry import bundle

_logger = logging.getLogger(__name__)


class TrainingCases:
    """Measures the cases of a training as they are checked, in any order and from several threads.

    Args:
        cases: of the training, as the data list has them; other cases are passed by.
        modalities: in the network's order.
    """

    def __init__(self, cases: Sequence[Mapping[str, Any]], modalities: Sequence[str]) -> None:
        self.modalities = tuple(modalities)
        self._places = {_key(case): place for place, case in enumerate(cases)}
        self._measured: dict[int, CaseMeasures] = {}

    def __call__(self, case: Mapping[str, Any], volumes: Sequence[Volume], names: Sequence[str]) -> None:
        """Measure a case.

        Args:
            case: of the data list.
            volumes: its image files, read with their samples.
            names: modality of each channel of the files, in their order.
        """
        place = self._places.get(_key(case))
        scans = [_sampled(volume, samples) for volume in volumes for samples in volume.samples]
        if place is None or len(scans) != len(names) or set(names) != set(self.modalities):
            return
        by_name = dict(zip(names, scans, strict=True))
        self._measured[place] = measured({modality: by_name[modality] for modality in self.modalities})

    @property
    def measures(self) -> list[CaseMeasures]:
        """What was measured, in the order of the cases."""
        return [self._measured[place] for place in sorted(self._measured)]


class TrainingFingerprint:
    """The fingerprint of a training, from its check until its model is written.

    Args:
        name: of the bundle.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.fingerprint: Fingerprint | None = None

    def made_from(self, cases: TrainingCases, options: Mapping[str, Any], trained_options: Mapping[str, Any]) -> None:
        """Sum up what was measured; a training of which nothing was measured has no fingerprint.

        Args:
            cases: measured.
            options: of the training.
            trained_options: see :attr:`Fingerprint.options`.
        """
        self.fingerprint = fingerprint_of(self.name, cases, options, trained_options) if cases.measures else None

    def write(self, checkpoint: Path) -> None:
        """Write the fingerprint beside the training's ``checkpoint``, if there is one; by the process that checked."""
        if self.fingerprint is not None:
            path = write_fingerprint(self.fingerprint, checkpoint)
            _logger.info("wrote %s: what the %d training cases were like", path, self.fingerprint.cases)


def fingerprint_of(
    name: str, cases: TrainingCases, options: Mapping[str, Any], trained_options: Mapping[str, Any]
) -> Fingerprint:
    """The fingerprint of measured cases.

    Args:
        name: of the bundle.
        cases: at least one was measured.
        options: all of the training, which say what it does with voxel size and intensities.
        trained_options: see :attr:`Fingerprint.options`.
    """
    measures = cases.measures
    return Fingerprint(
        bundle=name,
        bundle_version=bundle(name).version,
        modalities=cases.modalities,
        cases=len(measures),
        grid=_grid(options),
        raw_intensities=_sees_intensities(options),
        seen={one: modality_seen([case.scans[one] for case in measures]) for one in cases.modalities},
        correlations=correlations_seen(measures),
        skull=skulls_seen(measures),
        options=dict(trained_options),
    )


def measured_fingerprint(
    name: str,
    section: tuple[str, str, str],
    modalities: Sequence[str],
    options: Mapping[str, Any],
    trained_options: Mapping[str, Any],
) -> Fingerprint:
    """Read and measure the scans of a data list's section.

    Args:
        name: of the bundle.
        section: folder of the data set, its list, and which section of it.
        modalities: in the network's order.
        options: see :func:`fingerprint_of`.
        trained_options: likewise.

    Raises:
        InputError: the list cannot be used, or some of its scans.
    """
    dataset_dir, datalist, _ = section
    cases = load_section(*section, labelled=False)
    order = order_of(listed_modalities(read_header(dataset_dir, datalist)), modalities)
    seen = TrainingCases(cases, modalities)
    names = [modalities[place] for place in order] or list(modalities)
    require_sound(check_cases(cases, names, options=CheckOptions(look=seen)), Path(dataset_dir).absolute())
    return fingerprint_of(name, seen, options, trained_options)


def _grid(options: Mapping[str, Any]) -> str:
    if options.get("spacing"):
        return "resampled"
    return "resized" if {"num_slices", "label_graph"} & set(options) else "native"


def _sees_intensities(options: Mapping[str, Any]) -> bool:
    """Whether scans are divided by a constant, or less and by constants of the data set, and not by their own."""
    return options.get("intensity", "divide" if "intensity_mean" in options else "") == "divide"


def _sampled(volume: Volume, samples: Samples) -> Sampled:
    first, second, third = volume.grid
    return Sampled(samples, (first, second, third), volume.affine, volume.oriented)


def _key(case: Mapping[str, Any]) -> tuple[str, ...]:
    image = case["image"]
    return tuple(map(str, image)) if isinstance(image, list | tuple) else (str(image),)
