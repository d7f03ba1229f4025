# SPDX-License-Identifier: Apache-2.0
"""Attention behind any submodule of MONAI's networks: nothing changes at insertion, all of it is learnt and kept."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from monai.networks.nets import DynUNet, SegResNet, SwinUNETR, UNet
from torch import Tensor, nn

from custom_nets.blocks.attach import attach_attention, attachable_places
from custom_nets.blocks.non_local import NonLocalBlock
from custom_nets.blocks.slice_attention import RSABlock
from tests.recipe import image

SHAPE = (1, 1, 8, 12, 16)


def unet() -> nn.Module:
    return UNet(3, 1, 2, channels=(4, 8, 16), strides=(2, 2), norm="batch")


def segresnet() -> nn.Module:
    return SegResNet(3, init_filters=8, in_channels=1, out_channels=2, blocks_down=(1, 1, 1), blocks_up=(1, 1))


def dynunet() -> nn.Module:
    return DynUNet(3, 1, 2, kernel_size=[3] * 3, strides=[1, 2, 2], upsample_kernel_size=[2, 2], filters=[4, 8, 16])


def swin_unetr() -> nn.Module:
    return SwinUNETR(in_channels=1, out_channels=2, feature_size=12, depths=(1,) * 4, num_heads=(1, 1, 2, 2))


#: network, place, channels there, input
CASES = {
    "UNet": (unet, "model.1.submodule.1.submodule", 16, SHAPE),
    "SegResNet": (segresnet, "down_layers.2", 32, SHAPE),
    "DynUNet": (dynunet, "bottleneck", 16, SHAPE),
    "SwinUNETR": (swin_unetr, "encoder10", 192, (1, 1, 32, 32, 64)),
}
every_network = pytest.mark.parametrize(("make", "place", "channels", "shape"), CASES.values(), ids=CASES)
Make = Callable[[], nn.Module]


def seeded(make: Make) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


def switch_on(blocks: dict[str, nn.Module]) -> None:
    """Betas (or the last weights) away from 0."""
    for block in blocks.values():
        for parameter in block.betas if isinstance(block, RSABlock) else [block.out.weight]:
            nn.init.constant_(parameter, 0.3)


def output(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network(x)


@every_network
@pytest.mark.parametrize("as_wrapper", [False, True], ids=["hook", "wrapper"])
@pytest.mark.parametrize("block", ["rsa", "non-local"])
def test_identity_at_insertion_then_attention(
    make: Make, place: str, channels: int, shape: tuple[int, ...], block: str, as_wrapper: bool
) -> None:
    network, x = seeded(make), image(shape)
    before = output(network, x)
    blocks = attach_attention(network, place, shape, block=block, as_wrapper=as_wrapper)
    assert isinstance(blocks[place], RSABlock if block == "rsa" else NonLocalBlock)
    assert next(blocks[place].parameters()).shape[1] == channels
    assert torch.equal(output(network, x), before)
    assert torch.equal(network(x).detach(), before)  # with gradients
    switch_on(blocks)
    assert not torch.allclose(output(network, x), before, atol=1e-3)


@every_network
def test_old_entries_keep_their_names_and_pretrained_weights_load(
    make: Make, place: str, channels: int, shape: tuple[int, ...]
) -> None:
    pretrained = seeded(make).state_dict()
    network = make()
    attach_attention(network, place, shape)
    state = network.state_dict()
    assert [name for name in state if not name.startswith("rsa.")] == list(pretrained)
    result = network.load_state_dict(pretrained, strict=False)
    assert not result.unexpected_keys
    assert result.missing_keys
    assert all(name.startswith(f"rsa.{place.replace('.', '__')}.") for name in result.missing_keys)


@every_network
def test_the_block_learns(make: Make, place: str, channels: int, shape: tuple[int, ...]) -> None:
    network = seeded(make)
    blocks = attach_attention(network, place, shape)
    output_ = network(image(shape))
    (output_ * image(output_.shape, "cotangent")).sum().backward()
    block = blocks[place]
    assert all(beta.grad is not None and beta.grad != 0 for beta in block.betas)
    assert set(block.parameters()) <= set(network.parameters())


def pickled(network: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(network))


def saved(network: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled, saved])
@pytest.mark.parametrize("as_wrapper", [False, True], ids=["hook", "wrapper"])
def test_copies_call_their_own_block(duplicate: Callable[[nn.Module], nn.Module], as_wrapper: bool) -> None:
    network, x = seeded(unet), image(SHAPE)
    blocks = attach_attention(network, "model.0", SHAPE, as_wrapper=as_wrapper)
    plain = output(network, x)
    switch_on(blocks)
    attended = output(network, x)
    twin = duplicate(network)
    assert torch.equal(output(twin, x), attended)
    for block in blocks.values():  # off again in the original alone
        for beta in block.betas:
            nn.init.zeros_(beta)
    assert torch.equal(output(network, x), plain)
    assert torch.equal(output(twin, x), attended)


@pytest.mark.parametrize("as_wrapper", [False, True], ids=["hook", "wrapper"])
def test_state_dict_goes_into_a_second_network(as_wrapper: bool) -> None:
    first, second = seeded(dynunet), dynunet().eval()
    places = ["downsamples.0", "bottleneck"]
    switch_on(attach_attention(first, places, SHAPE, as_wrapper=as_wrapper))
    attach_attention(second, places, SHAPE, as_wrapper=as_wrapper)
    second.load_state_dict(first.state_dict())
    assert torch.equal(output(first, image(SHAPE)), output(second, image(SHAPE)))


def test_the_dry_run_leaves_no_trace() -> None:
    network = seeded(unet).train()
    network.get_submodule("model.2").eval()  # a frozen part
    modes = {name: module.training for name, module in network.named_modules()}
    state, random_state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    drawing = network.get_submodule("model.0").register_forward_pre_hook(
        lambda module, inputs: (torch.rand(3), None)[1]
    )
    assert attachable_places(network, SHAPE)["model.0"] == 4
    drawing.remove()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert {name: module.training for name, module in network.named_modules()} == modes
    assert not any(module._forward_hooks for module in network.modules())
    blocks = attach_attention(network, ["model.0", "model.2"], SHAPE)
    assert [block.training for block in blocks.values()] == [True, False]
    assert {name: network.get_submodule(name).training for name in modes} == modes


def test_precision_and_options_of_the_network_are_taken_over() -> None:
    network = seeded(unet).double()
    block = attach_attention(network, "model.0", SHAPE, directions=["axial"], scaled=True)["model.0"]
    assert isinstance(block, RSABlock)
    assert block.directions == ["axial"]
    assert block.scaled
    assert block.theta_conv.weight.dtype == torch.float64
    assert attach_attention(network, "model.2", SHAPE, "non-local", sub_sample=True)["model.2"].pool is not None
    assert {name.split(".")[0] for name in network.state_dict()} == {"model", "rsa", "non_local"}


def test_the_wrapped_form_can_be_scripted_and_the_hooked_form_says_so() -> None:
    x = image((1, 1, 12, 8, 20))
    wrapped = seeded(unet)
    switch_on(attach_attention(wrapped, "model.1.submodule.1.submodule", SHAPE, as_wrapper=True))
    torch.testing.assert_close(output(torch.jit.script(wrapped), x), output(wrapped, x), atol=1e-5, rtol=0)
    hooked = seeded(unet)
    attach_attention(hooked, "model.0", SHAPE)
    with pytest.raises(RuntimeError, match="as_wrapper=True"):
        torch.jit.script(hooked)


def test_tracing_and_export_keep_the_hook() -> None:
    network, x = seeded(unet), image(SHAPE)
    switch_on(attach_attention(network, "model.0", SHAPE))
    expected = output(network, x)
    with torch.no_grad():
        traced, exported = torch.jit.trace(network, x), torch.export.export(network, (x,)).module()
    torch.testing.assert_close(output(traced, x), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(output(exported, x), expected, atol=1e-5, rtol=0)


def test_a_wrapper_replaces_a_submodule_under_all_its_names() -> None:
    network = seeded(dynunet)
    attach_attention(network, "bottleneck", SHAPE, as_wrapper=True)
    kinds = [type(m).__name__ for name, m in network.named_modules(remove_duplicate=False) if name == "bottleneck"]
    assert kinds == ["WithAttention"]
    assert network.skip_layers.next_layer.next_layer is network.bottleneck
    assert not [name for name in network.state_dict() if name.startswith("bottleneck.conv1")]


def test_places_inside_one_another() -> None:
    for as_wrapper in (False, True):
        network, x = seeded(unet), image(SHAPE)
        before = output(network, x)
        blocks = attach_attention(network, ["model", "model.1.submodule", "model.1"], SHAPE, as_wrapper=as_wrapper)
        assert len([module for module in network.modules() if isinstance(module, RSABlock)]) == 3
        assert torch.equal(output(network, x), before)
        for block in blocks.values():
            switch_on({"": block})
            after = output(network, x)
            assert not torch.equal(after, before)
            before = after


class Awkward(nn.Module):
    """Submodules that cannot take a block, or not any."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Conv3d(1, 1, 1)
        self.twice = nn.Conv3d(1, 1, 1)
        self.pair = Pair()
        self.flat = nn.Flatten()
        self.sum = Sum()
        self.layers = nn.ModuleList([nn.Conv3d(1, 4, 1)])

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.pair(self.twice(self.twice(x)))
        self.flat(first)
        return self.layers[0](self.sum(first, second))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Sum(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ("layer", {}, r"'layer' does not exist\. These fit: layers\.0, sum\."),
        ("", {}, "'' does not exist"),
        ("layers", {}, "'layers' is never called .* These fit: layers.0"),
        ("unused", {}, "'unused' is never called"),
        ("twice", {}, "'twice' is called 2 times"),
        ("pair", {}, "'pair' returned a tuple; a block stands behind one 5-D tensor"),
        ("flat", {}, r"'flat' returned a Tensor of shape \[1, 1536\]"),
        ("sum", {"as_wrapper": True}, "'sum' takes more than one tensor"),
        (["layers.0", "layers.0"], {}, "'layers.0' has an attached block already"),
        (["layers.0", "unused"], {}, "'unused' is never called"),
        ("layers.0", {"block": "cbam"}, "block 'cbam' is unknown: choose one of"),
        ("layers.0", {"directions": ["axial", "axial"]}, "directions"),
        ("layers.0", {"block": "non-local", "directions": ["axial"]}, "'non-local' block has none"),
        ("layers.0", {"example_shape": (8, 8, 8)}, "give the five numbers"),
        ("layers.0", {"example_shape": (1, 2, 8, 8, 8)}, r"does not run on example_shape \[1, 2, 8, 8, 8\]"),
    ],
)
def test_refusals_say_why_and_leave_the_network_alone(names: str, options: dict, message: str) -> None:
    network = Awkward()
    before = list(network.state_dict())
    with pytest.raises(ValueError, match=message):
        attach_attention(network, names, **{"example_shape": SHAPE} | options)
    assert list(network.state_dict()) == before
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("as_wrapper", [False, True], ids=["hook", "wrapper"])
def test_one_block_a_place(as_wrapper: bool) -> None:
    network = seeded(unet)
    attach_attention(network, "model.0", SHAPE, as_wrapper=as_wrapper)
    for second_as_wrapper in (False, True):
        with pytest.raises(ValueError, match=r"'model\.0' has an attached block already"):
            attach_attention(network, "model.0", SHAPE, as_wrapper=second_as_wrapper)
    attach_attention(network, "model.2", SHAPE)


def test_a_sequential_network_would_call_the_new_child() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.ReLU())
    with pytest.raises(ValueError, match="as_wrapper=True"):
        attach_attention(network, "0", SHAPE)
    x = image(SHAPE)
    before = output(network.eval(), x)
    attach_attention(network, "0", SHAPE, as_wrapper=True)
    assert torch.equal(output(network, x), before)
