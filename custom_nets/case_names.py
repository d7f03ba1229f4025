# SPDX-License-Identifier: Apache-2.0
"""The name of a case, from the names of its files, and predictions that are named by it."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey

from custom_nets.errors import InputError

#: Names of files that tell what is in them and not whose it is.
_CONTENTS = ("image", "img", "scan", "volume", "mr", "mri", "t1", "t1w", "t2", "t2w", "flair")


def case_name(images: str | Path | Sequence[str | Path]) -> str:
    """What the file names of a case's modalities begin with, or their folder's name.

    Args:
        images: path of one file, or of one a modality: BraTS20_001/BraTS20_001_t1.nii.gz and ..._flair.nii.gz give
            BraTS20_001, and so do BraTS20_001/t1.nii.gz and BraTS20_001/flair.nii.gz, or t1/BraTS20_001.nii.gz and
            flair/BraTS20_001.nii.gz. A single file that is called after what it holds takes its folder's name too:
            chu_05/t2.nii.gz gives chu_05.
    """
    paths = [Path(images)] if isinstance(images, str | os.PathLike) else [Path(path) for path in images]
    stems = [path.name.removesuffix(".gz").removesuffix(".nii") for path in paths]
    if len(set(stems)) == 1:
        return paths[0].absolute().parent.name if len(paths) == 1 and stems[0].lower() in _CONTENTS else stems[0]
    common = os.path.commonprefix(stems)  # noqa: RUF071  letter by letter is what is meant
    separators = [place for place, letter in enumerate(common) if letter in "-_. "]
    return common[: separators[-1]] if separators else paths[0].absolute().parent.name


def file_of(value: Any, key: Hashable) -> str:
    """The file that an entry of a case was read from, for messages; without metadata its quoted key."""
    return str(getattr(value, "meta", {}).get("filename_or_obj", f"'{key}'"))


def require_distinct_names(cases: Sequence[Mapping[str, Any]]) -> None:
    """Refuse cases of one name: their predictions would overwrite each other.

    Args:
        cases: ``image`` of each is a path or a list of them.

    Raises:
        InputError: naming the first two.
    """
    first: dict[str, Any] = {}
    for case in cases:
        images, name = case["image"], case_name(case["image"])
        if name in first:
            raise InputError(
                f"output_names is 'case', but two cases are called '{name}': {_one(first[name])} and {_one(images)}; "
                "give --output_names image, or name the files of a case after it."
            )
        first[name] = images


def _one(images: str | Path | Sequence[str | Path]) -> str | Path:
    return images if isinstance(images, str | os.PathLike) else images[0]


class CaseNamed(MapTransform):
    """Keep the case's name, from the paths of the image that is about to be loaded.

    Args:
        keys: of the paths.
        name_key: where the name goes.
    """

    def __init__(self, keys: KeysCollection, name_key: str = "case_name") -> None:
        super().__init__(keys)
        self.name_key = name_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the name."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[self.name_key] = case_name(result[key])
        return result


class NamedPredictiond(MapTransform):
    """Let `SaveImaged` call a prediction as its case, or as its first image, which is what the metadata say.

    Args:
        keys: of predictions.
        names: "image" leaves the name; "case" gives it the case's, without a folder, as challenges want it.
        name_key: where `CaseNamed` put the name.

    Raises:
        InputError: for another value of ``names``.
    """

    def __init__(self, keys: KeysCollection, names: str = "image", name_key: str = "case_name") -> None:
        super().__init__(keys)
        if names not in ("image", "case"):
            raise InputError(f"output_names is {names!r}: choose image or case")
        self.names = names
        self.name_key = name_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Rename; the prediction's metadata alone change."""
        result = dict(data)
        for key in self.key_iterator(result):
            if self.names == "case" and isinstance(result[key], MetaTensor):
                renamed = result[key].clone()
                renamed.meta[ImageMetaKey.FILENAME_OR_OBJ] = f"{result[self.name_key]}.nii.gz"
                result[key] = renamed
        return result
