# SPDX-License-Identifier: Apache-2.0
"""The card of an export: the bundle's, with what holds for the very model."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_nets.files import write_text
from custom_nets.marked_text import markdown_table, with_marked

_PICTURE = re.compile(r"\]\((?P<path>(?:\.\./)+[^)]+\.png)\)")


def write_card(
    source: Path,
    folder: Path,
    metadata: Mapping[str, Any],
    *,
    weights: str,
    options: Mapping[str, Any],
    scored: Mapping[str, Any] | None,
    scored_with: Mapping[str, Any],
    parity: str,
) -> Path:
    """Write ``docs/README.md`` of an export, pictures beside it.

    Args:
        source: of the bundle in the repository.
        folder: of the export.
        metadata: of the export.
        weights: digest of the model's weights.
        options: that differ from the bundle's own.
        scored: what the scores in the metadata are of; None where there are none.
        scored_with: options of the scored predictions that are not those of the export.
        parity: table of the exported forms.
    """
    card = source / "docs" / "README.md"
    text = card.read_text(encoding="utf-8").replace(f"bundles/{metadata['bundle']}/", "")
    for found in _PICTURE.finditer(text):
        picture = card.parent / found["path"]
        place = folder / "docs" / "images" / picture.name
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(picture, place)
        text = text.replace(found[0], f"](images/{picture.name})")
    text = with_marked(text, "parity", f"Measured when this model was exported.\n\n{parity}")
    scores = _scores(metadata["eval_metrics"], scored, scored_with)
    title, _, rest = text.partition("\n")
    return write_text(folder / "docs" / "README.md", f"{title}\n\n{_model(metadata, weights, options, scores)}{rest}")


def _model(metadata: Mapping[str, Any], weights: str, options: Mapping[str, Any], scores: str) -> str:
    packages = {"monai": metadata["monai_version"], "torch": metadata["pytorch_version"]}
    packages |= {"numpy": metadata["numpy_version"], **metadata["required_packages_version"]}
    others = "".join(f" {package}=={version}" for package, version in packages.items() if package != "torch")
    modalities = list(metadata["network_data_format"]["inputs"]["image"]["channel_def"].values())
    lines = [
        "## This model",
        "",
        f"Version {metadata['version']} of the bundle, weights {weights} (SHA-256 of names and values)."
        + (f" Trained with {_typed(options)}." if options else ""),
        "What this card says of other models, above all under Performance, was measured with those. Commands with",
        "`make` or `python -m tools.` belong to the repository mri-seg-bundles; all others run in this folder:",
        "",
        "```",
        f"pip install torch=={packages['torch']} && pip install{others}",
        "python -m monai.bundle run --config_file configs/inference.json --dataset_dir DIR --output_dir OUT",
        "```",
        "",
        "In another folder they need `PYTHONPATH=HERE`, and `--bundle_root HERE`, where HERE is this folder.",
        'DIR holds the images and datalist.json, `{"testing": [{"image": [...]}]}`, with the paths of a case\'s images',
        f"in the order {', '.join(dict.fromkeys(re.sub(r', slice .*', '', name) for name in modalities))}.",
        "",
        scores,
        "",
    ]
    return "\n".join(lines)


def _scores(metrics: Mapping[str, float], scored: Mapping[str, Any] | None, scored_with: Mapping[str, Any]) -> str:
    if scored is None:
        return "This model was not scored."
    rows = [(f"`{name}`", f"{value:.4g}") for name, value in metrics.items()]
    otherwise = f", segmented with {_typed(scored_with)}" if scored_with else ""
    heading = f"Means over {scored['cases']} cases, section {scored['section']} of the data list{otherwise}:"
    return f"{heading}\n\n{markdown_table(('Metric', 'Mean'), rows)}"


def _typed(options: Mapping[str, Any]) -> str:
    """Options as one types them; of a file its name alone, since its place is of one machine."""
    shown = {key: _shown(value) for key, value in options.items()}
    return ", ".join(f"`--{key} {value}`" for key, value in shown.items())


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple | dict):
        return shlex.quote(json.dumps(value, separators=(",", ":")))
    return shlex.quote(Path(value).name if isinstance(value, str) else str(value))
