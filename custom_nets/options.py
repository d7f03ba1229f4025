# SPDX-License-Identifier: Apache-2.0
"""What the bundles' top-level keys mean, the same in every bundle. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: Key -> meaning. A key that a person may set on the command line has its line here; the linter asks for it.
MEANINGS = {
    "bundle_root": "the bundle's folder",
    "dataset_dir": "folder of the data set",
    "datalist": "the list of cases, in dataset_dir",
    "section": "which list of the datalist: training, validation or testing",
    "checkpoint": "weights to load",
    "ckpt_dir": "where model.pt (best) and last.pt (to resume from) are written",
    "output_dir": "where results are written",
    "output_ext": "file type of the predictions",
    "output_dtype": "voxel type of the predictions",
    "output_postfix": "what is appended to the names of the predictions",
    "separate_folder": "a folder for each case",
    "device": "where to compute, such as cuda:0 or cpu",
    "seed": "same seed, same run",
    "resume": "true for the newest last.pt, or a file to go on from",
    "keep_last": "write last.pt after every epoch; MONAI Label, which cannot resume, would serve it as a model",
    "pretrained": "a checkpoint to start from, such as a converted one",
    "refinement_checkpoint": "weights of the second stage; null for checkpoint's, else for refine/model.pt beside it",
    "coarse_checkpoint": "weights of the first stage, for coarse_logits computed",
    "coarse_logits": "of the first stage: stored (in logits_dir), or computed before the training and kept in memory",
    "logits_dir": "folder of stored logits, see tools.coarse_logits",
    "out_of_fold": "refuse stored logits of a network that was trained on the very case; False as published",
    "stages": "both, coarse (the first alone), or refine (the second alone, on the logits in logits_dir)",
    "pretrained_share": "least share of the network's entries that must match those of pretrained",
    "epochs": "passes over the training cases",
    "all_cases": "train on the validation cases too, without a validation; the last epoch is then the model",
    "val_interval": "epochs from one validation to the next",
    "batch_size": "cases a step",
    "patches_per_case": "patches cut from a case each time",
    "optimizer_name": "adam, or sgd with Nesterov's momentum",
    "learning_rate": "at the start, or the highest where it rises first",
    "momentum": "of sgd",
    "warmup_epochs": "in which the learning rate rises from a thousandth",
    "plateau_epochs": "at the highest learning rate, after which it falls along a cosine",
    "supervision_weights": "of the heads' losses, from full resolution to the deepest",
    "cudnn_benchmark": "let cuDNN choose its fastest kernels; the run then repeats to rounding only",
    "schedule": "of the learning rate: sgdr (warm restarts) or official (the published script's)",
    "step_epochs": "epochs after which the learning rate falls to a tenth, again and again",
    "restart_epochs": "epochs from one restart of the learning rate to the next",
    "weight_decay": "of the optimizer",
    "loss_name": "cross_entropy, as published, or with weights towards borders pixelwise or fpfn",
    "aux_weight": "of the loss of the graph's assignment; 0.3 as published",
    "positive_weight": "of lesion voxels in the cross-entropy",
    "weighting": "of the classes in the cross-entropy: adaptive (to each batch), rank, static or none",
    "static_weights": "for weighting static: a list of one weight a class, or a JSON file with it",
    "select_by": "which metric picks model.pt: mean_iou over slices, as published, or mean_dice of the structures",
    "gradient_clip": "largest norm of the gradient; 0 for no limit",
    "amp": "mixed precision",
    "amp_dtype": "type used by mixed precision: bfloat16 or float16",
    "patch_size": "voxels that the network sees at once",
    "coarse_size": "slices, rows and columns that the first stage sees",
    "fine_size": "rows and columns that the second stage sees",
    "crop_share": "share of the rows, from back to front, around the middle that is seen; 1 for all",
    "slice_spacing": "distance of slices in mm to resample to; False keeps the scans' own",
    "max_angle": "of rotations in training, degrees",
    "contrast_probability": "of a change of contrast in training",
    "contrast_clip": "behind a change of contrast: published (to 0 to 1, slices -10 to 10), or none",
    "per_modality": "brighten and shift each modality by a factor of its own; False as published",
    "image_interpolation": "of images in training's deformations: nearest, as published, or bilinear; of spines "
    "published, bilinear or, in the first stage, spline",
    "lesion_share": "share of the training crops that must hold lesion; 0 as published",
    "flip_probability": "of a flip in training, along each axis, or of tumours along one of the axes",
    "intensity": "scaling of the image: divide (by 255), percentile, zscore; of slices: minmax, percentile, none; of "
    "tumours: z-score over the crop (in training; else over the volume), the volume, or nonzero voxels",
    "intensity_mean": "mean of the scaled slices, or of spines' intensities, see tools.intensity_statistics",
    "intensity_std": "deviation of the same",
    "elastic_probability": "of an elastic deformation in training",
    "mirror_probability": "of a mirror image in training, in which paired labels change sides; 0 as published",
    "num_slices": "slices that the network sees to label the middle one; 1 is 2D",
    "plane": "of the slices: auto (across the largest spacing), axial, coronal or sagittal",
    "validation": "what is validated: crops around the lesions, as published, or whole volumes",
    "windows": "how a volume is seen: centre (one crop), sliding, whole, or foreground (sliding around the brain); "
    "slices: resized to patch_size, or sliding; spines of many slices: whole, or sliding along the slices",
    "blending": "of windows: constant (their mean), or gaussian",
    "resize_back": "what returns to the size of the slices: labels (nearest, as published) or probabilities",
    "overlap": "of neighbouring windows, as a share of patch_size",
    "sw_batch_size": "windows, or slices of the second stage, that the network sees at once",
    "tta": "average over flipped copies (test-time augmentation)",
    "flips": "which flips tta takes",
    "spacing": "voxel size in mm to resample to; False keeps the scans' own",
    "in_channels": "modalities a case",
    "reorder_channels": "put the channels of 4D files into the network's order, where the data list tells theirs",
    "out_channels": "labels, background included",
    "label_graph": "labels and which of them touch: auto (as the data list says), mrspineseg, spider, or a JSON file",
    "label_table": "a file that names the labels; null for the bundle's own",
    "graph_mode": "of the first stage: semantic, as published, none, global_reasoning or transfer (of the ablation)",
    "width": "of the first stage, as a share of the published numbers of channels; 0.5 for a small machine",
    "feature_scale": "the levels have 64, 128, 256 and 512 channels divided by this; 4 for a small machine",
    "base_width": "the levels have 2, 4, 8 and 16 times as many channels; halve it for a small machine",
    "filters": "channels of the network's levels; halve them for a small machine",
    "embed_channels": "channels of the global branches at levels 2 and 3",
    "encoder_depths": "blocks of the encoder's global branches at levels 2 and 3",
    "decoder_depths": "blocks of the decoder's global branches",
    "local_global": "global branches beside the local ones; False for the ablation",
    "context": "at the bottom: strided (MCA), max_pool (MCA with pooling), or none (plain units)",
    "deformable": "on the skip connections: added (MS-ADC), replacing, per_level, or none",
    "swapped_axes": "exchange two axes at the bottom, as the published code does; its weights need it",
    "deep_supervision": "train all heads, not the last one alone",
    "label_convention": "of the label files: auto (as the data list says), brats (1, 2, 4), brats2023 (1, 2, 3) or msd",
    "output_convention": "of the predictions: brats, brats2023 or msd",
    "output_names": "image: beside one another as the images are, or case: CASE.nii.gz, as challenges want it",
    "region_threshold": "probability from which on a voxel belongs to a region",
    "min_region_voxels": "components of a region with fewer voxels are removed; 0 keeps all",
    "min_enhancing_voxels": "less enhancing tumour than this is taken for core; 0 keeps all",
    "suppression": "min_enhancing_voxels counts all enhancing tumour (global) or each component (local)",
    "nesting": "of regions that are not nested: published (who is labelled last wins), or nested",
    "empty_rule": "scores of regions that are absent: all, the challenge's rule for each region, or et, as published",
    "lesion_wise": "score each tumour of a case as well, as BraTS 2023 does",
    "lesion_threshold": "probability above which a voxel is lesion",
    "min_lesion_volume": "smaller components are removed, mm³; 0 keeps all",
    "connectivity": "neighbours that make two voxels one component: 6, 18 or 26",
    "keep_largest": "keep the largest component of each structure alone",
    "distance_unit": "of surface distances: mm, or voxel as published",
    "count_hallucinated": "count a structure that only the prediction has as Dice 0; not counted as published",
    "assd": "average surface distance: pooled over both surfaces, or directed (mean of two means)",
    "bootstrap_resamples": "resamples of the scans for the 95 % intervals",
    "pictures": "cases drawn as overlay PNG",
    "pictured_labels": "most labels that a picture names",
    "picture_channel": "modality under the overlay; -1 is the last",
    "num_workers": "processes that load data",
    "cache_rate": "share of the cases kept in memory after the deterministic transforms",
}

#: Keys that follow from others: not to be set by hand.
DERIVED = ("network", "main_process", "labels", "graph", "logits")

#: Keys whose value is a list of expressions or of components.
SEQUENCES = ("imports", "initialize", "run", "training", "evaluating", "finalize", "handlers")

#: The configurations that stand alone, in the order in which they are used.
WORKFLOWS = ("train", "evaluate", "inference")


def options_in(config: dict[str, Any]) -> dict[str, Any]:
    """Return the top-level keys of a configuration that are values, not components, with their defaults."""
    skipped = {*DERIVED, *SEQUENCES}
    return {
        key: value
        for key, value in config.items()
        if key not in skipped and "::" not in key and not isinstance(value, dict) and not key.startswith("+")
    }


def options_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return, for each option of the bundle in ``folder``, the default in each workflow that has it."""
    defaults: dict[str, dict[str, Any]] = {}
    for workflow in WORKFLOWS:
        path = folder / "configs" / f"{workflow}.json"
        if path.is_file():
            for key, value in options_in(json.loads(path.read_text(encoding="utf-8"))).items():
                defaults.setdefault(key, {})[workflow] = value
    return defaults


def option_rows(folder: Path) -> list[tuple[str, str, str, str]]:
    """Return a row for each option of the bundle: key, default, workflows, meaning."""
    rows = []
    for key, by_workflow in options_of(folder).items():
        shown = {workflow: _shown(value) for workflow, value in by_workflow.items()}
        default = ", ".join(f"{workflow} {value}" for workflow, value in shown.items())
        if len(set(shown.values())) == 1:
            default = next(iter(shown.values()))
        rows.append((key, default, ", ".join(shown), MEANINGS.get(key, "")))
    return rows


def _shown(value: Any) -> str:
    return value.removeprefix("$") if isinstance(value, str) else json.dumps(value)
