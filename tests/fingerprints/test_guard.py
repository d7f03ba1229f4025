# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from custom_nets.errors import InputError
from custom_nets.fingerprints import Finding, Fingerprint, unusual
from tests.fingerprints.heads import SPACING, case, fingerprint, head, spine, write

Files = dict[str, Path]
BUNDLE = {"finer spine": "spineparsenet"}


@dataclass(frozen=True)
class Trained:
    """A model's fingerprint, and a case of the same source that it has not seen."""

    fingerprint: Fingerprint
    training: list[Files]
    held_out: Files

    def findings(self, changed: Files | None = None) -> list[Finding]:
        files = {**self.held_out, **(changed or {})}
        return unusual(self.fingerprint, list(files.values()), list(files))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    root = tmp_path_factory.mktemp("heads")
    brains = [case(root / "brains", seed, ("T1", "T2", "FLAIR"), skull=False) for seed in (1, 2, 3)]
    heads = [case(root / "heads", seed, ("T1",)) for seed in (1, 2, 3)]
    spines = [{"T2": write(root / f"spine{seed}.nii.gz", spine(seed), (6, 3, 3))} for seed in (1, 2, 3)]
    finer = [{"T2": write(root / f"finer{seed}.nii.gz", spine(seed), (4, 3, 3))} for seed in (1, 2, 3)]
    made = {"rsanet": brains, "zoom_resunet": heads, "spineparsenet": spines, "finer spine": finer}
    return {
        name: Trained(fingerprint(BUNDLE.get(name, name), cases[:2]), cases[:2], cases[2])
        for name, cases in made.items()
    }


@pytest.mark.parametrize("name", ["rsanet", "zoom_resunet", "spineparsenet"])
def test_scans_of_the_same_source_are_usual(models: dict[str, Trained], name: str) -> None:
    model = models[name]
    assert model.findings() == []
    for files in model.training:
        assert unusual(model.fingerprint, list(files.values()), list(files)) == []


Change = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def scaled_header(factor: float) -> Change:
    return lambda voxels, affine: (voxels, affine @ np.diag([factor, factor, factor, 1]))


def every(step: int, in_header: bool) -> Change:
    """Slices left out, and whether the header tells."""
    return lambda voxels, affine: (voxels[:, :, ::step], affine @ np.diag([1, 1, step if in_header else 1, 1]))


def half(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return voxels[: len(voxels) // 2], affine


def times(factor: float) -> Change:
    return lambda voxels, affine: (voxels * np.float32(factor), affine)


def negative(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return voxels.max() - voxels, affine


def wrong_axes(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slices that the header takes for axial ones."""
    return np.moveaxis(voxels, 0, 2), np.diag([*affine.diagonal()[1:3], affine[0, 0], 1])


def one_value(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.full_like(voxels, 7), affine


#: What is wrong, with which model, what is found and what is said of it.
FAULTS: dict[str, tuple[str, Change, str, tuple[str, ...]]] = {
    "metres": ("rsanet", scaled_header(1e-3), "spacing", ("0.003 x 0.003 x 0.003 mm", "in metres", "by 1000")),
    "ten times": ("zoom_resunet", scaled_header(10), "spacing", ("30 x 30 x 30 mm", "in training 3 x 3 x 3", "by 0.1")),
    "centimetres": ("spineparsenet", scaled_header(0.1), "spacing", ("in centimetres",)),
    "thick slices": ("rsanet", every(3, True), "spacing", ("9 mm along S", "in training 3 mm", "thinner slices")),
    "slices missing": (
        "rsanet",
        every(2, False),
        "extent",
        ("along S", "Slices or parts (top and bottom) are missing"),
    ),
    "half a head": ("zoom_resunet", half, "extent", ("mm along R", "left and right")),
    "12 bit": ("zoom_resunet", times(16), "intensity", ("99.5th percentile", "a factor of 0.06")),
    "0 to 1": ("zoom_resunet", times(1 / 255), "intensity", ("intensities as they are", "scale the scan")),
    "negative head": ("zoom_resunet", negative, "inverted", ("inverted",)),
    "negative brain": ("rsanet", negative, "inverted", ("T1 (", "T2 (", "FLAIR (")),
    "negative spine": ("spineparsenet", negative, "inverted", ("inverted",)),
    "wrong axes": ("spineparsenet", wrong_axes, "orientation", ("slices are axial, in training sagittal", "affine")),
    "wrong axes of a body": ("finer spine", wrong_axes, "orientation", ("along R, A, S", "name the axes wrongly")),
    "nothing on it": ("zoom_resunet", one_value, "empty", ("one value",)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_finding_and_remedy(models: dict[str, Trained], fault: str, tmp_path: Path) -> None:
    name, change, kind, fragments = FAULTS[fault]
    changed = {}
    for modality, path in models[name].held_out.items():
        image: Any = nibabel.load(path)
        voxels, affine = change(np.asarray(image.dataobj), np.asarray(image.affine))
        changed[modality] = write(tmp_path / path.name, voxels, affine=affine)
    found = models[name].findings(changed)
    assert {finding.kind for finding in found} == {kind}
    assert len(found) == (3 if fault == "negative brain" else 1)
    said = " ".join(f"{finding.text} {finding.remedy}" for finding in found)
    assert all(fragment in said for fragment in fragments), said
    assert all(text.endswith(".") and "\n" not in text for finding in found for text in (finding.text, finding.remedy))


def test_a_skull_on_a_model_of_brains_and_a_brain_on_one_of_heads(models: dict[str, Trained], tmp_path: Path) -> None:
    (found,) = models["rsanet"].findings(case(tmp_path, 5, ("T1", "T2", "FLAIR")))
    assert found.kind == "skull" and "shows the skull" in found.text and "brain extraction" in found.remedy
    (found,) = models["zoom_resunet"].findings(case(tmp_path / "brain", 5, ("T1",), skull=False))
    assert found.kind == "skull" and "absent" not in found.text and "whole head" in found.remedy


@pytest.mark.parametrize(("one", "other"), [("T1", "T2"), ("T2", "FLAIR"), ("T1", "FLAIR")])
@pytest.mark.parametrize("gain", [0.2, 5.0])
def test_swapped_channels_are_named(
    models: dict[str, Trained], one: str, other: str, gain: float, tmp_path: Path
) -> None:
    files = case(tmp_path, 6, ("T1", "T2", "FLAIR"), skull=False, gain=gain)
    (found,) = models["rsanet"].findings({**files, one: files[other], other: files[one]})
    assert found.text.startswith(f"{one} and {other} look swapped")
    assert "file names" in found.remedy


def test_three_images_in_a_ring(models: dict[str, Trained], tmp_path: Path) -> None:
    files = case(tmp_path, 6, ("T1", "T2", "FLAIR"), skull=False)
    ring = {"T1": files["T2"], "T2": files["FLAIR"], "FLAIR": files["T1"]}
    (found,) = models["rsanet"].findings(ring)
    assert "T1 looks like T2, T2 looks like FLAIR, FLAIR looks like T1" in found.text


def test_another_sequence_in_the_place_of_the_only_one(models: dict[str, Trained], tmp_path: Path) -> None:
    (found,) = models["zoom_resunet"].findings({"T1": write(tmp_path / "t2.nii.gz", head("T2", 3))})
    assert found.kind == "contrast" and "another sequence than T1" in found.remedy


def test_another_part_of_the_body_by_its_size(models: dict[str, Trained], tmp_path: Path) -> None:
    body = np.kron(head("T1", 3), np.ones((2, 2, 1), np.float32))
    (found,) = models["zoom_resunet"].findings({"T1": write(tmp_path / "body.nii.gz", body)})
    assert found.kind == "extent" and "another part of the body" in found.remedy


def test_a_header_that_does_not_say_how_the_patient_lies(models: dict[str, Trained], tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(head("T1", 3), None)
    image.header.set_zooms(SPACING)
    nibabel.save(image, tmp_path / "a.nii.gz")
    (found,) = models["zoom_resunet"].findings({"T1": tmp_path / "a.nii.gz"})
    assert found.kind == "orientation" and "qform" in found.text


def test_many_more_voxels(models: dict[str, Trained]) -> None:
    model = models["zoom_resunet"]
    seen = model.fingerprint.seen["T1"]
    few = replace(seen, ranges={**seen.ranges, "voxels": (1000.0, 1000.0, 1000.0)})
    (found,) = unusual(replace(model.fingerprint, seen={"T1": few}), list(model.held_out.values()), ["T1"])
    assert found.kind == "voxels" and "72 x 88 x 72 voxels" in found.text


@pytest.mark.parametrize("codes", ["LPS", "SAR", "PIL"])
def test_how_the_file_is_stored_does_not_matter(models: dict[str, Trained], codes: str, tmp_path: Path) -> None:
    turned = {}
    for modality, path in models["rsanet"].held_out.items():
        image: Any = nibabel.load(path)
        order = nibabel.orientations.ornt_transform(
            nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(codes)
        )
        turned[modality] = tmp_path / path.name
        nibabel.save(image.as_reoriented(order), turned[modality])
    assert models["rsanet"].findings(turned) == []


def test_one_file_of_four_axes_is_all_modalities(models: dict[str, Trained], tmp_path: Path) -> None:
    held_out = models["rsanet"].held_out
    images: list[Any] = [nibabel.load(path) for path in held_out.values()]
    volumes = [np.asarray(image.dataobj) for image in images]
    together = write(tmp_path / "all.nii.gz", np.stack(volumes, -1))
    assert unusual(models["rsanet"].fingerprint, [together], list(held_out)) == []
    swapped = write(tmp_path / "swapped.nii.gz", np.stack([volumes[1], volumes[0], volumes[2]], -1))
    (found,) = unusual(models["rsanet"].fingerprint, [swapped], list(held_out))
    assert found.kind == "channels"


def test_files_that_cannot_be_read_and_too_few(models: dict[str, Trained], tmp_path: Path) -> None:
    model = models["rsanet"]
    files = list(model.held_out.values())
    with pytest.raises(InputError, match=r"2 images .*trained on 3 \(T1, T2, FLAIR\)"):
        unusual(model.fingerprint, files[:2], ["T1", "T2"])
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(files[0].read_bytes()[:5000])
    with pytest.raises(InputError, match=r"cut\.nii\.gz: cannot be read"):
        unusual(model.fingerprint, [cut, *files[1:]], ["T1", "T2", "FLAIR"])


def test_numbers_that_are_none_are_passed_over(models: dict[str, Trained], tmp_path: Path) -> None:
    holes = head("T1", 3).copy()
    holes[30:32, 40:42, 30] = np.nan
    assert models["zoom_resunet"].findings({"T1": write(tmp_path / "holes.nii.gz", holes)}) == []
