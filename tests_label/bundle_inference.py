# SPDX-License-Identifier: Apache-2.0
"""What MONAI Label's answers are compared with: inference by `monai.bundle`, in this environment."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
from monai.bundle import ConfigWorkflow


def by_the_bundle(served: Path, image: Path, place: Path) -> np.ndarray:
    """Return the label map of an image by `monai.bundle run --config_file inference.json`.

    Args:
        served: folder of the bundle, with the weights that are served now.
        image: the file.
        place: folder to write to.
    """
    datalist = place / "datalist.json"
    datalist.write_text(json.dumps({"testing": [{"image": str(image)}]}), encoding="utf-8")
    options = {"dataset_dir": image.parent, "datalist": datalist, "output_dir": place / "out", "bundle_root": served}
    workflow = ConfigWorkflow(
        str(served / "configs" / "inference.json"),
        logging_file=False,
        **{key: str(value) for key, value in options.items()},
        **{"device": "cpu", "num_workers": 0, "pictures": 0},
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return label_map(place / "out" / image.name.replace(".nii.gz", "_seg.nii.gz"))


def label_map(path: Path) -> np.ndarray:
    """The voxels of a label map."""
    return np.asanyarray(nibabel.load(path).dataobj)
