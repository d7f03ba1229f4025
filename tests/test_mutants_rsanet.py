# SPDX-License-Identifier: Apache-2.0
"""The golden numbers tell every known misreading of the paper apart, and by how much.

The bound of each mistake is the smallest relative L2 difference that is stated for it over all goldens; half of it is
asked for here, on the arrays named.
"""

from __future__ import annotations

import pytest
import torch

from tests.recipe import arrays, document, filled, image, relative_l2
from tests.reference import mutants
from tests.reference.rsanet import ConvBlock, RSABlock, UpConcat

GOLDENS = arrays("rsanet")
SHAPES = document("rsanet")["shapes"]
RIGHT = 1e-5


def block_error(block: type[RSABlock], regime: str) -> float:
    with torch.inference_mode():
        return relative_l2(filled(block(16), regime)(image(SHAPES["blk"])), GOLDENS[f"rsa_{regime}"])


def network_error(**parts: type[UpConcat] | type[ConvBlock]) -> float:
    with torch.inference_mode():
        network = filled(mutants.network_with(**parts), "soft")
        return relative_l2(network(image(SHAPES["odd"])), GOLDENS["net_odd_soft"])


@pytest.mark.parametrize("regime", ["hard", "soft"])
def test_the_right_block_is_right(regime: str) -> None:
    assert block_error(RSABlock, regime) < RIGHT


@pytest.mark.parametrize("regime", ["hard", "soft"])
@pytest.mark.parametrize(
    ("mutant", "bound"),
    [
        (mutants.FigureOrder, 0.23),
        (mutants.FigureOrderWithBetas, 0.03),
        (mutants.ColumnSoftmax, 0.4),
        (mutants.ThetaPhiExchanged, 0.26),
        (mutants.ScaledScores, 0.2),
        (mutants.NoResidual, 1.0),
        (mutants.ProjectedOnce, 0.37),
    ],
)
def test_wrong_blocks_are_told_apart(mutant: type[RSABlock], bound: float, regime: str) -> None:
    assert block_error(mutant, regime) > bound / 2


def test_a_wrong_order_of_betas_shows_in_the_soft_golden_only() -> None:
    assert block_error(mutants.BetaOrder, "soft") > 0.5 / 2
    assert block_error(mutants.BetaOrder, "hard") < RIGHT


def test_the_right_network_is_right() -> None:
    assert network_error() < RIGHT


@pytest.mark.parametrize(
    ("part", "mutant", "bound"),
    [
        ("up_concat", mutants.HighSideCrop, 0.7),
        ("up_concat", mutants.InterpolatedToSkip, 0.7),
        ("up_concat", mutants.UpsampledFirst, 1.3),
        ("up_concat", mutants.Trilinear, 0.4),
        ("conv_block", mutants.LeakyBlock, 0.04),
        ("conv_block", mutants.LargeEpsBlock, 2e-3),
        ("conv_block", mutants.ActBeforeNormBlock, 1.8),
    ],
)
def test_wrong_networks_are_told_apart(part: str, mutant: type[UpConcat] | type[ConvBlock], bound: float) -> None:
    assert network_error(**{part: mutant}) > bound / 2
