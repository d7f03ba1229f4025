# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from custom_nets.errors import InputError
from custom_nets.fingerprints import Fingerprint, common_fingerprint, write_fingerprint

OWN: dict[str, Any] = {"filters": [8, 16], "patch_size": [32, 32, 32]}
ONE = Fingerprint("rsanet", "0.1.0", ("T1", "FLAIR"), 3, "native", False, {}, options=OWN)


def written(folder: Path, *fingerprints: Fingerprint | None) -> list[Path]:
    """Checkpoints a.pt, b.pt, ... with these fingerprints."""
    paths = [folder / f"{letter}.pt" for letter, _ in zip("abc", fingerprints, strict=False)]
    for path, fingerprint in zip(paths, fingerprints, strict=True):
        if fingerprint is not None:
            write_fingerprint(fingerprint, path)
    return paths


def test_the_first_ones_where_they_agree(tmp_path: Path) -> None:
    """Folds have other cases, and a version may have been published in between."""
    other = replace(ONE, cases=4, bundle_version="0.2.0", options={**OWN, "filters": (8, 16)})
    assert common_fingerprint(written(tmp_path, ONE, other)) == ONE
    assert common_fingerprint(written(tmp_path / "lacking", ONE, None, other)) == ONE
    assert common_fingerprint(written(tmp_path / "first", None, ONE)) is None
    assert common_fingerprint([tmp_path / "a.pt"]) == ONE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bundle": "s2anet"}, "bundle rsanet, and {b} with s2anet: give checkpoints that were trained alike."),
        ({"modalities": ("FLAIR", "T1")}, "modalities ['T1', 'FLAIR'], and {b} with ['FLAIR', 'T1']: give"),
        ({"options": {**OWN, "patch_size": [24, 24, 24]}}, "patch_size [32, 32, 32], and {b} with [24, 24, 24]: give"),
        ({"options": {"filters": [8, 16]}}, "patch_size [32, 32, 32], and {b} with the bundle's own: give"),
        ({"options": {**OWN, "spacing": False}}, "spacing the bundle's own, and {b} with False: give"),
        (
            {"options": {**OWN, "label_table": {str(n): "x" for n in range(99)}}},
            "label_table the bundle's own, and {b}",
        ),
    ],
)
def test_those_that_were_trained_otherwise_are_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    paths = written(tmp_path, ONE, ONE, replace(ONE, **changes))
    with pytest.raises(InputError) as caught:
        common_fingerprint(paths)
    message = str(caught.value)
    assert message.startswith(f"{paths[0]}: was trained with {said.format(b=paths[2])}")
    assert len(message) < 2 * len(str(tmp_path)) + 250 and "\n" not in message


def test_what_the_user_sets_for_all_may_differ(tmp_path: Path) -> None:
    paths = written(tmp_path, ONE, replace(ONE, options={**OWN, "patch_size": [24, 24, 24]}))
    with pytest.raises(InputError, match="or set --patch_size for all"):
        common_fingerprint(paths, {"overlap": 0.5})
    assert common_fingerprint(paths, {"patch_size": [48, 48, 48]}) == ONE
