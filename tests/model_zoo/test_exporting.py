# SPDX-License-Identifier: Apache-2.0
"""Exports of all bundles. Their forms, and that they run where the repository is not, `make test-export` shows."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from custom_nets.checkpoints import load_weights, save_weights, state_digest, weights_digest
from custom_nets.errors import InputError
from custom_nets.files import write_json
from custom_nets.fingerprints import read_fingerprint
from custom_nets.label_graphs.chains import mrspineseg
from custom_nets.label_graphs.reading import read_label_graph
from custom_nets.model_zoo import exporting
from custom_nets.model_zoo.checking import check_bundle
from custom_nets.model_zoo.exporting import Model, export
from custom_nets.model_zoo.model_options import read_configs, with_options
from custom_nets.model_zoo.parity import Parity
from custom_nets.model_zoo.verdicts import Verdict
from custom_nets.registry import bundle
from tests.bundle_runs import TINY, Runs
from tools.export_bundle import export_bundle


def without_forms(folder: Path) -> Parity:
    digest = state_digest(torch.load(folder / "models" / "model.pt", weights_only=True))
    parity = Parity("Network", "models/model.pt", {}, None, (), digest=digest)
    write_json(folder / "docs" / "parity.json", parity.to_json())
    return parity


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the forms, and the checks that run the bundle, which have tests of their own."""
    monkeypatch.setattr(exporting, "write_forms", without_forms)
    monkeypatch.setattr(exporting, "check_bundle", partial(check_bundle, live=False))


def model_of(runs: Runs, **changes: Any) -> Model:
    tiny = TINY[runs.name]
    return Model(runs.bundle, runs.models / "model.pt", {**tiny.options, **tiny.segmenting}, **changes)


@pytest.mark.usefixtures("quick")
def test_an_export_keeps_the_rules_and_holds_the_very_weights(trained: Runs, tmp_path: Path) -> None:
    written = export(model_of(trained), tmp_path)
    assert written.folder == tmp_path / trained.name
    assert [verdict for verdict in written.verdicts if verdict.verdict == "fails"] == []
    parser = ConfigParser()
    parser.read_config(written.folder / "configs" / "inference.json")
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(written.folder / "models" / "model.pt", weights_only=True), strict=True)
    digest = weights_digest(network)
    assert digest in (written.folder / "docs" / "README.md").read_text()
    fingerprint = read_fingerprint(written.folder / "models" / "model.pt")
    assert fingerprint is not None and fingerprint == read_fingerprint(trained.models / "model.pt")
    metadata = json.loads((written.folder / "configs" / "metadata.json").read_text())
    assert metadata["eval_metrics"] == {}
    with zipfile.ZipFile(written.archive) as archive:
        assert written.archive.name == f"{trained.name}_v{metadata['version']}.zip"
        assert f"{trained.name}/models/model.pt" in archive.namelist()
    assert not list(tmp_path.rglob("demo*.json")), "demos belong to the repository"
    assert sorted(path.name for path in tmp_path.iterdir()) == [trained.name, written.archive.name]


@pytest.mark.usefixtures("quick")
def test_scores_go_into_the_metadata_only_if_they_are_of_these_weights(trained: Runs, tmp_path: Path) -> None:
    trained.elsewhere(tmp_path / "run").run("evaluate", checkpoint=str(trained.models / "model.pt"))
    results = tmp_path / "run" / "eval"
    written = export(model_of(trained, results=results), tmp_path)
    metrics = json.loads((results / "metrics_summary.json").read_text())["metrics"]
    metadata = json.loads((written.folder / "configs" / "metadata.json").read_text())
    assert metadata["eval_metrics"] == dict(written.scores)
    assert set(written.scores) <= set(metrics)
    for name, value in written.scores.items():
        assert value == metrics[name]["mean"]
        assert f"| `{name}` |" in (written.folder / "docs" / "README.md").read_text()
    assert "tta" not in written.scored_with
    record = json.loads((results / "evaluation.json").read_text())
    options = record["options"] | {"tta": True, "dataset_dir": "elsewhere", "pictures": 9}
    (results / "evaluation.json").write_text(json.dumps(record | {"options": options}))
    otherwise = export(model_of(trained, results=results), tmp_path / "otherwise")
    assert otherwise.scored_with == {**written.scored_with, "tta": True}
    assert "`--tta True`" in (otherwise.folder / "docs" / "README.md").read_text()
    other = torch.load(trained.models / "model.pt", weights_only=True)
    first = next(name for name, value in other.items() if value.is_floating_point())
    save_weights({**other, first: other[first] + 1}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="scores of other weights"):
        export(replace(model_of(trained, results=results), checkpoint=tmp_path / "other.pt"), tmp_path / "second")
    assert list((tmp_path / "second").iterdir()) == []


@pytest.fixture(scope="module")
def rsanet(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("rsanet")
    options = TINY["rsanet"].options
    parser = ConfigParser()
    parser.read_config(bundle("rsanet").folder / "configs" / "inference.json")
    parser["filters"] = options["filters"]
    torch.manual_seed(0)
    save_weights(parser.get_parsed_content("network_def").state_dict(), folder / "model.pt")
    return Model(bundle("rsanet"), folder / "model.pt", options)


@pytest.mark.usefixtures("quick")
def test_a_new_export_takes_the_place_of_the_old_one(rsanet: Model, tmp_path: Path) -> None:
    export(rsanet, tmp_path)
    (tmp_path / "rsanet" / "old").touch()
    assert all(verdict.verdict != "fails" for verdict in check_bundle(tmp_path / "rsanet", live=False))
    export(replace(rsanet, version="0.2.0", changes="better"), tmp_path)
    assert not (tmp_path / "rsanet" / "old").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"rsanet", "rsanet_v0.1.0.zip", "rsanet_v0.2.0.zip"}


@pytest.mark.usefixtures("quick")
def test_what_is_no_export_is_not_overwritten(rsanet: Model, tmp_path: Path) -> None:
    (tmp_path / "rsanet").mkdir()
    (tmp_path / "rsanet" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="is in the way and no export"):
        export(rsanet, tmp_path)
    assert (tmp_path / "rsanet" / "thesis.txt").read_text() == "precious"


@pytest.mark.usefixtures("quick")
def test_weights_of_another_network_are_refused(rsanet: Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="RSANet"):
        export(replace(rsanet, options={}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_fails_its_check_is_not_written(
    rsanet: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    export(rsanet, tmp_path)
    found = [Verdict("all is well", "ok"), Verdict("it has a name", "fails", "no name -> give one")]
    monkeypatch.setattr(exporting, "check_bundle", lambda folder: found)
    with pytest.raises(InputError, match=r"fails 1 rule.*\n  it has a name: no name -> give one"):
        export(replace(rsanet, version="0.2.0", changes="new"), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rsanet", "rsanet_v0.1.0.zip"], "the older export"
    assert "new" not in (tmp_path / "rsanet" / "configs" / "metadata.json").read_text()


@pytest.mark.usefixtures("quick")
def test_a_model_of_other_modalities(tmp_path: Path, rsanet: Model) -> None:
    options = {**rsanet.options, "in_channels": 1}
    parser = ConfigParser()
    parser.read_config(bundle("rsanet").folder / "configs" / "inference.json")
    parser.update(options)
    save_weights(parser.get_parsed_content("network_def").state_dict(), tmp_path / "flair.pt")
    place = tmp_path / "out"
    export_bundle("rsanet", str(place), checkpoint=str(tmp_path / "flair.pt"), modalities="FLAIR", **rsanet.options)
    metadata = json.loads((place / "rsanet" / "configs" / "metadata.json").read_text())
    assert metadata["network_data_format"]["inputs"]["image"]["channel_def"] == {"0": "FLAIR"}
    network = parser.get_parsed_content("network_def")
    load_weights(network, place / "rsanet" / "models" / "model.pt")
    with pytest.raises(InputError, match=r"in_channels is 1, the bundle has T1, T2, FLAIR: .*--modalities"):
        export(Model(bundle("rsanet"), tmp_path / "flair.pt", options), tmp_path / "second")


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("nonet", {}, "bundle 'nonet' is unknown"),
        ("rsanet", {"checkpoint": "gone.pt"}, "gone.pt: no such checkpoint; train rsanet first"),
        ("rsanet", {"filter": [1]}, "--filter: is no option of this bundle"),
        ("rsanet", {"overlay": "dem"}, "overlay 'dem' is unknown"),
        ("rsanet", {"epochs": "abc"}, "epochs is 'abc'"),
        ("rsanet", {"modalities": True}, "True: give names"),
        ("rsanet", {"network_def::norms": "GN_4"}, "--network_def::norms: custom_nets.RSANet takes no such argument"),
    ],
)
def test_the_command_tells_what_is_wrong(
    name: str, given: dict[str, Any], told: str, rsanet: Model, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told):
        export_bundle(name, str(tmp_path), **{"checkpoint": str(rsanet.checkpoint), **given})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("name", "option", "content", "names"),
    [
        ("s2anet", "label_table", {"0": "background", "1": "Liver, left", "2": "Liver, right"}, None),
        ("spineparsenet", "label_graph", mrspineseg(2).to_config(), mrspineseg(2).names),
        ("spineparsenet", "label_graph", "spider", read_label_graph("spider").names),
    ],
)
def test_a_model_of_other_labels_brings_them(
    name: str, option: str, content: Any, names: dict[int, str] | None, tmp_path: Path
) -> None:
    value = content
    if not isinstance(content, str):
        (tmp_path / "labels.json").write_text(json.dumps(content))
        value = str(tmp_path / "labels.json")
    options = {**TINY[name].options, **TINY[name].segmenting, option: value}
    extra = {"out_channels": 3} if option == "label_table" else {}
    parser = ConfigParser(with_options(read_configs(bundle(name).folder), {**options, **extra})["inference"])
    save_weights(parser.get_parsed_content("network_def").state_dict(), tmp_path / "model.pt")
    written = export(Model(bundle(name), tmp_path / "model.pt", options), tmp_path / "out")
    (tmp_path / "labels.json").unlink(missing_ok=True)
    pred = ConfigParser.load_config_file(written.folder / "configs" / "metadata.json")["network_data_format"]["outputs"]
    expected = names or {int(key): label for key, label in content.items()}
    assert pred["pred"]["channel_def"] == {str(key): label for key, label in expected.items()}
    exported = ConfigParser()
    exported.read_config(written.folder / "configs" / "inference.json")
    exported["bundle_root"] = str(written.folder)
    if option == "label_graph":
        assert exported.get_parsed_content("graph").names == expected
    else:
        assert exported.get_parsed_content("labels") == expected
    assert str(tmp_path) not in (written.folder / "docs" / "README.md").read_text()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("made", ["models/last.pt", "models/model.previous.pt", "eval/metrics.csv"])
def test_an_export_in_which_something_was_made_is_not_replaced(made: str, rsanet: Model, tmp_path: Path) -> None:
    export(rsanet, tmp_path)
    (tmp_path / "rsanet" / made).parent.mkdir(exist_ok=True)
    (tmp_path / "rsanet" / made).touch()
    with pytest.raises(InputError, match="has been trained or evaluated in"):
        export(rsanet, tmp_path)
    assert (tmp_path / "rsanet" / made).exists()


@pytest.mark.usefixtures("quick")
def test_a_bundle_of_a_repository_is_not_replaced(rsanet: Model, tmp_path: Path) -> None:
    shutil.copytree(bundle("rsanet").folder, tmp_path / "bundles" / "rsanet")
    (tmp_path / "bundles" / "rsanet" / "models").mkdir(exist_ok=True)
    (tmp_path / "bundles" / "rsanet" / "models" / "model.pt").touch()
    with pytest.raises(InputError, match="is in the way and no export"):
        export(rsanet, tmp_path / "bundles")


@pytest.mark.usefixtures("quick")
def test_weights_that_were_replaced_have_forms_and_scores_no_more(rsanet: Model, tmp_path: Path) -> None:
    written = export(rsanet, tmp_path)
    path = written.folder / "models" / "model.pt"
    save_weights({name: value + 1 for name, value in torch.load(path, weights_only=True).items()}, path)
    failed = [verdict.told for verdict in check_bundle(written.folder, live=False) if verdict.verdict == "fails"]
    assert len(failed) == 1 and "models/model.pt was replaced" in failed[0]


@pytest.mark.usefixtures("quick")
def test_an_argument_of_the_network_that_is_no_option_of_the_bundle(rsanet: Model, tmp_path: Path) -> None:
    parser = ConfigParser(with_options(read_configs(bundle("rsanet").folder), rsanet.options)["inference"])
    parser["network_def::norm"] = "GN_4"
    save_weights(parser.get_parsed_content("network_def").state_dict(), tmp_path / "model.pt")
    options = {**rsanet.options, "network_def::norm": "GN_4"}
    written = export(replace(rsanet, checkpoint=tmp_path / "model.pt", options=options), tmp_path)
    for config in read_configs(written.folder).values():
        assert config.get("network_def", {"norm": "GN_4"})["norm"] == "GN_4"


@pytest.mark.usefixtures("quick")
def test_a_place_that_cannot_be_written_to_is_told(rsanet: Model, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: rsanet cannot be written there"):
        export(rsanet, tmp_path / "file")


@pytest.mark.usefixtures("quick")
def test_scores_of_other_labels_are_refused(tmp_path: Path) -> None:
    """Two graphs of as many labels: the weights of one fit a network of the other."""
    parser = ConfigParser()
    parser.read_config(bundle("spineparsenet").folder / "configs" / "inference.json")
    options = {**TINY["spineparsenet"].options, **TINY["spineparsenet"].segmenting}
    parser.update(options)
    network = parser.get_parsed_content("network_def")
    save_weights(network.state_dict(), tmp_path / "model.pt")
    record = {"weights": weights_digest(network), "section": "testing", "cases": 1}
    record["labels"] = {str(value): name for value, name in read_label_graph("spider").names.items()}
    write_json(tmp_path / "evaluation.json", record)
    write_json(tmp_path / "metrics_summary.json", {"metrics": {"dice": {"mean": 0.5}}})
    model = Model(bundle("spineparsenet"), tmp_path / "model.pt", options, results=tmp_path)
    with pytest.raises(InputError, match=r"was scored with 1 as L5, which would be exported as S: .*--label_graph"):
        export(model, tmp_path / "out")
    written = export(replace(model, options={**options, "label_graph": "spider"}), tmp_path / "out")
    assert written.labels["201"] == "L5/S1"
    assert read_configs(written.folder)["inference"]["label_graph"] == "spider"
