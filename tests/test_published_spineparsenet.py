# SPDX-License-Identifier: Apache-2.0
"""Files of SpineParseNet's authors, of both stages and of the ablation, become ours."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from custom_nets.checkpoints import from_official, load_weights, read_checkpoint, unwrap
from custom_nets.errors import InputError
from custom_nets.label_graphs.chains import mrspineseg, spider
from custom_nets.nets.gcsn import GCSN
from custom_nets.nets.resunet2d import ResUNet2d
from custom_nets.published import gcsn, resunet2d
from tests.recipe import arrays, image, relative_l2
from tests.spineparsenet_files import StateDict, empty, entries, filled, fine_entries, listing, official, parameters
from tests.test_spineparsenet import SHAPES
from tools._command import run
from tools.convert_checkpoint import convert

COARSE, FINE = "spineparsenet.coarse", "spineparsenet.fine"
MODES = {"gcsn": "semantic", "deeplabv3plus_pretrain": "none", "transfer": "transfer"}


@pytest.mark.parametrize("name", MODES)
def test_conversion_of_the_first_stage_is_strict_and_keeps_every_number(name: str) -> None:
    state = official(name)
    converted = from_official(COARSE, state)
    GCSN(graph_mode=MODES[name]).load_state_dict(converted, strict=True)
    assert sorted(v.data_ptr() for v in converted.values()) == sorted(v.data_ptr() for v in state.values())
    assert gcsn.network_options(state) == {"graph_mode": MODES[name], "in_channels": 1, "width": 1.0}


def test_conversion_of_the_second_stage_is_strict_and_keeps_every_number() -> None:
    state = official("resunet2d")
    converted = from_official(FINE, state)
    ResUNet2d().load_state_dict(converted, strict=True)
    assert sorted(v.data_ptr() for v in converted.values()) == sorted(v.data_ptr() for v in state.values())
    told = {"out_channels": 20, "coarse_channels": 20, "filters": [32, 64, 128, 256, 512]}
    assert resunet2d.network_options(state) == told


def test_the_listings_are_the_measured_networks() -> None:
    counts = {"gcsn": 4_231_044, "deeplabv3plus_pretrain": 4_129_796, "transfer": 4_231_044, "resunet2d": 11_784_852}
    assert {name: parameters(empty(listing(name))) for name in counts} == counts


def test_the_pre_training_is_a_part_of_the_first_stage() -> None:
    part = from_official(COARSE, official("deeplabv3plus_pretrain"))
    whole = from_official(COARSE, official("gcsn"))
    assert len(part) == 332 and len(whole) == 345
    assert part.keys() < whole.keys()


@pytest.mark.parametrize("width", [1.0, 0.5, 0.125])
@pytest.mark.parametrize("graph", [mrspineseg(6), spider(7)], ids=["12 labels", "SPIDER"])
@pytest.mark.parametrize("name", MODES)
def test_other_label_sets_need_their_graph(name: str, graph: Any, width: float) -> None:
    state = empty(entries(name, len(graph), width))
    converted = from_official(COARSE, state, graph=graph.to_config())
    with torch.device("meta"):
        network = GCSN(graph=graph, graph_mode=MODES[name], width=width)
    network.load_state_dict(converted, strict=True, assign=True)
    with pytest.raises(InputError, match=rf"has {len(graph)} labels, and does not tell which of them touch: give the "):
        from_official(COARSE, state)


@pytest.mark.parametrize(("labels", "coarse"), [(17, True), (12, False), (2, True)])
def test_a_second_stage_tells_its_labels(labels: int, coarse: bool) -> None:
    state = empty(fine_entries(labels, (8, 12, 16, 24, 28), coarse))
    told = resunet2d.network_options(state)
    assert told == {"out_channels": labels, "coarse_channels": labels if coarse else 0, "filters": [8, 12, 16, 24, 28]}
    with torch.device("meta"):
        network = ResUNet2d(**told)
    network.load_state_dict(from_official(FINE, state), strict=True, assign=True)


# Files


def saved(state: StateDict, folder: Path, **changes: Any) -> Path:
    """A file as the authors' trainers write it: counters, scores and the optimizer beside the state dict."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([parameter], lr=1e-3, weight_decay=1e-4)
    parameter.sum().backward()
    optimizer.step()
    content = {
        "epoch": 50,
        "num_iterations": 4200,
        "model_state_dict": state,
        "best_eval_score": np.float64(0.87),
        "eval_score_higher_is_better": True,
        "optimizer_state_dict": optimizer.state_dict(),
        "device": "cuda:0",
        "max_num_epochs": 50,
        "max_num_iterations": 100_000,
        "validate_after_iters": 84,
        "log_after_iters": 84,
        "validate_iters": None,
    }
    torch.save(content | changes, file := folder / "best_checkpoint.pytorch")
    return file


@pytest.mark.parametrize("score", [np.float64(0.87), np.float32(0.87), np.int64(3), 0.87, torch.tensor(0.87)], ids=repr)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_files_are_read_without_running_what_they_hold(score: Any, prefix: str, tmp_path: Path) -> None:
    state = filled(fine_entries(3, (4, 6, 8, 10, 12)))
    file = saved({prefix + key: value for key, value in state.items()}, tmp_path, best_eval_score=score)
    content = read_checkpoint(file)
    assert content["best_eval_score"] == pytest.approx(float(score))
    found, expected = from_official(FINE, content), from_official(FINE, state)
    assert found.keys() == expected.keys() == from_official(FINE, unwrap(content)).keys()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())


@pytest.mark.parametrize("core", ["core", "_core"])
def test_numbers_of_either_numpy_are_read(core: str, tmp_path: Path) -> None:
    """The authors' files are from the time of NumPy 1, whose numbers have another address."""
    file = saved({"weight": torch.zeros(2)}, tmp_path)
    with zipfile.ZipFile(file) as written, zipfile.ZipFile(tmp_path / "other.pytorch", "w") as other:
        for member in written.infolist():
            content = written.read(member)
            if member.filename.endswith("data.pkl"):
                content = re.sub(rb"numpy\._?core\.", f"numpy.{core}.".encode(), content)
            other.writestr(member.filename, content)
    assert read_checkpoint(tmp_path / "other.pytorch")["best_eval_score"] == pytest.approx(0.87)


def test_other_objects_in_a_file_are_refused(tmp_path: Path) -> None:
    file = saved(filled(fine_entries(3, (4, 6, 8, 10, 12))), tmp_path, best_eval_score=Path("score"))
    with pytest.raises(InputError, match=r"holds Python objects besides tensors .* convert it with"):
        read_checkpoint(file)


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"semantic.bias": None}, r"1 of 345 entries disagree(.|\n)*missing     classify.bias \[20\]"),
        ({"extra": torch.zeros(2)}, r"1 of 345 entries disagree(.|\n)*unexpected  extra \[2\]"),
        ({"graph_conv2.weight": torch.zeros(3)}, r"mis-shaped  reasoning.convolutions.1.weight: found \[3\], expected"),
        ({"aspp3.atrous_convolution.depthwise_bn.bias": None}, "missing     pyramid.dilated.1.depthwise_norm.bias"),
        ({"featuremap_2_graph.pre_fea": None}, "unexpected  reasoning.embed"),
        ({"xception_features.conv1.weight": torch.zeros(())}, r"encoder.stem1.conv.weight: found \[\]"),
        ({"xception_features.conv1.weight": torch.zeros(0, 1, 3, 3, 3)}, "make no GCSN: width 0"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_disagreements_of_a_first_stage_are_named(change: dict[str, Any], message: str) -> None:
    state = empty(listing("gcsn")) | change
    with pytest.raises(InputError, match=message):
        from_official(COARSE, {key: value for key, value in state.items() if value is not None})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"final_conv.bias": None}, r"1 of 172 entries disagree(.|\n)*missing     classify.bias \[20\]"),
        ({"decoders.1.upsample.bias": torch.zeros(3)}, r"mis-shaped  decoders.1.upsample.bias: found \[3\], expected"),
        ({"encoders.5.basic_module.conv1.batchnorm.bias": torch.zeros(3)}, "unexpected  encoders.5.conv1.norm.bias"),
        ({"decoders.2.basic_module.conv3.conv.weight": None}, "missing     decoders.2.unit.conv3.conv.weight"),
        ({"encoders.0.basic_module.conv1.conv.weight": None}, "missing     encoders.0.conv1.conv.weight"),
        ({"final_conv.weight": torch.zeros(20)}, r"classify.weight: found \[20\]"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_disagreements_of_a_second_stage_are_named(change: dict[str, Any], message: str) -> None:
    state = empty(listing("resunet2d")) | change
    with pytest.raises(InputError, match=message):
        from_official(FINE, {key: value for key, value in state.items() if value is not None})


@pytest.mark.parametrize(("name", "listed"), [(COARSE, "resunet2d"), (FINE, "gcsn")])
def test_the_other_stage_is_refused(name: str, listed: str) -> None:
    with pytest.raises(InputError, match=r"(?s)missing .*unexpected  "):
        from_official(name, empty(listing(listed)))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (COARSE, {"graph_mode": "none"}, "unexpected  reasoning.assign"),
        (COARSE, {"graph_mode": "gcn"}, "make no GCSN: graph_mode is 'gcn'"),
        (COARSE, {"graph": mrspineseg(4)}, r"mis-shaped  reasoning.assign: found \[128, 20\], expected \[128, 8\]"),
        (COARSE, {"graph": {"labels": []}}, "graph: give "),
        (COARSE, {"filters": 4}, "make no GCSN: .*unexpected keyword argument 'filters'"),
        (FINE, {"out_channels": 13}, r"mis-shaped  classify.weight: found \[20, 32, 1, 1\], expected \[13, 32, 1, 1\]"),
        (
            FINE,
            {"coarse_channels": 0},
            r"encoders.0.conv1.conv.weight: found \[32, 21, 3, 3\], expected \[32, 1, 3, 3\]",
        ),
        (FINE, {"filters": [32]}, "make no ResUNet2d: .*two levels at least"),
    ],
    ids=str,
)
def test_options_are_checked_against_the_file(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_official(name, empty(listing("gcsn" if name == COARSE else "resunet2d")), **options)


# The tool


@pytest.mark.parametrize(
    ("name", "listed", "golden"),
    [
        (COARSE, "gcsn", "gcsn_wide_logits_s2"),
        (COARSE, "deeplabv3plus_pretrain", "deeplab_eval_logits_s2"),
        (FINE, "resunet2d", "resunet_eval_logits"),
    ],
)
def test_the_tool_converts(
    name: str, listed: str, golden: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = saved(official(listed), tmp_path), tmp_path / "ours.pt"
    run(convert, [name, str(file), str(out)])
    printed = capsys.readouterr().out
    assert printed.startswith(f"wrote {out}: {len(listing(listed))} entries")
    assert "it loads with strict=True" in printed
    network = (ResUNet2d() if name == FINE else GCSN(graph_mode=MODES[listed])).eval()
    load_weights(network, out)
    with torch.inference_mode():
        if name == FINE:
            found = network(image(SHAPES["res_img"]), image(SHAPES["res_un"], "unary"))
        elif listed == "gcsn":
            found = network(image(SHAPES["gcsn_wide"]))[..., ::2, ::2]
        else:
            found = network(image(SHAPES["deeplab"]))[..., ::2, ::2, ::2]
    assert relative_l2(found, arrays("spineparsenet")[golden]) < 1e-5


@pytest.mark.parametrize(
    ("state", "message"),
    [({"final_conv.bias": torch.zeros(3)}, "missing     encoders.0.conv1.conv.weight"), ({}, "no state dict found")],
    ids=["another", "none"],
)
def test_the_tool_lists_disagreements(
    state: StateDict, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(convert, [FINE, str(saved(state, tmp_path)), str(tmp_path / "ours.pt")])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("error: ") and message in error and "Traceback" not in error
    assert not (tmp_path / "ours.pt").exists()
