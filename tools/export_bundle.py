# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.export_bundle NAME OUT_DIR`: a trained bundle as a folder and a zip file that run on their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from custom_nets.errors import InputError
from custom_nets.registry import bundle
from tools._arguments import names_in
from tools._command import run


def export_bundle(
    name: str,
    out_dir: str,
    *,
    checkpoint: str | None = None,
    refinement_checkpoint: str | None = None,
    results: str | None = None,
    overlay: str | None = None,
    modalities: str | None = None,
    url: str = "",
    version: str | None = None,
    changes: Any = None,
    **options: Any,
) -> None:
    """Write OUT_DIR/NAME and OUT_DIR/NAME_vVERSION.zip: configurations, code, weights, TorchScript, ONNX and card.

    They run where this repository is not installed, in the Model Zoo and in MONAI Label. The exported forms are
    compared with the network itself; what fails `python -m tools.check_bundle` is not written.

    Args:
        name: of the bundle.
        out_dir: the folder to write to; an earlier export of the bundle there is replaced.
        checkpoint: weights; left out, the bundle's models/model.pt.
        refinement_checkpoint: weights of spineparsenet's second stage, where they are neither in the checkpoint nor in
            refine/model.pt beside it.
        results: folder of an evaluation of these weights, evaluate.json's output_dir; its means become the metadata's
            eval_metrics.
        overlay: overlays of the bundle with which the model was trained, for example demo.
        modalities: names of the input images, where the model was trained on others than the bundle's: T1,FLAIR.
        url: address of a folder that will hold files over 25 MB, for large_files.yml.
        version: of the bundle, for a new one: 0.2.0.
        changes: what the changelog says of it.
        options: of the configurations with which the model was trained, where they are not the defaults, for example
            --filters "[16,32,64,128,256]".
    """
    from custom_nets.model_zoo.exporting import Model, export
    from custom_nets.model_zoo.forms import parity_table
    from custom_nets.model_zoo.model_options import overlay_options, read_configs

    entry = bundle(str(name))
    weights = Path(str(checkpoint)) if checkpoint else entry.folder / "models" / "model.pt"
    if not weights.is_file():
        raise InputError(f"{weights}: no such checkpoint; train {name} first, or give --checkpoint FILE.")
    configs = read_configs(entry.folder)
    trained: dict[str, Any] = {}
    for one in names_in(overlay):
        trained |= overlay_options(configs, one)
    model = Model(
        entry,
        weights,
        trained | options,
        names_in(modalities) or None,
        Path(str(results)) if results else None,
        str(url),
        None if version is None else str(version),
        None if changes is None else ", ".join(changes) if isinstance(changes, list | tuple) else str(changes),
        Path(str(refinement_checkpoint)) if refinement_checkpoint else None,
    )
    written = export(model, Path(str(out_dir)), lambda step: print(f"... {step}", flush=True))
    print()
    for verdict in written.verdicts:
        print(verdict)
    print(f"\n{parity_table(written.parity)}\n")
    print(f"labels: {', '.join(f'{value} {label}' for value, label in written.labels.items())}\n")
    if written.scored_with:
        print(f"scored with other options than the export has: {dict(written.scored_with)}")
    for metric, value in written.scores.items():
        print(f"{metric:<28} {value:.4g}")
    if not written.scores:
        print("not scored: eval_metrics is empty; give --results the folder of an evaluation of these weights")
    print(f"wrote {written.folder}\nwrote {written.archive}")


if __name__ == "__main__":
    run(export_bundle)
