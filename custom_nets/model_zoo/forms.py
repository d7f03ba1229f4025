# SPDX-License-Identifier: Apache-2.0
"""TorchScript and ONNX forms of a bundle's network, each loaded again and compared with the network."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from custom_nets.checkpoints import weights_digest
from custom_nets.files import write_json, written_whole
from custom_nets.model_zoo.exportable import exportable
from custom_nets.model_zoo.form_parts import Part, Shape, read_parts
from custom_nets.model_zoo.onnx_form import installed_versions, onnx_session, why_not, write_onnx
from custom_nets.model_zoo.parity import REPORT, Form, LeftOut, Parity, compare, parity_table, require_agreement
from custom_nets.model_zoo.torchscript_form import write_torchscript

__all__ = ["Parity", "parity_table", "write_forms"]


def write_forms(folder: Path, *, volume: Sequence[int] | None = None, weights: str = "models/model.pt") -> Parity:
    """Write models/model.ts, models/model.onnx and docs/parity.json of a bundle.

    A network of stages that as a whole is tied to one size has models/coarse.* and models/refinement.* in their place.

    Args:
        folder: of the bundle: configs/inference.json, configs/metadata.json, models/model.pt.
        volume: D, H, W for which such a network is written as a whole too, as models/model_DxHxW.*.
        weights: what models/model.pt holds, in words, for the report.

    Raises:
        InputError: the weights are not the network's, or a form differs from the network; no file is left then.
    """
    loaded = read_parts(folder, volume)
    forms: list[Form] = []
    opset: int | None = None
    missing = why_not()
    left_out = [] if loaded.as_one else [_tied(loaded.network, suffix) for suffix in ("ts", "onnx")]
    with ExitStack() as files, _quiet():
        for part in loaded.parts:
            forms.append(_torchscript(part, folder, files))
            if missing:
                left_out.append(LeftOut(f"models/{part.name}.onnx", missing))
            else:
                form, opset = _onnx(part, folder, files)
                forms.append(form)
    versions = {"torch": torch.__version__, **({} if missing else installed_versions())}
    notes = tuple(part.facts.reason for part in loaded.parts if part.facts.any_size and part.facts.reason)
    name = type(loaded.network).__name__
    digest = weights_digest(loaded.network)
    parity = Parity(name, weights, versions, opset, tuple(forms), tuple(left_out), notes, digest=digest)
    write_json(folder / REPORT, parity.to_json())
    return parity


def _tied(network: torch.nn.Module, suffix: str) -> LeftOut:
    return LeftOut(f"models/model.{suffix}", exportable(network).reason)


def _torchscript(part: Part, folder: Path, files: ExitStack) -> Form:
    """Write one part as TorchScript; what is entered into ``files`` gets its name when all is well."""
    path = f"models/{part.name}.ts"
    file = files.enter_context(written_whole(folder / path))
    scripted = part.facts.scriptable
    traced = None if scripted else part.shapes[0][0]
    write_torchscript(part.network, folder, file, configured=part.configured, traced=traced)
    sizes = "all that the network takes" if part.facts.any_size else _fixed(part.shapes[0][0])
    comparisons = tuple(compare(torch.jit.load(file), part.network, part.examples(shapes)) for shapes in part.shapes)
    form = Form(path, "TorchScript", "scripting" if scripted else "tracing", sizes, comparisons)
    require_agreement(form)
    return form


def _onnx(part: Part, folder: Path, files: ExitStack) -> tuple[Form, int | None]:
    """Write one part as ONNX; likewise. Also returns the opset."""
    path = f"models/{part.name}.onnx"
    file = files.enter_context(written_whole(folder / path))
    facts = part.onnx_facts
    traced = _open_shapes(part)
    inputs = dict(zip(part.inputs, part.examples(traced), strict=True))
    opset = write_onnx(part.network, inputs, part.open_axes(traced), file)
    session = onnx_session(file)
    shapes = [one for one in part.shapes if facts.holds(one[0])] if facts.multiple else part.shapes[:1]
    comparisons = tuple(compare(session, part.network, part.examples(one)) for one in shapes)
    sizes = _multiples(facts.multiple, facts.least) if facts.multiple else _fixed(part.shapes[0][0])
    form = Form(path, "ONNX", "torch.export", sizes, comparisons)
    require_agreement(form)
    return form, opset


def _open_shapes(part: Part) -> tuple[Shape, ...]:
    """Shapes for the making of a graph: two samples, or their number would count as fixed, and unequal sizes."""
    facts = part.onnx_facts
    if not facts.multiple:
        samples = 2 if facts.batch else 1
        return tuple((samples, *shape[1:]) for shape in part.shapes[0])
    return max((one for one in part.shapes if facts.holds(one[0])), key=lambda one: (one[0][0], len(set(one[0]))))


def _multiples(multiple: int, least: int) -> str:
    return f"any from {least}" if multiple == 1 else f"multiples of {multiple} from {least} on"


def _fixed(shape: Shape) -> str:
    return f"{' x '.join(map(str, shape[2:]))} alone"


@contextmanager
def _quiet() -> Iterator[None]:
    """TorchScript is deprecated but asked for; the exporter tells of every step."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
