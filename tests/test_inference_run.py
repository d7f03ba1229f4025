# SPDX-License-Identifier: Apache-2.0
"""Inference and evaluation runs of each bundle: what lands on disk, and that it lies where the scan lies."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from tests.bundle_runs import TINY, Runs, blobs, list_cases, scan, write

SHAPE = (36, 42, 30)
#: Left-posterior-superior, anisotropic and turned by 0.3 about two axes: nothing of it is the network's own frame.
OBLIQUE = np.array(
    [[-0.9553, 0.2823, 0.0961, 70.0], [-0.2955, -0.9127, -0.3105, 60.0], [0, -0.2955, 1.0509, -40.0], [0, 0, 0, 1]]
) @ np.diag([1.0, 0.9, 1.3, 1.0])


@pytest.fixture(scope="module")
def scans(trained: Runs, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Two oblique cases in folders of their own whose files have the same names."""
    data = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(1)
    cases = []
    for patient in ("patientA", "patientB"):
        label = blobs(rng, tuple(trained.bundle.labels), SHAPE)
        images = [f"{patient}/{modality}.nii.gz" for modality in trained.bundle.modalities]
        for name in images:
            write(data / name, scan(rng, label, radius=20), OBLIQUE)
        write(data / patient / "label.nii.gz", label, OBLIQUE)
        cases.append({"image": images, "label": f"{patient}/label.nii.gz"})
    list_cases(data, validation=cases, testing=[{"image": case["image"]} for case in cases])
    return Runs(trained.name, data, trained.folder)


def segment(scans: Runs, folder: Path, workflow: str = "inference", **changes: Any) -> Runs:
    """Run with the trained weights; results lie in ``eval`` of the returned runs."""
    runs = Runs(scans.name, changes.pop("data", scans.data), folder)
    runs.run(workflow, **{"checkpoint": str(scans.models / "model.pt"), **changes})
    return runs


@pytest.fixture(scope="module")
def segmented(scans: Runs, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return segment(scans, tmp_path_factory.mktemp("segmented"), pictures=2)


def results(runs: Runs) -> dict[str, nibabel.Nifti1Image]:
    return {str(path.relative_to(runs.eval)): nibabel.load(path) for path in sorted(runs.eval.rglob("*.nii.gz"))}


def voxels(image: nibabel.Nifti1Image) -> np.ndarray:
    return np.asarray(image.dataobj)


def first_name(runs: Runs) -> str:
    return runs.bundle.modalities[0]


def test_output_has_the_grid_of_the_input(segmented: Runs) -> None:
    name = first_name(segmented)
    found = results(segmented)
    assert list(found) == [f"patient{letter}/{name}_seg.nii.gz" for letter in "AB"]
    for file, image in found.items():
        original = nibabel.load(segmented.data / file.replace("_seg", ""))
        assert image.shape == original.shape == SHAPE
        np.testing.assert_allclose(image.affine, original.affine, atol=1e-5)
        assert image.get_data_dtype() == np.uint8
        assert set(np.unique(voxels(image))) <= set(segmented.bundle.labels)
        assert voxels(image).any()


class BrightVoxels(nn.Module):
    """In the place of a bundle's network: class 1 where the last modality, as the network sees it, is bright.

    Of one channel, it is the logit of class 1.
    """

    def __init__(self, out_channels: int = 2, **others: Any) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(1.5))
        self.out_channels = out_channels

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        bright = 200 * (image[:, -1] - self.threshold)  # steep: half of it wins where tta exchanges left and right
        if self.out_channels == 1:
            return bright[:, None]
        rest = [torch.full_like(bright, -99.0)] * (self.out_channels - 2)
        return torch.stack([torch.zeros_like(bright), bright, *rest], dim=1)


@pytest.mark.parametrize("tta", [False, True])
def test_output_lies_voxel_for_voxel_on_the_scan(scans: Runs, tmp_path: Path, tta: bool) -> None:
    """Through orientation, cropping, windows, flips and back: what is bright in the file is marked, nothing else."""
    tiny = TINY[scans.name]
    torch.save({"threshold": torch.tensor(tiny.bright_above)}, tmp_path / "bright.pt")
    found = results(
        segment(
            scans,
            tmp_path,
            checkpoint=str(tmp_path / "bright.pt"),
            network_def___target_=f"{__name__}.BrightVoxels",
            tta=tta,
            **tiny.every_voxel,
        )
    )
    for file, image in found.items():
        last = nibabel.load(scans.data / Path(file).parent / f"{scans.bundle.modalities[-1]}.nii.gz")
        bright = tiny.bright(voxels(last).astype(np.float64), tiny.bright_above)
        assert 100 < bright.sum() < bright.size // 4
        np.testing.assert_array_equal(voxels(image) != 0, bright)


def test_pictures_do_not_collide(segmented: Runs) -> None:
    name = first_name(segmented)
    pictures = sorted(path.name for path in segmented.eval.glob("*.png"))
    assert pictures == [f"patient{letter}_{name}.png" for letter in "AB"]


def test_test_time_augmentation(scans: Runs, segmented: Runs, tmp_path: Path) -> None:
    plain, averaged = results(segmented), results(segment(scans, tmp_path, tta=True))
    assert list(plain) == list(averaged)
    assert any((voxels(plain[file]) != voxels(averaged[file])).any() for file in plain)
    if "flips" in scans.keys("inference"):
        again = results(segment(scans, tmp_path / "again", tta=True, flips=[[]]))
        assert all((voxels(plain[file]) == voxels(again[file])).all() for file in plain)


def test_one_4d_file_is_the_list_of_its_channels(scans: Runs, segmented: Runs, tmp_path: Path) -> None:
    images = [nibabel.load(scans.data / "patientA" / f"{name}.nii.gz") for name in scans.bundle.modalities]
    stacked = np.stack([voxels(image) for image in images], axis=-1)
    write(tmp_path / "data" / "all.nii.gz", stacked, images[0].affine)
    list_cases(tmp_path / "data", testing=[{"image": "all.nii.gz"}])
    (single,) = results(segment(scans, tmp_path, data=tmp_path / "data")).values()
    listed = results(segmented)[f"patientA/{first_name(scans)}_seg.nii.gz"]
    assert single.shape == SHAPE
    np.testing.assert_array_equal(voxels(single), voxels(listed))
    np.testing.assert_allclose(single.affine, listed.affine, atol=1e-5)


def test_volume_smaller_than_the_patch(scans: Runs, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    images = []
    for name in scans.bundle.modalities:
        write(tmp_path / "data" / f"{name}.nii", rng.integers(1, 900, (9, 25, 14)).astype(np.int16))
        images.append(f"{name}.nii")
    list_cases(tmp_path / "data", testing=[{"image": images}])
    (image,) = results(segment(scans, tmp_path, data=tmp_path / "data")).values()
    assert image.shape == (9, 25, 14)


def test_resampled_and_cropped_results_return_to_the_scan(scans: Runs, tmp_path: Path) -> None:
    if "spacing" not in scans.keys("inference"):
        pytest.skip("it resamples no volume")
    found = results(segment(scans, tmp_path, spacing=[1.5, 1.0, 2.0]))
    for file, image in found.items():
        original = nibabel.load(scans.data / file.replace("_seg", ""))
        assert image.shape == SHAPE
        np.testing.assert_allclose(image.affine, original.affine, atol=1e-5)


def test_a_relative_folder(scans: Runs, segmented: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scans.data.parent)
    runs = segment(scans, tmp_path, dataset_dir=scans.data.name)
    assert list(results(runs)) == list(results(segmented))


def test_images_outside_of_the_folder_are_refused(scans: Runs, tmp_path: Path) -> None:
    """Their results would be written outside of output_dir."""
    images = [str(scans.data / "patientA" / f"{name}.nii.gz") for name in scans.bundle.modalities]
    list_cases(tmp_path, testing=[{"image": images}])
    checkpoint = str(scans.models / "model.pt")
    runs = Runs(scans.name, tmp_path, tmp_path / "out")
    message = runs.refusal("inference", checkpoint=checkpoint)
    for fragment in (images[0], "is not in dataset_dir", str(tmp_path), "--datalist"):
        assert fragment in message
    runs.run("inference", checkpoint=checkpoint, dataset_dir=str(scans.data), datalist=str(tmp_path / "datalist.json"))
    assert len(results(runs)) == 1


def test_evaluation_scores_what_inference_writes(scans: Runs, tmp_path: Path) -> None:
    """The tables are those of the label maps on disk, computed here from the files."""
    predicted = segment(scans, tmp_path / "predicted", section="validation")
    evaluated = segment(scans, tmp_path / "evaluated", workflow="evaluate", pictures=1)
    with (evaluated.eval / "metrics_per_case.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    name = first_name(scans)
    assert [row["case"] for row in rows] == [f"patient{letter}/{name}.nii.gz" for letter in "AB"]
    expected = []
    for row in rows:
        prediction = results(predicted)[row["case"].replace(".nii.gz", "_seg.nii.gz")]
        reference = nibabel.load(scans.data / Path(row["case"]).parent / "label.nii.gz")
        spacing = nibabel.affines.voxel_sizes(reference.affine)
        expected.append(TINY[scans.name].row(voxels(prediction), voxels(reference), tuple(spacing)))
        for key, value in expected[-1].items():
            assert float(row[key]) == pytest.approx(value, rel=1e-6, nan_ok=True), key
    summary = json.loads((evaluated.eval / "metrics_summary.json").read_text())
    dice = next(key for key in ("dice", "mean_dice", "dice_all") if key in expected[0])  # of several labels a mean
    assert summary["metrics"][dice]["mean"] == pytest.approx(np.mean([row[dice] for row in expected]))
    assert 0 < summary["metrics"][dice]["mean"] < 1
    assert len(list(evaluated.eval.glob("patient*.png"))) == 1


def test_another_number_of_modalities_trains_and_infers(trained: Runs, runs: Runs) -> None:
    """One of several; of a bundle of one modality, two."""
    number = 1 if len(runs.bundle.modalities) > 1 else 2
    content = json.loads((trained.data / "datalist.json").read_text())
    data = runs.folder / "data"
    shutil.copytree(trained.data, data)
    for case in [case for cases in content.values() for case in cases]:
        image = nibabel.load(data / case["image"][0])
        write(data / f"other_{case['image'][0]}", voxels(image)[::-1], image.affine)
        case["image"] = [*case["image"], f"other_{case['image'][0]}"][:number]
    list_cases(data, **content)
    other = Runs(runs.name, data, runs.folder)
    other.run(epochs=1, in_channels=number)
    other.run("inference", in_channels=number, output_dir=str(other.eval / "predicted"))
    assert len(results(other)) == 1
    assert "entries disagree" in other.refusal("inference")


@pytest.mark.parametrize("workflow", ["inference", "evaluate"])
@pytest.mark.parametrize(
    ("what", "fragments"),
    [
        ("missing", ("gone.pt: no such checkpoint", "--checkpoint FILE")),
        ("truncated", ("cannot be read as a checkpoint", "cut off")),
        ("text", ("is no PyTorch checkpoint", "torch.save")),
        ("other network", ("is no checkpoint of this", "entries disagree", "unexpected  extra.weight [1]")),
    ],
)
def test_unusable_checkpoint(scans: Runs, tmp_path: Path, workflow: str, what: str, fragments: tuple[str, ...]) -> None:
    path = tmp_path / "gone.pt"
    good = scans.models / "model.pt"
    if what == "truncated":
        path.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    if what == "text":
        path.write_text("<html>")
    if what == "other network":
        torch.save(torch.load(good, weights_only=True) | {"extra.weight": torch.zeros(1)}, path)
    runs = Runs(scans.name, scans.data, tmp_path / "out")
    message = runs.refusal(workflow, checkpoint=str(path))
    for fragment in (str(path), *fragments):
        assert fragment in message
    assert not runs.folder.exists()
