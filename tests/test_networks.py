# SPDX-License-Identifier: Apache-2.0
"""The contract that every network of the collection keeps. A new network adds one line to `CONTRACTS`."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.layers import DropPath
from torch import Tensor, nn

import custom_nets
from custom_nets.checkpoints import load_weights, save_weights
from custom_nets.model_zoo.exportable import Exportable, exportable
from tests.recipe import arrays, document, filled, image, relative_l2
from tests.spineparsenet_files import small as spineparsenet_small
from tests.spineparsenet_files import small_first_stage, small_second_stage
from tests.test_rsanet import filled as rsanet_filled
from tests.test_rsanet import small as rsanet_small
from tests.test_s2anet import published as s2anet_published
from tests.test_s2anet import small as s2anet_small
from tests.test_s2ca_net import published as s2ca_net_published
from tests.test_s2ca_net import small as s2ca_net_small
from tests.test_spineparsenet import published as gcsn_published
from tests.test_spineparsenet import published_fine as resunet2d_published
from tests.test_spineparsenet_volumes import published as spineparsenet_published
from tests.test_spineparsenet_volumes import volume as spineparsenet_volume
from tests.test_zoom_resunet import small as zoom_resunet_small


@dataclass(frozen=True)
class Contract:
    """What one network promises, besides what `custom_nets.model_zoo.exportable` says of its other forms.

    Attributes:
        default: the class; its defaults are the published network.
        small: makes a quick one in eval mode, all of its parts switched on; takes the same options as the class.
        shapes: inputs of all kinds: the first is traced and trained with, the last, another multiple, is exported; the
            others must give the same function there. Every size is to work, or to be listed in `refused`.
        golden: gives (logits, published logits) of the default network.
        tolerance: greatest difference of an exported form from the network.
        bfloat16: greatest relative L2 difference under autocast.
        compiled_gradient: greatest relative L2 difference of a compiled network's gradients; other kernels round
            otherwise, and a ReLU near 0 then goes the other way.
        refused: size -> what the error says, naming the size that would work.
        trained: in train mode as a whole; False where its parts are trained instead.
        without_gradient: names of parameters that by their nature have none.
        onnx: whether ONNX is tried here; False where the same graph is tried elsewhere, since it takes long.
    """

    default: type[nn.Module]
    small: Callable[..., nn.Module]
    shapes: list[tuple[int, ...]]
    golden: Callable[[], tuple[Tensor, Tensor]]
    tolerance: float = 1e-5
    bfloat16: float = 0.03
    compiled_gradient: float = 1e-4
    refused: dict[tuple[int, ...], str] = field(default_factory=dict)
    trained: bool = True
    without_gradient: tuple[str, ...] = ()
    onnx: bool = True

    @cached_property
    def forms(self) -> Exportable:
        """What its exported forms promise."""
        return exportable(self.small())


def rsanet_golden() -> tuple[Tensor, Tensor]:
    network = rsanet_filled(custom_nets.RSANet().eval(), "soft")
    with torch.no_grad():
        logits = network(image(document("rsanet")["shapes"]["odd"]))
    return logits, torch.from_numpy(arrays("rsanet")["net_odd_soft"])


def zoom_resunet_golden() -> tuple[Tensor, Tensor]:
    published = document("zoom_resunet")["network"]
    logits = run(filled(custom_nets.ZoomResUNet()), image(published["input"]["shape"]))
    return logits, torch.from_numpy(arrays("zoom_resunet")["output"])


def s2anet_golden() -> tuple[Tensor, Tensor]:
    network, _ = s2anet_published("s2anet_c55_fs1")
    logits = run(network, image(document("s2anet")["networks"]["s2anet_c55_fs1"]["input_shape"]))
    return logits, torch.from_numpy(arrays("s2anet")["s2anet_c55_fs1"])


def s2ca_net_golden() -> tuple[Tensor, Tensor]:
    network, _ = s2ca_net_published(32)
    logits = run(network, image(document("s2ca_net")["network"]["net_p32b2"]["input_shape"]))
    return logits[..., ::2, ::2, ::2], torch.from_numpy(arrays("s2ca_net")["net_p32b2.head3"])


def gcsn_golden() -> tuple[Tensor, Tensor]:
    network, _ = gcsn_published()
    logits = run(network, image(document("spineparsenet")["shapes"]["gcsn_eval"]))
    return logits[..., ::2, ::2, ::2], torch.from_numpy(arrays("spineparsenet")["gcsn_eval_logits_s2"])


def resunet2d_golden() -> tuple[Tensor, Tensor]:
    network, _ = resunet2d_published()
    shapes = document("spineparsenet")["shapes"]
    with torch.no_grad():
        logits = network(image(shapes["res_img"]), image(shapes["res_un"], "unary"))
    return logits, torch.from_numpy(arrays("spineparsenet")["resunet_eval_logits"])


def spineparsenet_golden() -> tuple[Tensor, Tensor]:
    scores = run(spineparsenet_published(), spineparsenet_volume())
    return scores[0, ..., ::8, ::8], torch.from_numpy(arrays("spineparsenet")["pipeline_prob_s"])


SIZES_3D = [(1, 3, 32, 48, 32), (2, 3, 17, 20, 33), (1, 3, 1, 2, 5), (1, 3, 48, 32, 64)]
SIZES_FROM_8 = [(1, 1, 16, 24, 16), (2, 1, 17, 20, 33), (1, 1, 8, 9, 15), (1, 1, 24, 16, 32)]
SIZES_FROM_8_OF_2 = [(n, 2, *size) for n, _, *size in SIZES_FROM_8]
THIN = {(1, 1, 7, 16, 16): "at least 8 voxels"}
THIN_OF_2 = {(1, 2, 16, 16, 7): "at least 8 voxels"}
SLICES_OF_3 = [(1, 3, 32, 24), (2, 3, 16, 40), (1, 3, 8, 8), (1, 3, 48, 32)]
PAIRS_OF_3 = [(1, 6, 32, 48), (2, 6, 48, 16), (1, 6, 16, 16), (1, 6, 64, 32)]
UNEVEN = {(1, 3, 32, 12): "32 x 12 voxels: give multiples of 8", (1, 4, 16, 16): "4 channels: give 3 slices"}
UNEVEN_PAIRS = {(1, 6, 24, 32): "24 x 32 voxels: give multiples of 16", (1, 3, 16, 16): "3 channels: give 3 slices"}
PATCHES_OF_4 = [(1, 4, 16, 16, 16), (2, 4, 16, 16, 16)]
PATCHES_OF_2 = [(1, 2, 24, 24, 24), (2, 2, 24, 24, 24)]
OTHER_PATCHES = {(1, 4, 16, 16, 24): "give 16 along each axis", (1, 3, 16, 16, 16): "3 channels: give 4"}
OTHER_PATCHES_OF_2 = {(1, 2, 16, 16, 16): "give 24 along each axis"}

SIZES_OF_1 = [(2, 1, 32, 48, 32), (2, 1, 3, 17, 33), (1, 1, 1, 1, 5), (1, 1, 19, 18, 37), (2, 1, 48, 32, 32)]
SIZES_OF_2 = [(n, 2, *size) for n, _, *size in SIZES_OF_1]
OTHER_CHANNELS = {(1, 1, 4, 16, 16): r"2 channels got an input of \[1, 1, 4, 16, 16\]: give N x C x D x H x W"}
NO_VOLUMES = {(1, 1, 16, 16): "give N x C x D x H x W", (1, 2, 4, 16, 16): "1 channels got"}
SLICES_OF_7 = [(1, 7, 32, 48), (2, 7, 16, 48), (1, 7, 16, 16), (1, 7, 64, 32)]
SLICES_OF_1 = [(n, 1, 8 * h // 16, 8 * w // 16) for n, _, h, w in SLICES_OF_7]
UNEVEN_SLICES = {(1, 7, 24, 32): "slices of 24 x 32: give multiples of 16", (1, 6, 16, 16): r"\[1, 6, 16, 16\] in all"}
UNEVEN_SLICES_OF_1 = {(1, 1, 16, 12): "slices of 16 x 12: give multiples of 8"}
SCANS = [(1, 1, 4, 24, 32), (2, 1, 7, 17, 21), (1, 1, 1, 7, 9), (1, 1, 6, 32, 40)]

# fmt: off
CONTRACTS = {
    "GCSN": Contract(custom_nets.GCSN, small_first_stage, SIZES_OF_1, gcsn_golden, compiled_gradient=5e-3),
    "GCSN transfer": Contract(custom_nets.GCSN, partial(small_first_stage, in_channels=2, graph_mode="transfer"), SIZES_OF_2, gcsn_golden, compiled_gradient=5e-3, refused=OTHER_CHANNELS, without_gradient=("voxel_score",)),  # noqa: E501
    "ResUNet2d": Contract(custom_nets.ResUNet2d, small_second_stage, SLICES_OF_7, resunet2d_golden, refused=UNEVEN_SLICES),  # noqa: E501
    "ResUNet2d of the image alone": Contract(custom_nets.ResUNet2d, partial(small_second_stage, coarse_channels=0, filters=(4, 6, 8, 8)), SLICES_OF_1, resunet2d_golden, refused=UNEVEN_SLICES_OF_1),  # noqa: E501
    "SpineParseNet": Contract(custom_nets.SpineParseNet, spineparsenet_small, SCANS, spineparsenet_golden, refused=NO_VOLUMES, trained=False),  # noqa: E501
    "RSANet": Contract(custom_nets.RSANet, rsanet_small, SIZES_3D, rsanet_golden, without_gradient=("phi_conv.bias",)),
    "RSANet plain": Contract(custom_nets.RSANet, partial(rsanet_small, block="none"), SIZES_3D, rsanet_golden),
    "RSANet non-local": Contract(custom_nets.RSANet, partial(rsanet_small, block="non-local", norm="BN", conv_block="resV2", up="trilinear"), SIZES_3D, rsanet_golden),  # noqa: E501
    "S2aNet": Contract(custom_nets.S2aNet, s2anet_small, SLICES_OF_3, s2anet_golden, refused=UNEVEN, without_gradient=("conv.bias",)),  # noqa: E501
    "S2aNet of other options": Contract(custom_nets.S2aNet, partial(s2anet_small, in_channels=2, share_encoder=False, skip="centre", slice_order="centre_first", up="bilinear", norm="none", poolings=4, scale_aware="level2"), PAIRS_OF_3, s2anet_golden, refused=UNEVEN_PAIRS),  # noqa: E501
    "S2CANet": Contract(custom_nets.S2CANet, s2ca_net_small, PATCHES_OF_4, s2ca_net_golden, refused=OTHER_PATCHES, without_gradient=("pointwise.bias",), onnx=False),  # noqa: E501
    "S2CANet of other options": Contract(custom_nets.S2CANet, partial(s2ca_net_small, in_channels=2, out_channels=3, patch_size=24, local_global=False, context="none", deformable="per_level"), PATCHES_OF_2, s2ca_net_golden, refused=OTHER_PATCHES_OF_2, without_gradient=("pointwise.bias",)),  # noqa: E501
    "ZoomResUNet": Contract(custom_nets.ZoomResUNet, zoom_resunet_small, SIZES_FROM_8, zoom_resunet_golden, tolerance=5e-5, compiled_gradient=2e-3, refused=THIN),  # noqa: E501
    "ZoomResUNet checkpointed": Contract(custom_nets.ZoomResUNet, partial(zoom_resunet_small, in_channels=2, out_channels=3, use_bias=False, checkpoint_full_resolution=True), SIZES_FROM_8_OF_2, zoom_resunet_golden, tolerance=5e-5, compiled_gradient=2e-3, refused=THIN_OF_2, onnx=False),  # noqa: E501
}
# fmt: on


@pytest.fixture(params=CONTRACTS, scope="module")
def contract(request: pytest.FixtureRequest) -> Contract:
    return CONTRACTS[request.param]


@pytest.fixture
def network(contract: Contract) -> nn.Module:
    return contract.small()


@contextmanager
def deprecated() -> Iterator[None]:
    """TorchScript is deprecated but asked for by the Model Zoo."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def heads(logits: Tensor | list[Tensor]) -> list[Tensor]:
    """What a network gives in train mode: logits, or those of all its heads."""
    return logits if isinstance(logits, list) else [logits]


def run(network: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network(x)


def assert_same(form: Any, network: nn.Module, shapes: list[tuple[int, ...]], tolerance: float) -> None:
    for shape in shapes:
        x = image(shape)
        torch.testing.assert_close(run(form, x), run(network, x), atol=tolerance, rtol=tolerance)


def test_every_network_has_a_contract() -> None:
    assert {contract.default.__name__ for contract in CONTRACTS.values()} == set(custom_nets.__all__)


def test_constructor_is_keyword_only_and_has_the_published_defaults(contract: Contract) -> None:
    arguments = inspect.signature(contract.default).parameters.values()
    assert arguments
    assert all(a.kind is a.KEYWORD_ONLY and a.default is not a.empty for a in arguments)
    assert not any(isinstance(a.default, list | dict) for a in arguments)  # shared between calls


@pytest.mark.parametrize(
    "default", {c.default: c for c in CONTRACTS.values()}.values(), ids=lambda c: c.default.__name__
)
def test_golden_logits(default: Contract) -> None:
    logits, published = default.golden()
    torch.testing.assert_close(logits, published, atol=1e-4, rtol=0)


def test_one_tensor_of_logits_for_every_size(contract: Contract, network: nn.Module) -> None:
    for shape in contract.shapes:
        logits = run(network, image(shape))
        assert isinstance(logits, Tensor)
        assert logits.shape == (shape[0], logits.shape[1], *shape[2:])
        assert logits.dtype == torch.float32
        assert torch.equal(logits, run(network, image(shape)))  # the same each time
    for shape, message in contract.refused.items():
        with pytest.raises(ValueError, match=message):
            run(network, image(shape))


def test_the_samples_of_a_batch_do_not_mix(contract: Contract, network: nn.Module) -> None:
    x = image((2, *contract.shapes[1][1:]))
    apart = torch.cat([run(network, sample) for sample in x.split(1)])
    torch.testing.assert_close(run(network, x), apart, atol=contract.tolerance, rtol=contract.tolerance)


def test_gradients_reach_the_input_and_every_parameter(contract: Contract, network: nn.Module) -> None:
    x = image(contract.shapes[0]).requires_grad_()
    outs = heads(network.train(contract.trained)(x))
    torch.stack([(out * image(out.shape, f"cotangent{n or ''}")).sum() for n, out in enumerate(outs)]).sum().backward()
    assert x.grad is not None
    assert x.grad.norm() > 0
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.norm() > 0 or name.endswith(contract.without_gradient), name


def test_weights_are_saved_and_loaded(contract: Contract, network: nn.Module, tmp_path: Path) -> None:
    save_weights(network.state_dict(), tmp_path / "model.pt")
    with torch.no_grad():
        twin = contract.small()
        for parameter in twin.parameters():
            parameter.add_(1.0)
    load_weights(twin, tmp_path / "model.pt")
    assert_same(twin, network, contract.shapes[:1], 0.0)
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in network.state_dict().items())


def test_copies_are_independent(contract: Contract, network: nn.Module) -> None:
    x = image(contract.shapes[1])
    expected = run(network, x)
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(run(twin, x), expected)


def test_bfloat16_autocast(contract: Contract, network: nn.Module) -> None:
    for shape in contract.shapes[:2]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = run(network, image(shape))
        assert logits.isfinite().all()
        assert relative_l2(logits.float(), run(network, image(shape))) < contract.bfloat16


def test_torchscript_scripting(contract: Contract, network: nn.Module, tmp_path: Path) -> None:
    if not contract.forms.scriptable:
        with deprecated(), pytest.raises(Exception):  # noqa: B017  promised to fail, in whatever way
            torch.jit.script(network)
        return
    with deprecated():
        torch.jit.save(torch.jit.script(network), tmp_path / "model.ts")
        scripted = torch.jit.load(tmp_path / "model.ts")
    assert_same(scripted, network, contract.shapes, contract.tolerance)


def test_torchscript_tracing_holds_for_all_sizes(contract: Contract, network: nn.Module) -> None:
    with deprecated(), torch.no_grad():
        traced = torch.jit.trace(network, image(contract.shapes[0]))
    assert_same(
        traced, network, contract.shapes if contract.forms.any_size else contract.shapes[:1], contract.tolerance
    )


@pytest.fixture(scope="module")
def exported(contract: Contract) -> torch.export.ExportedProgram:
    """The small network, with sizes and number of samples left open where it promises so."""
    _, *last = contract.shapes[-1]
    shape = (2 if contract.forms.batch else 1, *last)
    with torch.no_grad():
        return torch.export.export(contract.small(), (image(shape),), dynamic_shapes=(contract.forms.open_axes(shape),))


def exported_shapes(contract: Contract) -> list[tuple[int, ...]]:
    last = contract.shapes[-1]
    same = [shape for shape in contract.shapes if shape[2:] == last[2:]] if contract.forms.batch else [last]
    return same + [shape for shape in contract.shapes if contract.forms.holds(shape) and shape not in same]


@pytest.mark.forms
def test_torch_export(contract: Contract, network: nn.Module, exported: torch.export.ExportedProgram) -> None:
    assert_same(exported.module(), network, exported_shapes(contract), contract.tolerance)


@pytest.mark.forms
def test_onnx(contract: Contract, network: nn.Module, exported: torch.export.ExportedProgram, tmp_path: Path) -> None:
    if not contract.onnx:
        pytest.skip("the same graph is tried by another contract, or by test_bundle_verbs.py")
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    with deprecated(), torch.no_grad():
        torch.onnx.export(exported, (), tmp_path / "model.onnx", input_names=["image"], dynamo=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", options, ["CPUExecutionProvider"])
    for shape in exported_shapes(contract):
        (found,) = session.run(None, {"image": image(shape).numpy()})
        np.testing.assert_allclose(found, run(network, image(shape)), atol=10 * contract.tolerance, rtol=1e-4)


@pytest.mark.forms
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_compile_in_one_graph(contract: Contract, network: nn.Module, training: bool) -> None:
    if training and not contract.trained:
        pytest.skip("its parts are trained, and compiled, by themselves")
    torch._dynamo.reset()
    backend = "aot_eager" if training else "eager"  # AOT takes longer, and is for gradients
    compiled = torch.compile(network, backend=backend, fullgraph=contract.forms.any_size)
    if not training:
        assert_same(compiled, network, contract.shapes[:1], contract.tolerance)
        return
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd | DropPath):
            module.eval()  # random
    x = image(contract.shapes[0])
    gradients = []
    for form in (network, compiled):
        network.zero_grad()
        torch.stack([out.square().mean() for out in heads(form(x))]).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    assert relative_l2(gradients[1], gradients[0]) < contract.compiled_gradient
