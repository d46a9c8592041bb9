"""`xrecon prepare`, `convert`, `pull` and `phantom --count` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from support.dataset_factory import write_dataset
from xrecon.cli.app import build_app
from xrecon.data.dataset import PreparedDataset


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two artificial people of 64^3."""
    folder = tmp_path_factory.mktemp("population")
    result = run("phantom", "-o", folder / "people", "--count", 2, "--size", 64, "--pneumothorax-share", 0, "--quiet")
    assert result.exit_code == 0, result.output
    return folder / "people"


def test_population_has_truth_and_a_record(population: Path) -> None:
    names = sorted(p.name for p in (population / "ct").iterdir())
    assert names == sorted(p.name for p in (population / "labels").iterdir())
    record = json.loads((population / "population.json").read_text())
    assert record["seed"] == 0
    assert len(record["members"]) == 2
    again = run("phantom", "-o", population, "--count", 2)
    assert again.exit_code == 2
    assert "population.json: exists already" in again.output
    mixed = run("phantom", "-o", population, "--count", 2, "--random")
    assert mixed.exit_code == 2
    assert "leave out" in mixed.output


def test_prepare_makes_a_set_and_a_page(population: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.nii.gz").write_bytes(b"\x1f\x8b no")
    output, table = tmp_path / "set", tmp_path / "names.csv"
    common = [population / "ct", tmp_path / "bad.nii.gz", "-o", output, "--size", 32, "--workers", 1]
    common += ["--lung-model", "classical", "--licence", "none needed", "--source", "phantoms"]
    result = run("prepare", *common, "--names", table, "--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["prepared"] == 2
    assert sorted(values["cases"].values()) == ["test", "train"]
    assert len(values["rejected"]) == 1
    assert "phantom-0-00000" in table.read_text()
    assert table.stat().st_mode & 0o077 == 0
    page = (output / "qc.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2
    assert "phantom-0-0000" not in page
    assert PreparedDataset(output).manifest.licences()[0]["licence"] == "none needed"
    strict = run("prepare", *common, "--strict")
    assert strict.exit_code == 2
    assert "2 done before" in strict.output
    assert "--strict: 1 inputs were refused" in strict.output
    inside = run("prepare", *common, "--names", output / "names.csv")
    assert inside.exit_code == 2
    assert "must not lie inside the data set" in inside.output


def test_prepare_names_a_bad_split_and_a_bad_size(population: Path, tmp_path: Path) -> None:
    assert run("prepare", population / "ct", "-o", tmp_path / "set", "--size", 4).exit_code == 2
    absent = run("prepare", population / "ct", "-o", tmp_path / "set", "--split", tmp_path / "no.yaml")
    assert absent.exit_code == 2
    assert "no.yaml" in absent.output


def test_convert_writes_each_layout(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set", {"a": "train", "b": "test", "c": "aux"})
    for layout, folder in (("triples", "plain"), ("nnunet", "Dataset001_X")):
        result = run("convert", dataset, "-o", tmp_path / folder, "--to", layout)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "plain" / "a" / "ct.nii.gz").is_file()
    assert (tmp_path / "plain" / "split.yaml").read_text().splitlines()[0] == "train: [a]"
    assert (tmp_path / "Dataset001_X" / "labelsTr" / "a.nii.gz").is_file()
    again = run("convert", dataset, "-o", tmp_path / "plain", "--to", "triples")
    assert again.exit_code == 2
    assert "exists already" in again.output


def test_pull_dry_run_needs_no_network() -> None:
    pytest.importorskip("idc_index_data", reason="the extra [pull] is not installed")
    result = run("pull", "--collection", "lidc_idri", "--limit", 3, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert (values["series"], values["patients"]) == (3, 3)
    assert values["licences"] == {"CC BY 3.0": 3}
    listed = run("pull", "--list")
    assert "lidc_idri" in listed.output
    assert run("pull", "--collection", "lidc_idri").exit_code == 2
    assert run("pull").exit_code == 2
