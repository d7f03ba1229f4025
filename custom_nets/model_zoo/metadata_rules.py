# SPDX-License-Identifier: Apache-2.0
"""Rules about metadata.json beyond those of the linter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from custom_nets.model_zoo.verdicts import Problem, Subject, fails, not_checked

_OPTIONAL = "optional_packages_version"


def name_is_a_title(subject: Subject) -> Iterator[Problem]:
    """`name` in the metadata is a title for people."""
    name = subject.files.metadata.get("name")
    if not isinstance(name, str) or not name.strip():
        yield fails(f"is {name!r}", "write one, such as 'Spine MR vertebra segmentation'")


def optional_packages_are_bare(subject: Subject) -> Iterator[Problem]:
    """Versions of optional packages are bare and exact: the Zoo installs name==version."""
    for package, version in subject.files.metadata.get(_OPTIONAL, {}).items():
        if not re.fullmatch(r"\d+(\.\d+)+", str(version)):
            yield fails(f"{package} is {version!r}", "give the bare version, 1.2.3")


def apps_find_their_properties(subject: Subject) -> Iterator[Problem]:
    """supported_apps names the applications for which the bundle has what they ask for."""
    apps = subject.files.metadata.get("supported_apps", {})
    if not isinstance(apps, dict):
        yield fails(f"is {apps!r}", "write an object, {} for none")
    elif apps:
        yield not_checked(f"{', '.join(apps)}: the lists of what these ask for are in the Zoo's repository")


def version_is_new(subject: Subject) -> Iterator[Problem]:
    """The version is not in the Zoo yet."""
    metadata = subject.files.metadata
    entry = f"{subject.folder.name}_v{metadata.get('version')}"
    yield not_checked(f"needs a network; look for {entry} in models/model_info.json of the Zoo")


def tensors_are_image_and_pred(subject: Subject) -> Iterator[Problem]:
    """The first input is image and the first output pred, which MONAI Label reads."""
    for side, name in (("inputs", "image"), ("outputs", "pred")):
        tensors: dict[str, Any] = subject.files.metadata.get("network_data_format", {}).get(side, {})
        first = next(iter(tensors), None)
        if first != name:
            yield fails(f"the first of {side} is {first!r}", f"name it '{name}'")


RULES = (
    name_is_a_title,
    optional_packages_are_bare,
    apps_find_their_properties,
    version_is_new,
    tensors_are_image_and_pred,
)
