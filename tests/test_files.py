# SPDX-License-Identifier: Apache-2.0
"""Files that are known by their SHA-256."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from custom_nets.errors import InputError
from custom_nets.files import file_digest


def test_the_digest_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"x" * 3_000_000)
    assert file_digest(tmp_path / "model.pt") == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    with pytest.raises(InputError, match=r"gone\.pt: no such file"):
        file_digest(tmp_path / "gone.pt")
