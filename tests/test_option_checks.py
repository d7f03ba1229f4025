# SPDX-License-Identifier: Apache-2.0
"""What the checks of options say where bundles differ: volumes or slices, labels of the bundle or of the user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from custom_nets.errors import InputError
from custom_nets.option_checks import check_options
from custom_nets.preflight import _patch_of, labels_of, modalities_of

VOLUMES = {"patch_size": [96, 96, 96], "device": "cpu", "amp": False}
SLICES = VOLUMES | {"patch_size": [512, 512], "num_slices": 3}
REGIONS = VOLUMES | {"patch_size": [128, 128, 128], "region_threshold": 0.5}
#: Of SpineParseNet's first stage, of its second, and of both in an inference.
SPINES = VOLUMES | {"patch_size": [18, 128, 256], "label_graph": "auto"}
REFINED = SPINES | {"patch_size": [256, 512], "coarse_size": [18, 128, 256], "coarse_logits": "stored"}
BOTH_STAGES = SPINES | {"fine_size": [256, 512], "stages": "both"}


@pytest.mark.parametrize(
    "options",
    [
        VOLUMES | {"intensity": "zscore", "windows": "centre"},
        VOLUMES | {"intensity": "percentile", "windows": "sliding"},
        REGIONS | {"intensity": "nonzero", "windows": "foreground", "blending": "gaussian", "optimizer_name": "sgd"},
        REGIONS | {"label_convention": "auto", "output_convention": "msd", "output_names": "case", "nesting": "nested"},
        REGIONS | {"min_region_voxels": 0, "min_enhancing_voxels": 0, "suppression": "local", "momentum": 0},
        REGIONS | {"warmup_epochs": 5, "plateau_epochs": 45, "epochs": 51},
        REGIONS | {"warmup_epochs": 0, "plateau_epochs": 0, "all_cases": True, "supervision_weights": [1, 0, 0, 0.5]},
        SPINES | {"image_interpolation": "spline", "loss_name": "fpfn", "contrast_clip": "none", "max_angle": 0},
        SPINES | {"patch_size": [1, 1, 7], "crop_share": 1, "slice_spacing": 4.4, "intensity_mean": -3.5, "width": 2},
        REFINED | {"image_interpolation": "bicubic", "coarse_logits": "computed", "out_of_fold": False},
        REFINED | {"patch_size": [16, 32], "filters": [1, 2, 3, 4, 5], "slice_spacing": False, "batch_size": 2},
        BOTH_STAGES | {"windows": "sliding", "stages": "refine", "graph_mode": "transfer", "assd": "pooled"},
        SLICES | {"intensity": "minmax", "windows": "resized"},
        SLICES | {"intensity": "none", "windows": "sliding", "patch_size": [8, 48], "num_slices": 1},
        SLICES | {"plane": "sagittal", "resize_back": "probabilities", "feature_scale": 0.5, "intensity_mean": 0},
        SLICES | {"select_by": "mean_dice", "weighting": "rank", "distance_unit": "voxel", "step_epochs": 1},
    ],
    ids=lambda options: str({key: value for key, value in options.items() if key not in VOLUMES}),
)
def test_sound_options_pass(options: dict[str, Any]) -> None:
    check_options(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        # both have these keys, each with its own values
        (VOLUMES | {"intensity": "minmax"}, "intensity is 'minmax': choose one of divide, percentile, zscore."),
        (VOLUMES | {"intensity": "none"}, "intensity is 'none': choose one of divide, percentile, zscore."),
        (SLICES | {"intensity": "zscore"}, "intensity is 'zscore': choose one of minmax, percentile, none."),
        (VOLUMES | {"windows": "resized"}, "windows is 'resized': choose one of centre, sliding, whole."),
        (SLICES | {"windows": "whole"}, "windows is 'whole': choose one of resized, sliding."),
        (VOLUMES | {"patch_size": [512, 512]}, "patch_size is [512, 512]: give three whole numbers"),
        (SLICES | {"patch_size": [96, 96, 96]}, "patch_size is [96, 96, 96]: give rows and columns, multiples of 8"),
        (SLICES | {"patch_size": [512, 500]}, "patch_size is [512, 500]: give rows and columns, multiples of 8"),
        (SLICES | {"patch_size": [0, 8]}, "patch_size is [0, 8]: give rows and columns"),
        (SLICES | {"patch_size": [-8, 8]}, "patch_size is [-8, 8]: give rows and columns"),
        (SLICES | {"patch_size": [64.0, 64]}, "patch_size is [64.0, 64]: give rows and columns"),
        (SLICES | {"patch_size": 64}, "patch_size is 64: give rows and columns, multiples of 8, as [512,512]."),
        (SLICES | {"patch_size": "64"}, "patch_size is '64': give rows and columns"),
        (SLICES | {"num_slices": 4}, "num_slices is 4: give an odd number"),
        (SLICES | {"num_slices": 0}, "num_slices is 0: give a whole number of at least 1."),
        (SLICES | {"num_slices": 3.0}, "num_slices is 3.0: give a whole number of at least 1."),
        (SLICES | {"plane": "axia"}, "plane is 'axia': choose one of auto, axial, coronal, sagittal."),
        (SLICES | {"weighting": "adaptiv"}, "weighting is 'adaptiv': choose one of adaptive, static, rank, none."),
        (SLICES | {"select_by": "dice"}, "select_by is 'dice': choose one of mean_iou, mean_dice."),
        (SLICES | {"resize_back": "none"}, "resize_back is 'none': choose one of labels, probabilities."),
        (SLICES | {"distance_unit": "cm"}, "distance_unit is 'cm': choose one of mm, voxel."),
        (SLICES | {"step_epochs": 0}, "step_epochs is 0: give a whole number of at least 1."),
        (SLICES | {"out_channels": 0}, "out_channels is 0: give a whole number of at least 1."),
        (SLICES | {"feature_scale": 0}, "feature_scale is 0: give a number above 0."),
        (SLICES | {"intensity_std": -0.2}, "intensity_std is -0.2: give a number above 0."),
        (SLICES | {"intensity_std": float("nan")}, "intensity_std is nan: give a number above 0."),
        (SLICES | {"intensity_mean": 120}, "intensity_mean is 120: give a share from 0 to 1."),
        (SLICES | {"elastic_probability": 2}, "elastic_probability is 2: give a share from 0 to 1."),
        (SLICES | {"mirror_probability": "half"}, "mirror_probability is 'half': give a share from 0 to 1."),
        # of regions of a tumour
        (REGIONS | {"intensity": "zscore"}, "intensity is 'zscore': choose one of crop, volume, nonzero."),
        (VOLUMES | {"intensity": "crop"}, "intensity is 'crop': choose one of divide, percentile, zscore."),
        (REGIONS | {"windows": "centre"}, "windows is 'centre': choose one of sliding, foreground."),
        (VOLUMES | {"windows": "foreground"}, "windows is 'foreground': choose one of centre, sliding, whole."),
        (REGIONS | {"blending": "mean"}, "blending is 'mean': choose one of constant, gaussian."),
        (REGIONS | {"optimizer_name": "adamw"}, "optimizer_name is 'adamw': choose one of adam, sgd."),
        (REGIONS | {"image_interpolation": "linear"}, "image_interpolation is 'linear': choose one of nearest, bili"),
        (REGIONS | {"suppression": True}, "suppression is True: choose one of global, local."),
        (REGIONS | {"nesting": "strict"}, "nesting is 'strict': choose one of published, nested."),
        (REGIONS | {"empty_rule": "tc"}, "empty_rule is 'tc': choose one of all, et."),
        (REGIONS | {"output_names": "cases"}, "output_names is 'cases': choose one of image, case."),
        (REGIONS | {"output_convention": "auto"}, "output_convention is 'auto': choose one of brats, brats2023, msd."),
        (REGIONS | {"label_convention": 2023}, "label_convention is 2023: choose one of auto, brats, brats2023, msd."),
        (REGIONS | {"context": "max"}, "context is 'max': choose one of strided, max_pool, none."),
        (REGIONS | {"deformable": False}, "deformable is False: choose one of added, replacing, per_level, none."),
        (REGIONS | {"region_threshold": 1}, "region_threshold is 1: give a probability between 0 and 1."),
        (REGIONS | {"region_threshold": "0.5"}, "region_threshold is '0.5': give a probability between 0 and 1."),
        (REGIONS | {"min_region_voxels": -1}, "min_region_voxels is -1: give a whole number of at least 0."),
        (REGIONS | {"min_enhancing_voxels": 0.5}, "min_enhancing_voxels is 0.5: give a whole number of at least 0."),
        (REGIONS | {"warmup_epochs": -5}, "warmup_epochs is -5: give a whole number of at least 0."),
        (REGIONS | {"plateau_epochs": 2.5}, "plateau_epochs is 2.5: give a whole number of at least 0."),
        (
            REGIONS | {"warmup_epochs": 5, "plateau_epochs": 45, "epochs": 50},
            "warmup_epochs is 5, plateau_epochs 45 and epochs 50: ",
        ),
        (REGIONS | {"momentum": 99}, "momentum is 99: give a share from 0 to 1."),
        *(
            (REGIONS | {"supervision_weights": weights}, f"supervision_weights is {weights!r}: give 4 numbers of at le")
            for weights in ([1, 0.5, 0.25], [1, 1, 1, 1, 1], [1, 0, 0, -1], [1, 0, 0, "0"], 1, None)
        ),
        *(
            (REGIONS | {key: "yes"}, f"{key} is 'yes': write True or False.")
            for key in ("all_cases", "cudnn_benchmark", "per_modality", "deep_supervision", "local_global")
        ),
        *(
            (REGIONS | {key: 1}, f"{key} is 1: write True or False.")
            for key in ("swapped_axes", "lesion_wise", "reorder_channels")
        ),
        # of spines
        (SPINES | {"windows": "foreground"}, "windows is 'foreground': choose one of whole, sliding."),
        (VOLUMES | {"windows": "resized"}, "windows is 'resized': choose one of centre, sliding, whole."),
        (SPINES | {"graph_mode": "graph"}, "graph_mode is 'graph': choose one of semantic, none, global_reasoning, tr"),
        (SPINES | {"loss_name": "dice"}, "loss_name is 'dice': choose one of cross_entropy, pixelwise, fpfn."),
        (SPINES | {"contrast_clip": True}, "contrast_clip is True: choose one of published, none."),
        (BOTH_STAGES | {"stages": "fine"}, "stages is 'fine': choose one of both, coarse, refine."),
        (REFINED | {"coarse_logits": True}, "coarse_logits is True: choose one of stored, computed."),
        (REFINED | {"out_of_fold": "no"}, "out_of_fold is 'no': write True or False."),
        (
            SPINES | {"image_interpolation": "bicubic"},
            "image_interpolation is 'bicubic': choose one of published, nearest, bilinear, spline.",
        ),
        (
            REFINED | {"image_interpolation": "spline"},
            "image_interpolation is 'spline': choose one of published, bicubic, bilinear.",
        ),
        *(
            (SPINES | {"patch_size": size}, f"patch_size is {size!r}: give slices, rows and columns, as [18,128,256].")
            for size in ([128, 256], [18, 128, 256, 1], [0, 128, 256], [18.0, 128, 256], "18", 18)
        ),
        *(
            (REFINED | {"patch_size": size}, f"patch_size is {size!r}: give rows and columns, multiples of 16, as [25")
            for size in ([18, 128, 256], [256, 500], [0, 512], [256.0, 512], 256)
        ),
        (REFINED | {"coarse_size": [128, 256]}, "coarse_size is [128, 256]: give slices, rows and columns, as [18,128"),
        (BOTH_STAGES | {"fine_size": [8, 16]}, "fine_size is [8, 16]: give rows and columns, multiples of 16, as [256"),
        *((SPINES | {"crop_share": share}, f"crop_share is {share!r}: ") for share in (0, 1.5, -0.5, "half", True)),
        *(
            (SPINES | {"slice_spacing": spacing}, f"slice_spacing is {spacing!r}: give mm, as 4.4, or False for the s")
            for spacing in (True, 0, -4.4, "4.4", [4.4], None, float("inf"))
        ),
        *((SPINES | {"width": width}, f"width is {width!r}: give a number above 0.") for width in (0, -1, "1", True)),
        (SPINES | {"intensity_std": 0}, "intensity_std is 0: give a number above 0."),
        *(
            (SPINES | {"intensity_mean": mean}, f"intensity_mean is {mean!r}: give a number; tools.intensity_statist")
            for mean in ("466", True, float("nan"))
        ),
        *(
            (SPINES | {"max_angle": angle}, f"max_angle is {angle!r}: give whole degrees from 0 to 180; 15 as publish")
            for angle in (-1, 181, 15.5, True)
        ),
        *(
            (REFINED | {"filters": filters}, f"filters is {filters!r}: give five whole numbers, as [32,64,128,256,51")
            for filters in ([32] * 4, [32] * 6, [32, 0, 1, 1, 1], [1.5] * 5, 32)
        ),
        (
            BOTH_STAGES | {"stages": "refine", "tta": True},
            "tta mirrors volumes, but stored logits are of the volumes as",
        ),
        (
            BOTH_STAGES | {"graph_mode": "global_reasoning", "amp": True, "amp_dtype": "float16"},
            "graph_mode global_reasoning sums over all voxels, too much for float16: --amp_dtype bfloat16",
        ),
        (SPINES | {"batch_size": 1}, "batch_size is 1: batch norm needs at least 2."),
        (SPINES | {"batch_size": 0}, "batch_size is 0: give a whole number of at least 1."),
        (SPINES | {"aux_weight": -0.3}, "aux_weight is -0.3: give a number of at least 0."),
        (SPINES | {"contrast_probability": 2}, "contrast_probability is 2: give a share from 0 to 1."),
        (SLICES | {"keep_largest": 1}, "keep_largest is 1: write True or False."),
        (SLICES | {"count_hallucinated": "no"}, "count_hallucinated is 'no': write True or False."),
    ],
)
def test_unfit_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_options(options)
    assert str(caught.value).startswith(message)


def test_volumes_are_compared_with_a_patch_of_volumes_alone() -> None:
    """Slices, and spines, are resized to theirs, or padded."""
    assert _patch_of(VOLUMES) == [96, 96, 96]
    assert _patch_of(SLICES) is None
    assert _patch_of(SPINES) is None and _patch_of(REFINED) is None


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"0": "background", "1": "Femur, left", "2": "Femur, right"}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "options", "labels"),
    [
        ("rsanet", {}, 2),
        ("zoom_resunet", {"out_channels": 2}, 2),
        ("s2anet", {}, 55),
        ("spineparsenet", {"dataset_dir": "gone", "datalist": "gone.json", "label_graph": "auto"}, 20),
        ("s2anet", {"out_channels": 55, "label_table": None}, 55),
    ],
)
def test_labels_of_a_bundle(name: str, options: dict[str, Any], labels: int) -> None:
    assert labels_of(name, options) == list(range(labels))


def test_labels_of_the_user(table: Path) -> None:
    assert labels_of("s2anet", {"label_table": str(table), "out_channels": 3}) == [0, 1, 2]
    assert labels_of("s2anet", {"label_table": str(table)}) == [0, 1, 2]


def test_a_table_of_another_length_than_the_output_is_refused(table: Path) -> None:
    with pytest.raises(InputError) as caught:
        labels_of("s2anet", {"label_table": str(table), "out_channels": 55})
    assert str(caught.value) == (
        f"{table} names 3 labels with the background, out_channels is 55: "
        "add --out_channels 3, or give the table of your labels with --label_table FILE."
    )
    with pytest.raises(
        InputError, match=r"bundle's own label table names 55 .* out_channels is 8: .*--label_table FILE"
    ):
        labels_of("s2anet", {"label_table": None, "out_channels": 8})


def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.json: label table cannot be read"):
        labels_of("s2anet", {"label_table": str(tmp_path / "gone.json"), "out_channels": 55})


@pytest.mark.parametrize(
    ("name", "channels", "modalities"),
    [("s2anet", 1, ["MR"]), ("s2anet", 3, 3), ("rsanet", 3, ["T1", "T2", "FLAIR"]), ("rsanet", 1, 1)],
)
def test_slices_of_a_modality_are_one_modality(name: str, channels: int, modalities: Any) -> None:
    assert modalities_of(name, channels) == modalities
