# SPDX-License-Identifier: Apache-2.0
"""Names are read as the modality that they are."""

from __future__ import annotations

import pytest

from custom_nets.errors import InputError
from custom_nets.registry import bundle
from custom_nets.scans.patterns import NamePatterns

TUMOUR, LESIONS, ANY_MR, STROKE = "s2ca_net", "rsanet", "s2anet", "zoom_resunet"


@pytest.mark.parametrize(
    ("name", "stem", "modality"),
    [
        (TUMOUR, "BraTS20_Training_001_t1", "T1"),
        (TUMOUR, "BraTS20_Training_001_t1ce", "T1CE"),
        (TUMOUR, "BraTS-GLI-00005-101-t1c", "T1CE"),
        (TUMOUR, "BraTS-GLI-00005-101-t1n", "T1"),
        (TUMOUR, "BraTS-GLI-00005-101-t2f", "FLAIR"),
        (TUMOUR, "TCGA_t1Gd", "T1CE"),
        (TUMOUR, "p1 T1 post", "T1CE"),
        (TUMOUR, "t1_mprage_sag_p2_Gd", "T1CE"),
        (TUMOUR, "ce-gadolinium_T1w", "T1CE"),
        (TUMOUR, "ce-gadolinium_run-1_T1w", "T1CE"),
        (TUMOUR, "acq-mprage_T1w", "T1"),
        (TUMOUR, "t2_tirm_tra_dark-fluid", "FLAIR"),
        (TUMOUR, "Pätient ü.T2w", "T2"),
        (TUMOUR, "case_t12", ""),
        (LESIONS, "P1_T1_T2", "T2"),
        (LESIONS, "P1_T2_FLAIR", "FLAIR"),
        (LESIONS, "T1_to_FLAIR", "T1"),
        (LESIONS, "x_space-T1w_FLAIR", "FLAIR"),
        (LESIONS, "t1post", ""),
        (LESIONS, "case_t1_gd", ""),
        (LESIONS, "lesion01_t1", "T1"),
        (ANY_MR, "Case1", "MR"),
        (ANY_MR, "t2_tra", "MR"),
        (ANY_MR, "adc", ""),
        (STROKE, "c0003s0002t01_t1w_stx", "T1"),
        (STROKE, "any-name", "T1"),
        (STROKE, "any-name_flair", ""),
    ],
)
def test_modality_of_a_name(name: str, stem: str, modality: str) -> None:
    assert NamePatterns(bundle(name)).read(stem).modality == modality


@pytest.mark.parametrize(
    "stem", ["c01_label", "1label", "c01_seg", "mask_case1", "c01_t1_seg", "c01_probabilities", "c01_uncertainty",
             "label_auto_fused", "LesionSmooth_1", "x_label-L_desc-T1lesion_mask", "gt"],
)  # fmt: skip
def test_labels_and_results_are_no_scans(stem: str) -> None:
    said = NamePatterns(bundle(STROKE)).read(stem)
    assert said.label and not said.modality


@pytest.mark.parametrize(
    ("given", "stem", "modality"),
    [
        ({"T1": ["*mpr*"]}, "a_xmpry", "T1"),
        ({"T1": ["*mpr*"]}, "a_t1", ""),
        ({"t1": "*mpr.nii.gz"}, "a_mpr", "T1"),
        ({"T1": ["*t1*"]}, "a_t1post", "T1"),
        ({"T1": ["sub*_brain"]}, "sub-01_ses-1_brain", "T1"),
        ({"T1": ["*_seg_t1"]}, "a_seg_t1", "T1"),
        ({"T1": ["*t1*"]}, "a_t1_seg", ""),
    ],
)
def test_what_the_user_gives_replaces_the_bundles_patterns(given: dict, stem: str, modality: str) -> None:
    assert NamePatterns(bundle(LESIONS), given).read(stem).modality == modality


def test_any_name_is_the_one_modality_if_the_user_says_so() -> None:
    patterns = NamePatterns(bundle(STROKE), {"T1": ["*"]})
    assert [patterns.read(stem).modality for stem in ("a_t2", "x", "a_seg")] == ["T1", "T1", ""]


def test_the_patterns_of_two_modalities_on_one_name() -> None:
    said = NamePatterns(bundle(LESIONS), {"T1": ["*brain*"], "T2": ["*brain*"]}).read("a_brain")
    assert {said.modality, *said.rivals} == {"T1", "T2"}
    said = NamePatterns(bundle(LESIONS)).read("Sag T1 FLAIR")
    assert (said.modality, said.also) == ("FLAIR", ("T1",))


def test_an_unknown_modality() -> None:
    with pytest.raises(InputError, match=r"--PD: the bundle has no such modality: use T1, T2, FLAIR, label"):
        NamePatterns(bundle(LESIONS), {"PD": ["*pd*"]})


def test_a_modality_without_patterns_goes_by_its_name() -> None:
    entry = bundle(LESIONS)
    bare = type(entry)(**{**vars(entry), "modalities": ("PD", "T2"), "file_name_patterns": {}})
    patterns = NamePatterns(bare)
    assert [patterns.read(stem).modality for stem in ("a_pd", "a_T2w", "a_t1")] == ["PD", "T2", ""]
