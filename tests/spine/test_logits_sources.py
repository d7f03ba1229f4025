# SPDX-License-Identifier: Apache-2.0
"""Sources of coarse logits, and the slices with logits that the refinement learns from."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import Compose, Identity, RandomizableTransform, Transform
from torch import Tensor, nn

from custom_nets.checkpoints import save_weights
from custom_nets.errors import InputError
from custom_nets.label_graphs.chains import mrspineseg
from custom_nets.spine.coarse_logits import Provenance, graph_digest, graph_names, logits_path, write_logits
from custom_nets.spine.logits_sources import AddCoarseLogitsd, ComputedLogits, StoredLogits, require_stored_logits
from custom_nets.spine.slice_samples import SpineSlices

GRAPH = mrspineseg(2)
DEPTHS = {"Case1": 3, "Case2": 5}
CASES = [{"image": [f"/scans/{name}.nii.gz"]} for name in DEPTHS]
INPUT = 6  # slices of the coarse network's input


class Counting(nn.Module):
    """A coarse network whose logits grow along the labels; it counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.dropout = nn.Dropout(0.5)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        assert not self.training and not torch.is_grad_enabled()
        return self.dropout(x * self.scale * torch.arange(len(GRAPH)).reshape(1, -1, 1, 1, 1))


def volume(name: str) -> Tensor:
    """1 x D x 4 x 4; voxels hold the slice's number from 1, and 100 a case."""
    slices = torch.arange(1, DEPTHS[name] + 1) + 100 * list(DEPTHS).index(name)
    return slices.float().reshape(1, -1, 1, 1).expand(1, -1, 4, 4)


def coarse_input(case: dict[str, Any]) -> dict[str, Any]:
    image = volume(Path(case["image"][0]).name.split(".")[0])
    missing = INPUT - image.shape[1]
    padded = nn.functional.pad(image, (0, 0, 0, 0, (missing + 1) // 2, missing // 2), value=-7)
    return {"image": MetaTensor(padded, affine=torch.eye(4))}


def computed(**options: Any) -> ComputedLogits:
    return ComputedLogits(
        options.pop("network", None) or Counting(),
        options.pop("cases", CASES),
        coarse_input,
        **{"progress": False, **options},
    )


def store(folder: Path, trained_on: tuple[str, ...] = ()) -> Path:
    for name in DEPTHS:
        logits = volume(name).numpy() * 2 * np.arange(len(GRAPH)).reshape(-1, 1, 1, 1)
        provenance = Provenance(name, "ab", trained_on, graph_names(GRAPH), graph_digest(GRAPH), (INPUT, 4, 4))
        write_logits(logits_path(folder, name), logits, provenance)
    return folder


@pytest.mark.parametrize("case", DEPTHS)
def test_both_sources_give_the_volumes_slices(tmp_path: Path, case: str) -> None:
    expected = volume(case) * 2 * torch.arange(len(GRAPH)).reshape(-1, 1, 1, 1)
    for source in (computed(), StoredLogits(store(tmp_path), GRAPH)):
        found = source(case, DEPTHS[case])
        assert type(found) is Tensor and found.dtype == torch.float16
        assert torch.equal(found.float(), expected)


def test_each_case_is_computed_once_when_the_first_is_asked_for() -> None:
    network = Counting()
    source = computed(network=network)
    assert network.calls == 0
    first = source("Case2", 5)
    assert network.calls == 2 and torch.equal(source("Case2", 5), first)
    source("Case1", 3)
    assert network.calls == 2
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_checkpoint_is_read_when_logits_are_wanted(tmp_path: Path) -> None:
    source = computed(checkpoint=tmp_path / "model.pt")
    with pytest.raises(InputError, match="no such checkpoint"):
        copy.copy(source)("Case1", 3)
    save_weights({"scale": torch.tensor(3.0)}, tmp_path / "model.pt")
    assert source("Case1", 3)[1, :, 0, 0].tolist() == [3, 6, 9]


def test_what_cannot_be_computed_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two cases are called 'Case1'"):
        computed(cases=[CASES[0], {"image": ["/other/Case1.nii.gz"]}])
    with pytest.raises(InputError, match="'Case3' is not among the 2"):
        computed()("Case3", 3)
    with pytest.raises(InputError, match="saw 6 slices of a volume of 7"):
        computed()("Case1", 7)
    network = Counting()
    nn.init.constant_(network.scale, 1e6)
    with pytest.raises(InputError, match=r"Case1: a logit of .* above 65504"):
        computed(network=network)("Case1", 3)


def test_stored_logits_of_a_trained_case_are_refused(tmp_path: Path) -> None:
    store(tmp_path, trained_on=("Case2",))
    source = StoredLogits(tmp_path, GRAPH)
    assert source("Case1", 3).shape == (4, 3, 4, 4)
    with pytest.raises(InputError, match="trained on Case2 itself"):
        source("Case2", 5)
    assert StoredLogits(tmp_path, GRAPH, out_of_fold=False)("Case2", 5).shape == (4, 5, 4, 4)


def test_all_stored_logits_are_checked_before_a_training(tmp_path: Path) -> None:
    require_stored_logits(StoredLogits(store(tmp_path), GRAPH), CASES[:1], CASES[1:], progress=False)
    for fault, fragment in ((lambda path: path.write_bytes(b"PK"), "cannot be read"), (Path.unlink, "no such file")):
        fault(logits_path(tmp_path, "Case2"))
        with pytest.raises(SystemExit, match=f"error: .*Case2.npz: .*{fragment}"):
            require_stored_logits(StoredLogits(tmp_path, GRAPH), CASES[:1], CASES[1:], progress=False)
    with pytest.raises(SystemExit, match="two cases are called"):
        require_stored_logits(StoredLogits(tmp_path, GRAPH), CASES, CASES[:1], progress=False)


class Loading(Transform):
    """A case's volume, named, as the deterministic transforms leave it."""

    def __call__(self, case: dict[str, Any]) -> dict[str, Any]:
        name = Path(case["image"][0]).name.split(".")[0]
        label = MetaTensor(volume(name).to(torch.uint8), affine=torch.eye(4))
        return {"image": MetaTensor(volume(name).clone()), "label": label, "case_name": name}


class Jitter(RandomizableTransform):
    """The same random number on image, label and logits."""

    def __call__(self, item: dict[str, Tensor]) -> dict[str, Tensor]:
        offset = self.R.uniform()
        return {key: value + offset if value.is_floating_point() else value for key, value in item.items()}


def samples(source: Any, transform: Any = None, **options: Any) -> SpineSlices:
    volumes = Compose([Loading(), AddCoarseLogitsd("image", source)])
    return SpineSlices(CASES, volumes, Compose([transform or Identity()]), **{"progress": False, **options})


@pytest.mark.parametrize("stored", [True, False])
def test_one_item_a_slice_of_every_volume(tmp_path: Path, stored: bool) -> None:
    data = samples(StoredLogits(store(tmp_path), GRAPH) if stored else computed(), num_workers=2)
    assert len(data) == sum(DEPTHS.values())
    values = [1, 2, 3, 101, 102, 103, 104, 105]
    for item, value in zip((data[index] for index in range(len(data))), values, strict=True):
        assert {key: (type(entry), entry.dtype, tuple(entry.shape)) for key, entry in item.items()} == {
            "image": (Tensor, torch.float32, (1, 4, 4)),
            "label": (Tensor, torch.uint8, (1, 4, 4)),
            "coarse_logits": (Tensor, torch.float32, (4, 4, 4)),
        }
        assert (item["image"] == value).all() and (item["label"] == value).all()
        assert item["coarse_logits"][:, 0, 0].tolist() == [2.0 * value * node for node in range(4)]
    assert data.volumes[1]["coarse_logits"].dtype == torch.float16, "in memory"


def test_items_do_not_share_the_volumes_memory() -> None:
    data = samples(computed())
    for entry in data[0].values():
        entry.zero_()
    assert all(entry.any() for entry in data[0].values())


def test_the_randomness_of_an_item_follows_from_seed_epoch_and_slice() -> None:
    def drawn(seed: int, epoch: int, index: int) -> float:
        data = samples(computed(), Jitter(), seed=seed)
        data.epoch = epoch
        item = data[index]
        value = float(item["image"][0, 0, 0]) - float(item["label"][0, 0, 0])
        assert float(item["coarse_logits"][0, 0, 0]) == pytest.approx(value, abs=1e-5)
        return value

    different = {drawn(*entropy) for entropy in [(0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 1)]}
    assert len(different) == 4 and drawn(0, 2, 3) == drawn(0, 2, 3)


def test_loader_processes_compute_nothing() -> None:
    network = Counting()
    data = samples(computed(network=network), Jitter())
    alone, parallel = (
        [batch["image"] for batch in DataLoader(data, batch_size=3, num_workers=workers)] for workers in (0, 2)
    )
    assert all(torch.equal(one, other) for one, other in zip(alone, parallel, strict=True))
    assert network.calls == 2
    assert pickle.loads(pickle.dumps(data.volumes.transform.transforms[1].source)).network is None


class Asking(torch.utils.data.Dataset):
    """Asks a source in the loader's process."""

    def __init__(self, source: ComputedLogits) -> None:
        self.source = source

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> str:
        try:
            self.source("Case1", 3)
        except InputError as error:
            return str(error)
        return "computed"


def test_a_loader_process_that_would_have_to_compute_says_so() -> None:
    (message,) = next(iter(DataLoader(Asking(computed()), num_workers=1)))
    assert "--cache_rate 1" in message


def test_logits_of_another_number_of_slices_are_refused() -> None:
    data = samples(lambda case, slices: torch.zeros(4, slices + 1, 4, 4, dtype=torch.float16))
    with pytest.raises(InputError, match=r"have \[3, 3, 4\] slices"):
        data[0]
