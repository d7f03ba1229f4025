# SPDX-License-Identifier: Apache-2.0
"""Pictures of many structures: which slices and colours are drawn, where, and what stands below."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from monai.data import MetaTensor
from PIL import Image
from skimage.color import deltaE_ciede2000, lab2lch, rgb2lab

from custom_nets.datasets.sides import left_right_pairs
from custom_nets.errors import InputError
from custom_nets.figures import structure_overlay
from custom_nets.figures.colours import COLOURS, structure_colours
from custom_nets.registry import bundle
from custom_nets.training.pictures import CasePictures

NAMES = {0: "background", 1: "Femur, left", 2: "Femur, right", 3: "Rectum"}
SHAPE = (30, 20, 12)


def volume(values: np.ndarray, thickness: float = 4.0) -> nib.Nifti1Image:
    """RAS order, 2 x 2 mm in the plane."""
    return nib.Nifti1Image(values.astype(np.float32), np.diag([2.0, 2.0, thickness, 1.0]))


def body() -> nib.Nifti1Image:
    return volume(np.random.default_rng(0).uniform(50, 100, SHAPE))


def structures(low: int = 0, high: int = SHAPE[2]) -> np.ndarray:
    """Both femurs from slice ``low`` up to ``high``, exclusively: 1 on the patient's left, 2 on the right."""
    values = np.zeros(SHAPE)
    values[3:8, 6:14, low:high] = 1
    values[22:27, 6:14, low:high] = 2
    return values


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are written."""
    written: list[Figure] = []

    def keep(figure: Figure, path: Path) -> Path:
        written.append(figure)
        return path

    monkeypatch.setattr("custom_nets.figures.structures.save_figure", keep)
    return written


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def captions(figure: Figure) -> list[str]:
    return [text for text in texts(figure) if " slice " in text]


def drawn(figure: Figure, name: str) -> np.ndarray:
    """The colours over the first slice: rows x columns x red, green, blue, opacity."""
    axes = next(axes for axes in figure.findobj(Axes) if axes.get_title() == name)
    assert len(axes.images) == 2
    return np.asarray(axes.images[1].get_array())


def where(colours: np.ndarray, label: int) -> np.ndarray:
    """Rows and columns, 0 … 1, that have the colour of a structure."""
    same = np.isclose(colours[..., :3], structure_colours([label], NAMES)[label]).all(axis=-1) & (colours[..., 3] > 0)
    return (np.argwhere(same) + 0.5) / same.shape


def to_lab(colours: dict[int, Any]) -> np.ndarray:
    return rgb2lab(np.array(list(colours.values())))


@pytest.mark.parametrize(("count", "least"), [(7, 25.0), (20, 14.0), (54, 9.0)])
@pytest.mark.parametrize("names", [None, bundle("s2anet").labels])
def test_colours_differ_and_stand_out_from_grey(count: int, least: float, names: dict[int, str] | None) -> None:
    lab = to_lab(structure_colours(range(1, count + 1), names))
    differences = deltaE_ciede2000(lab[:, None], lab[None])[np.triu_indices(count, 1)]
    assert differences.min() > least  # 1 is what an eye can just tell apart
    assert lab2lch(lab)[:, 1].min() > 30


def test_a_colour_depends_on_the_names_alone() -> None:
    names = bundle("s2anet").labels
    table = structure_colours(range(1, 55), names)
    assert structure_colours([49, 12], dict(reversed(names.items()))) == {49: table[49], 12: table[12]}
    assert structure_colours([3 + COLOURS]) == {3 + COLOURS: structure_colours([3])[3]}


def test_left_and_right_are_alike_in_hue() -> None:
    names = bundle("s2anet").labels
    lab = to_lab(structure_colours(range(1, 55), names))
    pairs = np.array(left_right_pairs(names)) - 1
    left, right = (lab2lch(lab[pairs[:, side]])[:, 2] for side in (0, 1))
    turn = np.abs(left - right)
    assert len(pairs) > 20
    assert np.degrees(np.minimum(turn, 2 * np.pi - turn)).max() <= 20.001


@pytest.mark.parametrize("radiological", [True, False])
@pytest.mark.parametrize("axes", ["RAS", "LPS", "ASL", "IPR"])
def test_sides_are_the_patients_however_the_file_is_stored(
    figures: list[Figure], axes: str, radiological: bool
) -> None:
    orientation = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(("R", "A", "S")), nib.orientations.axcodes2ornt(tuple(axes))
    )
    front = structures()
    front[14:17, 14:18] = 3
    image, label = (one.as_reoriented(orientation) for one in (body(), volume(front)))
    structure_overlay(image, label, None, "a.png", names=NAMES, radiological=radiological)
    colours = drawn(figures[0], "reference")
    assert (where(colours, 2)[:, 1].mean() < 0.5) == radiological
    assert (where(colours, 1)[:, 1].mean() > 0.5) == radiological
    assert where(colours, 3)[:, 0].max() < where(colours, 1)[:, 0].mean()  # front up
    letters = [text for text in texts(figures[0]) if text in ("L", "R")]
    assert letters[:2] == (["R", "L"] if radiological else ["L", "R"])


def test_background_is_transparent_and_an_empty_prediction_too(figures: list[Figure]) -> None:
    structure_overlay(body(), volume(structures()), volume(np.zeros(SHAPE)), "a.png")
    assert 0 < (drawn(figures[0], "reference")[..., 3] > 0).mean() < 1
    assert not drawn(figures[0], "prediction")[..., 3].any()
    assert all("Dice 0.000 over 2 structures" in caption for caption in captions(figures[0]))


@pytest.mark.parametrize(
    ("low", "high", "numbers"),
    [
        (0, 12, [2, 4, 6, 8, 10, 12]),
        (2, 9, [3, 4, 5, 7, 8, 9]),
        (5, 8, [6, 7, 8]),
        (11, 12, [12]),
        (0, 0, [2, 4, 6, 8, 10, 12]),
    ],
)
def test_slices_are_spread_over_those_with_structures(
    figures: list[Figure], low: int, high: int, numbers: list[int]
) -> None:
    structure_overlay(body(), volume(np.zeros(SHAPE)), volume(structures(low, high)), "a.png")
    found = [int(caption.split(" slice ")[1].split()[0]) for caption in captions(figures[0])]
    assert found == numbers


@pytest.mark.parametrize(
    ("spacing", "plane", "caption", "view"),
    [
        ((2.0, 2.0, 4.0), "auto", "axial slice 2 of 12", "radiological view"),
        ((2.0, 2.0, 2.0), "auto", "axial slice 2 of 12", "radiological view"),
        ((1.0, 4.0, 1.0), "auto", "coronal slice 7 of 20", "radiological view"),
        ((2.0, 2.0, 4.0), "sagittal", "sagittal slice 6 of 30", "patient's front on the left"),
    ],
)
def test_slices_follow_the_largest_spacing_or_the_plane_asked_for(
    figures: list[Figure], spacing: tuple[float, float, float], plane: str, caption: str, view: str
) -> None:
    image, label = (nib.Nifti1Image(one, np.diag([*spacing, 1.0])) for one in (body().get_fdata(), structures()))
    structure_overlay(image, label, None, "a.png", plane=plane)
    assert captions(figures[0])[0] == caption
    assert figures[0].legends[0].get_title().get_text().startswith(view)


def test_dice_of_the_slice_stands_below_it(figures: list[Figure]) -> None:
    predicted = structures()
    predicted[predicted == 2] = 3  # one right, one missed, one in no reference
    predicted[3:8, 6:10, 6:] = 0  # half of the first
    structure_overlay(body(), volume(structures()), volume(predicted), "a.png")
    below = [caption.split("\n")[1] for caption in captions(figures[0])]
    assert below[0] == "mean Dice 0.500 over 2 structures in the reference, 1 in the prediction only"
    assert below[-1] == f"mean Dice {2 / 3 / 2:.3f} over 2 structures in the reference, 1 in the prediction only"


def test_the_legend_names_the_largest_structures(figures: list[Figure]) -> None:
    label = np.zeros(SHAPE)
    for value in range(1, 21):
        label[value, : max(20 - value, 1)] = value
    names = {value: f"structure {value}" for value in range(20)}
    structure_overlay(body(), volume(label), None, "a.png", names=names)
    named = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert named == [f"structure {value}" for value in range(1, 17)]
    assert "the 16 largest of 20 structures" in figures[0].legends[0].get_title().get_text()
    structure_overlay(body(), volume((label == 20) * 20), None, "a.png", names=names)
    assert [text.get_text() for text in figures[1].legends[0].get_texts()] == ["label 20"]


@pytest.mark.parametrize("shape", [(8, 9, 1), (1, 8, 9), (6, 1, 6), (1, 1, 1)])
@pytest.mark.parametrize("filled", [True, False])
def test_single_slices_and_volumes_without_structure_are_drawn(
    tmp_path: Path, shape: tuple[int, int, int], filled: bool
) -> None:
    label = volume(np.full(shape, 7.0 * filled))
    png = structure_overlay(label, label, label, tmp_path / "new" / "a.png", "case", NAMES)
    assert Image.open(png).width > 100
    assert [path.name for path in png.parent.iterdir()] == ["a.png"]


def test_files_and_meta_tensors_give_the_same_picture(tmp_path: Path) -> None:
    paths, tensors = [], []
    for name, image in {"image": body(), "label": volume(structures())}.items():
        nib.save(image, tmp_path / f"{name}.nii.gz")
        paths.append(tmp_path / f"{name}.nii.gz")
        tensors.append(MetaTensor(torch.as_tensor(image.get_fdata())[None], affine=torch.as_tensor(image.affine)))
    one = structure_overlay(*paths, paths[1], tmp_path / "one.png", names=NAMES)
    other = structure_overlay(*tensors, tensors[1], tmp_path / "other.png", names=NAMES)
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prediction": volume(np.ones((30, 20, 6)))}, r"prediction's grid \(30, 20, 6\)"),
        ({"prediction": volume(np.ones(SHAPE), thickness=3.0)}, "affine differs"),
        ({"plane": "oblique"}, "plane is 'oblique'"),
        ({"names": {1: "Femur, left", 2: "left femur"}}, "same structure and side"),
        ({"image": "missing.nii"}, r"image missing\.nii"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_leaves_no_file(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    sources = {"image": body(), "label": volume(structures()), "prediction": None}
    with pytest.raises(InputError, match=message):
        structure_overlay(**(sources | options), png_path=tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("names", [NAMES, {str(value): name for value, name in NAMES.items()}])
def test_case_pictures_draw_structures_where_names_are_given(
    tmp_path: Path, figures: list[Figure], names: dict[Any, str]
) -> None:
    image, label = (
        MetaTensor(torch.as_tensor(one.get_fdata())[None], affine=torch.as_tensor(one.affine))
        for one in (body(), volume(structures()))
    )
    state = SimpleNamespace(batch=[{"image": image}], output=[{"pred": label, "label": label}])
    CasePictures(tmp_path, tmp_path, names=names)(SimpleNamespace(state=state))
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ["Femur, left", "Femur, right"]


def test_sagittal_slices_are_upright_with_the_front_on_the_left(figures: list[Figure]) -> None:
    label = np.zeros(SHAPE)
    label[10:20, 14:18, 1:4], label[10:20, 4:8, 8:11] = 1, 3  # in front and low; behind and high
    structure_overlay(body(), volume(label), None, "a.png", names=NAMES, plane="sagittal")
    low, high = (where(drawn(figures[0], "reference"), value).mean(axis=0) for value in (1, 3))
    assert low[0] > high[0] and low[1] < high[1]
    assert [text for text in texts(figures[0]) if text in ("A", "P")][:2] == ["A", "P"]


def test_case_pictures_take_a_plane_and_as_many_names_as_asked_for(tmp_path: Path, figures: list[Figure]) -> None:
    label = np.zeros(SHAPE)
    for value in range(1, 21):
        label[5:25, value - 1, 3:8] = value
    image, spine = (
        MetaTensor(torch.as_tensor(one.get_fdata())[None], affine=torch.as_tensor(one.affine))
        for one in (body(), volume(label))
    )
    names = {value: f"structure {value}" for value in range(21)}
    state = SimpleNamespace(batch=[{"image": image}], output=[{"pred": spine}])
    CasePictures(tmp_path, tmp_path, names=names, plane="sagittal", most_named=20)(SimpleNamespace(state=state))
    assert all(caption.startswith("sagittal") for caption in captions(figures[0]))
    assert len(figures[0].legends[0].get_texts()) == 20
    with pytest.raises(InputError, match="plane is 'oblique'"):
        CasePictures(tmp_path, tmp_path, names=names, plane="oblique")


def test_names_of_no_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="whole number"):
        CasePictures(tmp_path, tmp_path, names={"femur": "Femur"})  # type: ignore[dict-item]
