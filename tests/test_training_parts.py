# SPDX-License-Identifier: Apache-2.0
"""The parts of a training by themselves: randomness, weight decay, clipping, pictures."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.transforms import Compose, Lambdad, RandGaussianNoised
from torch import nn

from custom_nets.errors import InputError
from custom_nets.training.optimisation import ClipGradients, optimizer_named, parameter_groups
from custom_nets.training.pictures import CasePictures
from custom_nets.training.reproducible import ReproducibleCacheDataset, SeedEpoch, choose_fastest_kernels, derived_seed


def noisy(seed: int = 0, epoch: int = 1, cache_rate: float = 1.0) -> ReproducibleCacheDataset:
    transform = Compose(
        [Lambdad("image", lambda value: torch.full((1, 2, 2), float(value))), RandGaussianNoised("image", prob=1.0)]
    )
    cases = [{"image": 0} for _ in range(3)]
    data = ReproducibleCacheDataset(cases, transform, seed, cache_rate, progress=False)
    data.epoch = epoch
    return data


def drawn(data: ReproducibleCacheDataset, index: int) -> torch.Tensor:
    return torch.as_tensor(data[index]["image"])


def test_augmentation_depends_on_seed_epoch_and_case_alone() -> None:
    image = drawn(noisy(), 1)
    backwards = noisy()
    for index in (2, 0):
        backwards[index]
    assert torch.equal(drawn(backwards, 1), image)
    assert torch.equal(drawn(noisy(cache_rate=0.0), 1), image)
    for other in (drawn(noisy(), 0), drawn(noisy(epoch=2), 1), drawn(noisy(seed=1), 1)):
        assert not torch.equal(other, image)


def test_every_epoch_is_seeded_anew() -> None:
    data = noisy(epoch=0)

    def numbers(epoch: int, rank: int = 0) -> tuple[float, ...]:
        torch.rand(7)
        SeedEpoch(5, data)(SimpleNamespace(state=SimpleNamespace(epoch=epoch, rank=rank)))
        assert data.epoch == epoch
        return float(torch.rand(1)), float(np.random.rand()), random.random()

    assert numbers(3) == numbers(3)
    for other in (numbers(4), numbers(3, rank=1)):
        assert not set(other) & set(numbers(3))


def test_derived_seeds_differ() -> None:
    seeds = {derived_seed(seed, epoch, case) for seed in range(4) for epoch in range(20) for case in range(20)}
    assert len(seeds) == 4 * 20 * 20
    assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("adam", torch.optim.Adam, {"betas": (0.9, 0.999), "amsgrad": False, "decoupled_weight_decay": False}),
        ("sgd", torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "dampening": 0}),
    ],
)
def test_optimisers_are_named(name: str, kind: type, settings: dict[str, Any]) -> None:
    network = nn.Linear(2, 3)
    optimizer = optimizer_named(name, network.parameters(), lr=0.01, weight_decay=0.1, momentum=0.9)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    settings |= {"lr": 0.01, "weight_decay": 0.1}
    assert {key: group[key] for key in settings} == settings
    assert len(group["params"]) == 2


def test_sgd_decays_in_the_gradient() -> None:
    """Step 1 of Nesterov's momentum m on a gradient g: -lr (1 + m) (g + decay w)."""
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = optimizer_named("sgd", [weight], lr=0.1, weight_decay=0.5, momentum=0.9)
    (3 * weight).sum().backward()
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([2 - 0.1 * 1.9 * (3 + 0.5 * 2)]))


def test_sgd_without_momentum() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = optimizer_named("sgd", [weight], lr=0.1, weight_decay=0.5, momentum=0)
    (3 * weight).sum().backward()
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([2 - 0.1 * (3 + 0.5 * 2)]))


def test_an_unknown_optimiser_is_refused() -> None:
    with pytest.raises(InputError, match="optimizer_name is 'adamw': choose adam or sgd"):
        optimizer_named("adamw", [], lr=0.1, weight_decay=0)


@pytest.mark.parametrize("fastest", [True, False])
def test_cudnn_chooses_where_asked_for(fastest: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    choose_fastest_kernels(fastest)
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (fastest, not fastest)


def test_kernels_alone_decay() -> None:
    network = nn.Sequential(nn.Conv3d(2, 4, 3), nn.GroupNorm(2, 4), nn.Linear(4, 1))
    network.register_parameter("beta", nn.Parameter(torch.zeros(1)))
    network[2].weight.requires_grad_(False)
    decayed, free = parameter_groups(network, 0.3)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    assert [parameter.ndim for parameter in decayed["params"]] == [5]
    assert len(free["params"]) == 5


@pytest.mark.parametrize("scale", [None, 1024.0])
def test_gradients_are_clipped_in_true_size(scale: float | None) -> None:
    network = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    scaler = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)
    loss = 100 * network(torch.ones(1, 3)).sum()
    (loss if scaler is None else scaler.scale(loss)).backward()
    ClipGradients(0.5)(SimpleNamespace(network=network, optimizer=optimizer, scaler=scaler))
    norm = torch.cat([parameter.grad.flatten() for parameter in network.parameters()]).norm()
    assert float(norm) == pytest.approx(0.5, rel=1e-4)


def test_no_limit_no_clipping() -> None:
    attached: list[Any] = []
    engine: Any = SimpleNamespace(add_event_handler=lambda *event: attached.append(event))
    ClipGradients(0).attach(engine)
    assert not attached
    ClipGradients(1).attach(engine)
    assert len(attached) == 1


def test_pictures_of_the_first_cases_of_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr("custom_nets.training.pictures.overlay", lambda *arguments: names.append(arguments[-1]))
    handlers: dict[Any, Any] = {}
    engine: Any = SimpleNamespace(add_event_handler=handlers.__setitem__, state=SimpleNamespace())
    CasePictures(tmp_path / "pictures", tmp_path, limit=2).attach(engine)
    for _ in range(2):
        handlers[Events.EPOCH_STARTED](engine)
        for case in ("a/flair.nii.gz", "b/flair.nii.gz", "c/flair.nii"):
            image = MetaTensor(torch.zeros(3, 4, 4, 4), meta={"filename_or_obj": str(tmp_path / case)})
            engine.state.batch, engine.state.output = [{"image": image}], [{"pred": image[:1]}]
            handlers[Events.ITERATION_COMPLETED](engine)
    assert names == ["a_flair", "b_flair"] * 2
