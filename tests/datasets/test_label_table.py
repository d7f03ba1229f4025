# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from custom_nets.datasets.label_table import read_label_table, structure_key
from custom_nets.errors import InputError
from custom_nets.registry import bundle


def written(tmp_path: Path, text: str | bytes, name: str = "table.json") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_bundles_own_labels() -> None:
    table = read_label_table()
    assert table == bundle("s2anet").labels
    assert list(table) == list(range(55))
    assert (table[0], table[11], table[49]) == ("background", "Femur, left", "Urinary bladder")
    assert read_label_table(None, "rsanet") == bundle("rsanet").labels
    table[1] = "changed"
    assert read_label_table()[1] == "Adductor brevis, left", "the caller has a copy"


def test_a_bundles_labels_as_a_file(tmp_path: Path) -> None:
    labels = bundle("s2anet").labels
    as_json = written(tmp_path, json.dumps({str(value): name for value, name in labels.items()}))
    lines = "".join(f"{name}:{value}\r\n" for value, name in reversed(labels.items()) if value)
    as_lines = written(tmp_path, lines, "class.txt")
    for path in (as_json, str(as_json), as_lines):
        assert read_label_table(path) == labels
        assert list(read_label_table(path)) == list(labels), "ascending"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"0": "Background", "2": "b", "1": "a"}', "no_suffix"),
        ('\ufeff{"0": "Background", "2": "b", "1": "a"}', "t.json"),
        ("\n a : 1\nBackground:0\n\nb:2", "class.txt"),
        ("a:1\nb:2\nBackground: 0", "class"),
    ],
)
def test_the_form_is_told_by_name_and_content(tmp_path: Path, text: str, name: str) -> None:
    assert read_label_table(written(tmp_path, text, name)) == {0: "Background", 1: "a", 2: "b"}


def test_colons_in_a_name_belong_to_it(tmp_path: Path) -> None:
    assert read_label_table(written(tmp_path, "muscle: psoas:1", "class.txt"))[1] == "muscle: psoas"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"0": "background", "1": "a", "1": "b"}', "label value 1 is twice, 'a' and 'b'"),
        ('{"0": "background", "1": "a", "01": "b"}', "label value 1 is twice"),
        ('{"0": "background", "1": "Femur, left", "2": "left femur"}', "'left femur' and 'Femur, left' are one name"),
        ('{"0": "background", "1": "a", "3": "b"}', "no value 2, though 3 is there"),
        ('{"1": "a", "2": "b"}', "no background at 0"),
        ("{}", "no background at 0"),
        ('{"0": "a", "1": "b"}', "0 is 'a': 0 is background"),
        ('{"0": "background"}', "no structure besides background"),
        ('{"0": "background", "-1": "a"}', "label value '-1' is not a whole number"),
        ('{"0": "background", "1.5": "a"}', "label value '1.5' is not a whole number"),
        ('{"0": "background", "1": 7}', "the name of label 1 is 7"),
        ('{"0": "background", "1": " , "}', "the name of label 1 is ' , '"),
        ('{"0": "background",\n "1": }', "line 2: not valid JSON"),
        ('["background", "a"]', "holds a list, not a table"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_faults_of_json(tmp_path: Path, text: str | bytes, fault: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_label_table(path)
    assert str(path) in str(caught.value)
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a:1\nb:1", "label value 1 is twice"),
        ("a:1\nA:2", "'A' and 'a' are one name"),
        ("a:1\nb:3", "no value 2"),
        ("a:1\nb", "line 2: 'b' is not 'name:value'"),
        ("a:one", "label value 'one' is not a whole number"),
        (":1", "the name of label 1 is ''"),
        ("", "no structure besides background"),
    ],
)
def test_faults_of_lines(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(InputError) as caught:
        read_label_table(written(tmp_path, text, "class.txt"))
    assert fault in str(caught.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone.json: label table cannot be read \(No such file"):
        read_label_table(tmp_path / "gone.json")


@pytest.mark.parametrize(
    "spelling", ["Femur, left", "femur_left", "FEMUR-LEFT", "Left femur", "left_femur", "FemurLeft", " femur  left "]
)
def test_spellings_of_one_structure(spelling: str) -> None:
    assert structure_key(spelling) == structure_key("Femur, left")
    assert structure_key(spelling) != structure_key("Femur, right")


def test_the_54_names_stay_apart() -> None:
    assert len({structure_key(name) for name in read_label_table().values()}) == 55
