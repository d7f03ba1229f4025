# SPDX-License-Identifier: Apache-2.0
"""What a configuration's `$` expressions may use. A name that is not here is a finding; each card prints its share."""

from __future__ import annotations

from custom_nets.config_linter.expressions import bindings_of, expressions_of, used_names
from custom_nets.config_linter.reading import BundleFiles
from custom_nets.marked_text import markdown_table

#: Name in full -> what it does, for the cards. A leading dot: an attribute or a method of a configured object.
ALLOWED = {
    ".flatten": "put transforms in a row",
    ".names": "values and names of the labels",
    ".node_names": "names of the labels",
    ".parameters": "what the optimizer trains",
    ".run": "start the trainer or the evaluator",
    ".to": "move the network to the device",
    ".type": "kind of device, cpu or cuda",
    "custom_nets.checkpoints.load_weights": "read a checkpoint (tensors only, no code) into the network",
    "custom_nets.datasets.datalist.load_section": "read one list of cases from datalist.json",
    "custom_nets.datasets.label_table.read_label_table": "names of the labels, the bundle's or the user's",
    "custom_nets.datasets.modalities.channel_order": "how the channels of the data set's images are to be reordered",
    "custom_nets.datasets.reader.SameGridReader": "read NIfTI files, refusing modalities on different grids",
    "custom_nets.datasets.sides.left_right_pairs": "which labels change sides in a mirror image",
    "custom_nets.datasets.tumour_labels.label_convention": "which values the data set's labels have",
    "custom_nets.datasets.tumour_labels.label_names": "names of these values, for pictures",
    "custom_nets.label_graphs.reading.label_graph_of": "labels of the data set and which of them touch",
    "custom_nets.metric_handlers.chosen_first": "put the metric first that picks the best model",
    "custom_nets.precision.amp_pays": "whether mixed precision is faster on the device",
    "custom_nets.preflight.before_segmenting": "check options, checkpoint and data before evaluation or inference",
    "custom_nets.preflight.before_training": "check options and data before training",
    "custom_nets.spine.batches.drops_last": "whether an epoch's last batch, not full, is left out",
    "custom_nets.spine.weights.load_stages": "read the checkpoints of both stages (tensors only, no code)",
    "custom_nets.spine.weights.pretrained_if_there": "start from the pre-training's model where there is one",
    "custom_nets.training.optimisation.parameter_groups": "weights with and without weight decay",
    "custom_nets.training.records.attention_betas": "values of the attention's learnt weights, for the log",
    "custom_nets.training.reproducible.choose_fastest_kernels": "let cuDNN choose, where asked for",
    "float": "a number, here NaN: keep the scan's voxel size",
    "len": "number of iterations an epoch",
    "max": "the larger of two numbers",
    "monai.handlers.from_engine": "pick entries of a batch for a metric",
    "monai.transforms.Compose": "put transforms in a row",
    "monai.utils.set_determinism": "seed all random generators",
    "numpy.int16": "a number type",
    "numpy.uint16": "a number type",
    "numpy.uint8": "a number type",
    "os.environ": "see what torchrun and MONAI Label have set",
    "os.environ.get": "read the variables that torchrun sets",
    "os.path.isfile": "find out from which folder the bundle is run",
    "os.path.join": "make a path",
    "os.path.normpath": "make a path",
    "sys.path.append": "let Python find code that an exported bundle carries in its folder",
    "torch.cuda.is_available": "choose the device",
    "torch.cuda.set_device": "one GPU a process",
    "torch.device": "choose the device",
    "torch.distributed.destroy_process_group": "end the connection between processes",
    "torch.distributed.init_process_group": "connect the processes of a run on several GPUs",
    "torch.distributed.is_initialized": "whether the processes are connected",
    "torch.float16": "a number type",
    "torch.float32": "a number type",
    "torch.uint8": "a number type",
}


def calls_of(bundle: BundleFiles) -> dict[str, list[str]]:
    """Return each name that the bundle's expressions use -> the configurations that use it."""
    used: dict[str, list[str]] = {}
    for name, config in bundle.configs.items():
        bound = bindings_of(config)
        for call in {call for expression in expressions_of(config) for call in used_names(expression, bound)}:
            used.setdefault(call, []).append(name)
    return dict(sorted(used.items()))


def calls_table(bundle: BundleFiles) -> str:
    """Return the Markdown table for the bundle's card: what its configurations call, where, and what for."""
    rows = [
        (f"`{call}`", ", ".join(configs), ALLOWED.get(call, "not allowed"))
        for call, configs in calls_of(bundle).items()
    ]
    return markdown_table(("Name", "Used in", "What for"), rows)
