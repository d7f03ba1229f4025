# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from custom_nets.datasets.checks import CheckOptions, check_cases
from custom_nets.datasets.sampling import sampled, strides
from custom_nets.files import write_json
from custom_nets.fingerprints import read_fingerprint, unusual
from custom_nets.fingerprints.measuring import sampled_files
from custom_nets.fingerprints.recording import TrainingCases, TrainingFingerprint, fingerprint_of
from tests.bundle_runs import TINY, Runs
from tests.fingerprints.heads import OPTIONS, SPACING, case, write
from tools._command import run as run_tool
from tools.fingerprint import fingerprint as tool


def test_a_training_writes_it_beside_its_model(trained: Runs) -> None:
    found = read_fingerprint(trained.models / "model.pt")
    assert found is not None
    modalities = trained.bundle.modalities
    assert (found.bundle, found.modalities, found.cases) == (
        trained.name,
        modalities,
        TINY[trained.name].training_cases,
    )
    size = (trained.models / "model.fingerprint.json").stat().st_size
    assert size < 8000 * (1 + len(modalities))
    own = {key: value for key, value in TINY[trained.name].options.items() if key in trained.keys("inference")}
    assert {key: list(value) if isinstance(value, list) else value for key, value in own.items()}.items() <= {
        **trained.options("inference"),
        **found.options,
    }.items()
    for key, value in found.options.items():
        assert value == trained.options("train").get(key), "nothing but what the training was given"
    for number in (0, 1):
        files = [trained.data / f"case{number}_{modality}.nii.gz" for modality in modalities]
        assert unusual(found, files, modalities) == []


def test_a_check_alone_writes_nothing(runs: Runs) -> None:
    runs.workflow().initialize()
    assert not runs.models.exists() or not list(runs.models.iterdir())


def cases_of(folder: Path) -> list[dict[str, Any]]:
    files = [case(folder, seed, ("T1", "T2", "FLAIR"), skull=False) for seed in (1, 2, 3)]
    return [{"image": [str(path) for path in one.values()]} for one in files]


def test_measured_by_the_check_or_from_the_files_is_the_same(tmp_path: Path) -> None:
    cases = cases_of(tmp_path)
    order = ["T2", "T1", "FLAIR"]  # of the files, another one than the network's
    for one in cases:
        one["image"] = [one["image"][1], one["image"][0], one["image"][2]]
    seen = TrainingCases(cases[:2], ("T1", "T2", "FLAIR"))
    assert check_cases(cases, order, options=CheckOptions(look=seen), progress=False) == []
    made = fingerprint_of("rsanet", seen, OPTIONS["rsanet"], {"filters": [1]})
    assert made.cases == 2, "the third is none of the training"
    files = [Path(cases[2]["image"][place]) for place in (1, 0, 2)]
    assert unusual(made, files, ["T1", "T2", "FLAIR"]) == []
    (found,) = unusual(made, [files[1], files[0], files[2]], made.modalities)
    assert found.kind == "channels"
    assert made.skull == {"present": 0, "absent": 2, "unknown": 0}
    for pair, (low, middle, high) in made.correlations.items():
        assert -1 <= low <= middle <= high <= 1, pair
    volume, path = np.random.default_rng(0).normal(size=(150, 70, 20)), tmp_path / "noise.nii.gz"
    (noise,) = sampled_files([write(path, volume, (1, 1, 5))])
    assert strides(volume.shape, (1, 1, 5)) == (2, 1, 1)
    np.testing.assert_array_equal(noise.samples, sampled(volume, (1, 1, 5)))


def test_of_a_large_volume_few_voxels_are_kept() -> None:
    for shape, spacing in (((512, 512, 300), (0.47, 0.47, 0.6)), ((512, 512, 300), (1e-3, 1e-3, 1e-3))):
        steps = strides(shape, spacing)
        kept = [-(-size // step) for size, step in zip(shape, steps, strict=True)]
        assert np.prod(kept) <= 250_000 and min(kept) >= 40
    assert strides((20, 20, 1), (0, 1, 1)) == (1, 1, 1), "nothing is left out of a small one"
    assert np.prod(np.ceil(np.divide((2, 4000, 4000), strides((2, 4000, 4000), (0, 1, 1))))) <= 250_000


def test_a_check_that_finds_errors_measures_nothing(tmp_path: Path) -> None:
    (one, *_) = cases_of(tmp_path)
    broken = write(tmp_path / "b.nii.gz", np.zeros((4, 4, 4), np.float32))
    one["image"][1] = str(broken)
    seen = TrainingCases([one], ("T1", "T2", "FLAIR"))
    check_cases([one], ["T1", "T2", "FLAIR"], options=CheckOptions(look=seen), progress=False)
    assert seen.measures == []
    nothing = TrainingFingerprint("rsanet")
    nothing.made_from(seen, {}, {})
    nothing.write(tmp_path / "model.pt")
    assert not (tmp_path / "model.fingerprint.json").exists()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    files = [case(folder, seed, ("T1", "T2", "FLAIR"), skull=False) for seed in (1, 2)]
    listed = [{"image": [path.name for path in one.values()], "label": "none"} for one in files]
    header = {"modality": {"0": "T1", "1": "T2", "2": "FLAIR"}}
    write_json(folder / "datalist.json", {**header, "training": listed})
    return folder


def test_the_tool_makes_one_for_a_checkpoint(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "published.pt").touch()
    run_tool(tool, ["rsanet", str(data), str(tmp_path / "published.pt"), "--filters=[8,8,16,16,32]"])
    told = capsys.readouterr().out
    assert f"wrote {tmp_path / 'published.fingerprint.json'}" in told and "T1: 2 scans, 3x3x3 mm" in told
    found = read_fingerprint(tmp_path / "published.pt")
    assert found is not None and found.options == {"filters": [8, 8, 16, 16, 32]} and found.grid == "resampled"
    assert found.seen["T1"].ranges["spacing_r"] == (SPACING[0],) * 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rsanet", "DATA", "none.pt"], "no such checkpoint"),
        (["rsanet", "DATA", "PT", "--section", "testing"], "no 'testing' cases"),
        (["rsanet", "DATA", "PT", "--epochs", "3"], "--epochs: is no option of a model of rsanet"),
        (["zoom_resunet", "DATA", "PT"], "T1"),
    ],
)
def test_the_tool_says_what_is_wrong(
    words: list[str], said: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.pt").touch()
    places = {"DATA": str(data), "PT": str(tmp_path / "a.pt")}
    with pytest.raises(SystemExit) as caught:
        run_tool(tool, [places.get(word, word) for word in words])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and "error: " in error and said in error
    assert not (tmp_path / "a.fingerprint.json").exists()
