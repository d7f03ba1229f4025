# SPDX-License-Identifier: Apache-2.0
"""Rules that build a bundle's network and workflows. Run as a module, with the bundle as the current folder.

Everything that is written goes to a scratch folder, and nothing is fetched from anywhere: addresses beyond this machine
are refused.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, verify_metadata, verify_net_in_out
from torch import nn

import custom_nets
from custom_nets.checkpoints import first_line, load_weights, save_weights
from custom_nets.config_linter.metadata_rules import SCHEMA
from custom_nets.errors import InputError
from custom_nets.files import write_json
from custom_nets.model_zoo.folder_rules import MODEL
from custom_nets.model_zoo.form_rules import read_left_out
from custom_nets.model_zoo.parity import REPORT
from custom_nets.model_zoo.verdicts import (
    Problem,
    Subject,
    Verdict,
    fails,
    judged,
    later,
    not_checked,
    read_subject,
    text_of,
)
from custom_nets.phantoms import GENERATORS, write_dataset

_TORCHSCRIPT = "models/model.ts"
_CASES, _SPACING = 4, 6.0


@dataclass(frozen=True)
class Running:
    """A bundle that is run.

    Attributes:
        subject: its files.
        scratch: folder for whatever is written.
    """

    subject: Subject
    scratch: Path

    def config(self, name: str) -> str:
        """Path of a configuration."""
        return str(self.subject.folder / "configs" / f"{name}.json")

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Content of metadata.json."""
        return self.subject.files.metadata

    @cached_property
    def network(self) -> nn.Module:
        """The network of inference.json, in evaluation mode."""
        torch.manual_seed(0)
        parser = ConfigParser()
        parser.read_config(self.config("inference"))
        network: nn.Module = parser.get_parsed_content("network_def")
        return network.eval()

    @cached_property
    def weights(self) -> Path:
        """The bundle's model, or where it has none one of random numbers."""
        model, drawn = self.subject.folder / MODEL, self.scratch / "drawn.pt"
        if model.is_file():
            return model
        save_weights(self.network.state_dict(), drawn)
        return drawn

    @cached_property
    def data(self) -> Path:
        """The smallest made-up data set of this bundle."""
        write_dataset(str(self.metadata["bundle"]), self.scratch / "data", cases=_CASES, spacing=_SPACING)
        return self.scratch / "data"


def code_is_the_bundles(running: Running) -> Iterator[Problem]:
    """The code that is imported is the bundle's own."""
    folder = running.subject.folder
    if (folder / "custom_nets").is_dir() and not Path(str(custom_nets.__file__)).is_relative_to(folder):
        yield fails(f"custom_nets is imported from {Path(str(custom_nets.__file__)).parent}", "uninstall that one")


def monai_accepts_the_metadata(running: Running) -> Iterator[Problem]:
    """verify_metadata accepts the metadata."""
    verify_metadata(meta_file=running.config("metadata"), filepath=SCHEMA)
    yield from ()


def monai_accepts_the_network(running: Running) -> Iterator[Problem]:
    """verify_net_in_out finds network_def to take and give what the metadata say."""
    verify_net_in_out("network_def", running.config("metadata"), running.config("inference"), device="cpu")
    yield from ()


def weights_fit(running: Running) -> Iterator[Problem]:
    """models/model.pt fits network_def of inference.json, entry by entry."""
    path = running.subject.folder / MODEL
    if not path.is_file():
        yield running.subject.missing("there is no model yet", "export with --checkpoint FILE")
    else:
        load_weights(running.network, path)


def monai_exports_torchscript(running: Running) -> Iterator[Problem]:
    """ckpt_export makes TorchScript of network_def by scripting, or the bundle says why it cannot."""
    files: dict[str, Any] = {"meta_file": running.config("metadata"), "config_file": running.config("inference")}
    exported, subject = str(running.scratch / "scripted.ts"), running.subject
    try:
        ckpt_export("network_def", exported, ckpt_file=str(running.weights), **files)
        torch.jit.load(exported)
    except Exception as error:  # TorchScript's compiler raises what it likes
        told = (subject.folder / _TORCHSCRIPT).is_file() or _TORCHSCRIPT in read_left_out(subject)
        if told or subject.in_repository:
            yield later(f"cannot be scripted ({_reason(error)}); before a pull request ask the Zoo for an exemption")
        else:
            remedy = f"ship a traced {_TORCHSCRIPT}, or say why not in {REPORT}, as tools.export_bundle does"
            yield fails(_reason(error), remedy)


def torchscript_loads(running: Running) -> Iterator[Problem]:
    """Files models/*.ts load."""
    for path in sorted((running.subject.folder / "models").glob("*.ts")):
        try:
            torch.jit.load(str(path), map_location="cpu")
        except (RuntimeError, ValueError) as error:
            yield fails(f"{path.name}: {first_line(error)}", "export the bundle again")


def onnx_loads(running: Running) -> Iterator[Problem]:
    """Files models/*.onnx load in ONNX Runtime."""
    paths = sorted((running.subject.folder / "models").glob("*.onnx"))
    if paths and find_spec("onnxruntime") is None:
        yield not_checked("pip install onnxruntime")
        return
    for path in paths:
        import onnxruntime

        try:
            onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # the classes of its errors are not public
            yield fails(f"{path.name}: {first_line(error)}", "export the bundle again")


def paths_begin_here(running: Running) -> Iterator[Problem]:
    """bundle_root is . where the bundle is the current folder."""
    for name, config in running.subject.files.configs.items():
        if "bundle_root" in config.own:
            parser = ConfigParser()
            parser.read_config(running.config(name))
            if (found := parser.get_parsed_content("bundle_root")) != ".":
                yield fails(f"{name}.json has {found!r}", "write an expression that gives '.' here")


def train_has_its_properties(running: Running) -> Iterator[Problem]:
    """The workflow of train.json is built and has every property that MONAI asks for."""
    yield from _properties(running, ["train"], "train", ckpt_dir=str(running.scratch / "models"))


def evaluate_has_its_properties(running: Running) -> Iterator[Problem]:
    """The workflow of train.json with evaluate.json on top is built and has every property that MONAI asks for."""
    yield from _properties(running, ["train", "evaluate"], "train", checkpoint=str(running.weights))


def inference_has_its_properties(running: Running) -> Iterator[Problem]:
    """The workflow of inference.json is built and has every property that MONAI asks for."""
    yield from _properties(running, ["inference"], "inference", checkpoint=str(running.weights))


RULES = (
    code_is_the_bundles,
    monai_accepts_the_metadata,
    monai_accepts_the_network,
    weights_fit,
    monai_exports_torchscript,
    torchscript_loads,
    onnx_loads,
    paths_begin_here,
    train_has_its_properties,
    evaluate_has_its_properties,
    inference_has_its_properties,
)


def main(scratch: Path, told: Path) -> None:
    """Write the verdicts of all rules on the bundle in the current folder to ``told``, as JSON."""
    socket.socket.connect = _refused  # type: ignore[method-assign, assignment]
    running = Running(read_subject(Path.cwd()), scratch)
    verdicts = [verdict_of(running, rule.__name__) for rule in RULES]
    write_json(told, [(verdict.rule, verdict.verdict, verdict.told) for verdict in verdicts])


def verdict_of(running: Running, name: str) -> Verdict:
    """Return the verdict of the rule of that name; whatever the bundle raises breaks it."""
    (rule,) = [rule for rule in RULES if rule.__name__ == name]
    try:
        return judged(text_of(rule), list(rule(running)))
    except (SystemExit, InputError) as stop:
        return judged(text_of(rule), [Problem("fails", str(stop).removeprefix("error: "))])
    except Exception as error:  # whatever a bundle's code raises is what has to be told
        return judged(text_of(rule), [fails(_reason(error), "mend the bundle")])


def _properties(running: Running, names: list[str], kind: str, **more: Any) -> Iterator[Problem]:
    if reason := _no_data(running):
        yield not_checked(reason)
        return
    options = {"dataset_dir": str(running.data), "output_dir": str(running.scratch / "eval"), **more}
    options |= {"device": "cpu", "amp": False, "num_workers": 0}
    configs = [running.config(name) for name in names]
    workflow = ConfigWorkflow(configs, workflow_type=kind, logging_file=False, **options)
    workflow.initialize()
    for name in workflow.check_properties() or ():
        yield fails(f"{name} is missing or has another id", "use MONAI's id")
    workflow.finalize()


def _no_data(running: Running) -> str:
    """Why there are no made-up data that fit the bundle; empty where there are."""
    name = running.metadata.get("bundle")
    if name not in GENERATORS:
        return f"there are no made-up data for a bundle '{name}'"
    try:
        data = running.data
    except LookupError as error:
        return f"the made-up data have other images than this model ({error})"
    known = set(map(int, running.metadata["network_data_format"]["outputs"]["pred"]["channel_def"]))
    labels: list[Any] = [nibabel.load(path) for path in data.glob("*label*.nii.gz")]
    others = sorted({int(value) for label in labels for value in np.unique(label.dataobj)} - known)
    return f"the made-up data have labels that this model has not ({others[0]})" if others else ""


def _reason(error: BaseException) -> str:
    """The first sentence of what lies beneath an error, whatever evaluated the configuration wraps it in."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {first_line(error)}"


def _refused(self: socket.socket, address: Any, *_: Any) -> None:
    raise OSError(f"no network is used here, but {address} was called")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
