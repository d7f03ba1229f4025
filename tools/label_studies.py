# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.label_studies NAME DATASET_DIR STUDIES`: a data set as MONAI Label takes it, one file a scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from tqdm import tqdm

from custom_nets.case_names import case_name
from custom_nets.datasets.datalist import Case, read_datalist
from custom_nets.datasets.modalities import channel_order
from custom_nets.datasets.reader import SameGridReader
from custom_nets.datasets.tumour_labels import label_convention
from custom_nets.errors import InputError
from custom_nets.files import written_whole
from custom_nets.tumours.regions import converted
from tools._arguments import names_in
from tools._command import run
from tools._label_app import WITHOUT_GAP

#: Where, in the folder of the studies, MONAI Label looks for labels to train on.
LABELS = Path("labels") / "final"
#: The bundle whose label maps have conventions.
_CONVENTIONAL = "s2ca_net"


def main(
    name: str, dataset_dir: str, studies: str, *, datalist: str = "datalist.json", sections: str | None = None
) -> None:
    """Write the cases of a data list as studies for `make label-server`: STUDIES/CASE.nii.gz and their labels.

    Several modalities become one 4D file, in the order that the bundle wants. Labels go to STUDIES/labels/final, where
    MONAI Label takes them for finished and trains on them; those of tumours are numbered 1, 2, 3, as 3D Slicer does.

    Args:
        name: the bundle, such as rsanet.
        dataset_dir: folder of the data set with its datalist.json.
        studies: folder to write to; files of the same name are replaced.
        datalist: the list in DATASET_DIR, or its absolute path.
        sections: whose cases: training, validation, testing; left out, all.
    """
    listed = read_datalist(dataset_dir, str(datalist))
    chosen = names_in(sections) or tuple(listed)
    if unknown := [section for section in chosen if section not in listed]:
        raise InputError(f"--sections {', '.join(unknown)}: choose of {', '.join(listed)}.")
    cases = [case for section in chosen for case in listed[section]]
    _require_distinct_names([case_name(case["image"]) for case in cases])
    order = channel_order(str(name), dataset_dir, str(datalist))
    convention = label_convention(dataset_dir, str(datalist)) if str(name) == _CONVENTIONAL else None
    for case in tqdm(cases, desc="studies", unit="case"):
        _write_case(case, Path(studies), order, convention)
    labelled = sum("label" in case for case in cases)
    print(f"{len(cases)} scans of {name} in {studies}, {labelled} of them labelled")


def _write_case(case: Case, studies: Path, order: Sequence[int], convention: str | None) -> None:
    file = f"{case_name(case['image'])}.nii.gz"
    image = stacked(case["image"], order)
    _save(image, studies / file)
    if "label" in case:
        label: Any = nibabel.load(case["label"])
        if convention:
            label = _renumbered(label, convention)
        _save(label, studies / LABELS / file)


def stacked(paths: Sequence[str | Path], order: Sequence[int]) -> Any:
    """Return the modalities of a scan as one image.

    Args:
        paths: one file a modality, or one file of all.
        order: which of them each modality of the bundle is.

    Raises:
        InputError: they are not on one grid, or not as many as the bundle's modalities.
    """
    images = SameGridReader().read([str(path) for path in paths])
    images = images if isinstance(images, list) else [images]
    volumes = [np.asanyarray(image.dataobj) for image in images]
    if len(volumes) == 1 and volumes[0].ndim == 4:
        volumes = list(np.moveaxis(volumes[0], -1, 0))
    if len(volumes) != len(order):
        raise InputError(f"{paths[0]}: the case has {len(volumes)} images, the bundle has {len(order)} modalities.")
    voxels = np.stack([volumes[place] for place in order], axis=-1) if len(order) > 1 else volumes[0]
    return nibabel.Nifti1Image(voxels, images[0].affine, images[0].header, dtype=voxels.dtype)


def _renumbered(label: Any, convention: str) -> Any:
    changed = converted(np.asanyarray(label.dataobj), convention, WITHOUT_GAP["label_convention"])
    return nibabel.Nifti1Image(changed, label.affine, label.header, dtype=np.uint8)


def _require_distinct_names(names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"several cases are called {', '.join(twice[:5])}: name the files, or folders, of a case after it."
        )


def _save(image: Any, path: Path) -> None:
    with written_whole(path) as temporary:
        nibabel.save(image, temporary)


if __name__ == "__main__":
    run(main)
