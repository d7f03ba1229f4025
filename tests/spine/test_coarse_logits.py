# SPDX-License-Identifier: Apache-2.0
"""Stored coarse logits: what is written, what is refused, and what a damaged or foreign file says."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from custom_nets.errors import InputError
from custom_nets.label_graphs.chains import mrspineseg
from custom_nets.spine.coarse_logits import (
    Provenance,
    graph_digest,
    graph_names,
    read_logits,
    read_provenance,
    without_padding,
    write_logits,
)

GRAPH = mrspineseg(2)
PROVENANCE = Provenance(
    *("CaseÄ", "ab" * 32, ("Case1", "Case2"), graph_names(GRAPH), graph_digest(GRAPH), (18, 6, 8)),
    preprocessing={"crop_share": 0.5},
)


def drawn(slices: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 8, (len(GRAPH), slices, 6, 8)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sound file."""
    return write_logits(tmp_path / "folder" / "CaseÄ.npz", drawn(), PROVENANCE)


def changed(**changes: Any) -> Provenance:
    return dataclasses.replace(PROVENANCE, **changes)


def refusal(path: Path, case: str = "CaseÄ", slices: int | None = 3, **options: Any) -> str:
    """The one line about a file, which it names."""
    with pytest.raises(InputError) as caught:
        read_logits(path, options.pop("graph", GRAPH), case, slices, **options)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_what_is_written_comes_back_in_half_precision(path: Path) -> None:
    read = read_logits(path, GRAPH, "CaseÄ", 3, coarse_size=[18, 6, 8], preprocessing={"crop_share": 0.5})
    assert read.dtype == np.float16 and np.array_equal(read, drawn().astype(np.float16))
    assert np.abs(read - drawn()).max() <= 2**-11 * np.abs(drawn()).max()
    assert read_provenance(path) == PROVENANCE
    assert list(path.parent.iterdir()) == [path], "no temporary file stays"


def test_the_file_is_compressed(tmp_path: Path) -> None:
    flat = np.zeros((len(GRAPH), 4, 64, 64), np.float32)
    path = write_logits(tmp_path / "flat.npz", flat, changed(coarse_size=(18, 64, 64)))
    assert path.stat().st_size < flat.nbytes / 50


@pytest.mark.parametrize(
    ("value", "fragment"), [(np.nan, "not finite"), (-np.inf, "not finite"), (7e4, "above 65504"), (-7e4, "65504")]
)
def test_logits_that_half_precision_cannot_hold_are_refused(tmp_path: Path, value: float, fragment: str) -> None:
    logits = drawn()
    logits[1, 2, 3, 4] = value
    with pytest.raises(InputError, match=fragment):
        write_logits(tmp_path / "one.npz", logits, PROVENANCE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(4, 3, 6), (3, 3, 6, 8), (1, 4, 3, 6, 8)])
def test_logits_of_another_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="4 labels x slices"):
        write_logits(tmp_path / "one.npz", np.zeros(shape, np.float32), PROVENANCE)


def test_a_failing_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def half(file: Any, **arrays: Any) -> None:
        Path(file).write_bytes(before[: len(before) // 2])
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", half)
    with pytest.raises(OSError, match="no space"):
        write_logits(path, drawn(seed=1), PROVENANCE)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        ({"case": "Case3"}, ("of case 'CaseÄ', not of 'Case3'",)),
        ({"slices": 4}, ("3 slices", "has 4")),
        ({"graph": mrspineseg(3)}, ("4 labels (background, S, L5, L5/S)", "label_graph has 6", "--label_graph")),
        ({"coarse_size": [18, 6, 9]}, ("coarse_size [18, 6, 8], not [18, 6, 9]",)),
        ({"preprocessing": {"crop_share": 1.0}}, ("crop_share 0.5, not 1.0",)),
        ({"preprocessing": {"crop_share": 0.5, "slice_spacing": 4}}, ("slice_spacing None, not 4",)),
    ],
)
def test_a_file_of_something_else_is_refused(path: Path, options: dict[str, Any], fragments: tuple[str, ...]) -> None:
    message = refusal(path, **options)
    assert all(fragment in message for fragment in (*fragments, "tools.coarse_logits")), message


def test_labels_in_another_order_are_another_graph(path: Path) -> None:
    labels = GRAPH.labels
    graph = dataclasses.replace(GRAPH, labels=(labels[0], labels[2], labels[1], labels[3]))
    assert "label_graph has 4" in refusal(path, graph=graph)


def test_a_case_that_the_network_was_trained_on_is_not_out_of_fold(tmp_path: Path) -> None:
    path = write_logits(tmp_path / "Case2.npz", drawn(), changed(case="Case2"))
    message = refusal(path, "Case2", out_of_fold=True)
    assert "was trained on Case2 itself" in message and "--out_of_fold False" in message
    assert read_logits(path, GRAPH, "Case2", 3, out_of_fold=False).shape == (4, 3, 6, 8)


def test_a_case_of_no_training_is_out_of_fold(path: Path) -> None:
    assert read_logits(path, GRAPH, "CaseÄ", 3, out_of_fold=True).shape == (4, 3, 6, 8)


def test_every_changed_byte_of_the_logits_is_noticed(path: Path) -> None:
    """The zip's CRC, its headers, or the compression's own code."""
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("logits.npy").compress_size
    for place in range(60, size, size // 20):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        assert "tools.coarse_logits" in refusal(path)


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_refused(path: Path, kept: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    assert "cannot be read as coarse logits" in refusal(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "--coarse_logits computed" in refusal(tmp_path / "gone.npz")


def packed(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def told(**changes: Any) -> np.ndarray:
    content = {**json.loads(PROVENANCE.to_json()), **changes}
    return np.array(json.dumps({key: value for key, value in content.items() if value != "gone"}))


@pytest.mark.parametrize(
    ("arrays", "fragment"),
    [
        ({"logits": drawn()}, "cannot be read"),
        ({"provenance": told()}, "cannot be read"),
        ({"logits": np.array([None]), "provenance": told()}, "cannot be read"),
        ({"logits": drawn(), "provenance": told()}, "holds float32"),
        ({"logits": drawn().astype(np.float16)[:, :, :5], "provenance": told()}, "not float16 of [4, slices, 6, 8]"),
        ({"logits": drawn().astype(np.float16)[:3], "provenance": told()}, "shape [3, 3, 6, 8]"),
        ({"logits": np.full((4, 3, 6, 8), np.inf, np.float16), "provenance": told()}, "not finite"),
        ({"logits": drawn(), "provenance": np.array("words")}, "does not tell"),
        ({"logits": drawn(), "provenance": np.array("[1]")}, "does not tell"),
        ({"logits": drawn(), "provenance": told(format=2)}, "does not tell"),
        ({"logits": drawn(), "provenance": told(trained_on="gone")}, "does not tell"),
        ({"logits": drawn(), "provenance": told(more=1)}, "does not tell"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], fragment: str) -> None:
    assert fragment in refusal(packed(tmp_path / "one.npz", **arrays))


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    path = tmp_path / "one.npz"
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"an": "object"}]), allow_pickle=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("logits.npy", buffer.getvalue())
        archive.writestr("provenance.npy", buffer.getvalue())
    assert "cannot be read" in refusal(path)


def test_the_digest_of_a_graph_feels_its_edges() -> None:
    fewer = dataclasses.replace(GRAPH, edges=GRAPH.edges[:1])
    assert graph_digest(fewer) != graph_digest(GRAPH) == graph_digest(mrspineseg(2))


@pytest.mark.parametrize(("slices", "depth"), [(12, 18), (13, 18), (18, 18), (1, 2), (20, 20)])
def test_the_padding_is_taken_off_where_it_was_put(slices: int, depth: int) -> None:
    """Section 3.2: ceil of half of the missing slices before, the rest behind."""
    before = int(np.ceil((depth - slices) / 2))
    padded = np.pad(np.arange(1, slices + 1), (before, depth - slices - before)).reshape(1, depth, 1, 1)
    for volume in (padded, torch.from_numpy(padded)):
        assert without_padding(volume, slices).reshape(-1).tolist() == list(range(1, slices + 1))


def test_more_slices_than_the_network_saw_are_refused() -> None:
    with pytest.raises(InputError, match="saw 18 slices of a volume of 19"):
        without_padding(np.zeros((4, 18, 1, 1)), 19)
