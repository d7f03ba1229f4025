# SPDX-License-Identifier: Apache-2.0
"""Rules about the forms of a network, TorchScript and ONNX, that an export brings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import torch

from custom_nets.checkpoints import state_digest, unwrap
from custom_nets.model_zoo.parity import REPORT, Comparison
from custom_nets.model_zoo.verdicts import Problem, Subject, fails

_FORMS = ("*.ts", "*.onnx")


def forms_are_compared(subject: Subject) -> Iterator[Problem]:
    """docs/parity.json compares each TorchScript and ONNX file with the network."""
    written = {path.name for pattern in _FORMS for path in (subject.folder / "models").glob(pattern)}
    compared = {str(form["file"]).rpartition("/")[2] for form in _report(subject).get("forms", ())}
    for name in sorted(written - compared):
        yield subject.missing(f"models/{name} is not in it", "compare it, as tools.export_bundle does")
    for name in sorted(compared - written):
        yield subject.missing(f"models/{name} is in it, but not in the bundle", "export the bundle again")


def forms_agree(subject: Subject) -> Iterator[Problem]:
    """TorchScript and ONNX files give what the network gives, as docs/parity.json has it."""
    report = _report(subject)
    for form in report.get("forms", ()):
        if not form["comparisons"]:
            yield fails(f"{form['file']} was compared on no input", "export the bundle again")
        for one in form["comparisons"]:
            if not Comparison(**{**one, "shape": tuple(one["shape"])}).agrees:
                found = f"{form['file']} differs by {one['difference']:.3g} on an input of {one['shape']}"
                yield fails(found, "do not ship it, and say why in the card")


def forms_and_scores_are_the_weights(subject: Subject) -> Iterator[Problem]:
    """The forms, and the scores in the metadata, are of the weights in models/model.pt."""
    path, report = subject.folder / "models" / "model.pt", _report(subject)
    if report and path.is_file():
        found = state_digest(unwrap(torch.load(path, map_location="cpu", weights_only=True), str(path)))
        if found != report.get("digest"):
            yield fails(
                "models/model.pt was replaced, the forms, eval_metrics and the card are of other weights",
                "export these weights with tools.export_bundle",
            )


def read_left_out(subject: Subject) -> set[str]:
    """Return the forms that the export says cannot be made."""
    return {str(form["file"]) for form in _report(subject).get("left_out", ())}


def _report(subject: Subject) -> dict[str, Any]:
    path = subject.folder / REPORT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


RULES = (forms_are_compared, forms_agree, forms_and_scores_are_the_weights)
