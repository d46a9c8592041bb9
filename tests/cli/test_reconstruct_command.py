from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

import xrecon
from xrecon.cli.app import build_app


def run_reconstruct(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["reconstruct", *map(str, arguments)])


@pytest.fixture(scope="module")
def films(phantom64_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """PA and lateral film of the phantom, by the command itself."""
    folder = tmp_path_factory.mktemp("films")
    done = CliRunner().invoke(build_app(), ["simulate", str(phantom64_file), "-o", str(folder), "--size", "64"])
    assert done.exit_code == 0, done.stderr
    return folder / "pa.tiff", folder / "lateral.tiff"


@pytest.fixture(scope="module")
def result(films: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The outputs of one run with all of them, and its JSON."""
    folder = tmp_path_factory.mktemp("reconstruct") / "out"
    done = run_reconstruct(
        "--pa", films[0], "--lateral", films[1], "-o", folder, "--model", "pca", "--size", 64, "--report", "--json"
    )
    assert done.exit_code == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_writes_ct_preview_json_and_report(result: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = result
    names = ["ct.nii.gz", "preview.png", "reconstruction.json", "report.html"]
    assert sorted(path.name for path in folder.iterdir()) == names
    image = nib.load(folder / "ct.nii.gz")
    assert image.shape == (64, 64, 64)
    assert np.allclose(image.header.get_zooms(), 6.0)
    assert "SYNTHETIC" in bytes(image.header["descrip"]).decode()
    ct = xrecon.load_ct(folder / "ct.nii.gz")
    assert ct.hu.min() >= -1024
    assert 0 < np.mean(ct.hu > -300) < 0.8
    assert (folder / "preview.png").read_bytes().startswith(b"\x89PNG")
    assert "NOT FOR DIAGNOSIS" in (folder / "report.html").read_text(encoding="utf-8")


def test_the_json_tells_how_it_was_made(result: tuple[Path, dict[str, Any]], films: tuple[Path, Path]) -> None:
    folder, printed = result
    text = (folder / "reconstruction.json").read_text(encoding="utf-8")
    stored = json.loads(text)
    assert stored["notice"] == "SYNTHETIC / RESEARCH ONLY / NOT FOR DIAGNOSIS"
    assert stored["model"] == "pca"
    assert stored["seed"] == 0
    assert len(stored["sha256"]) == 64
    assert stored["seconds"] > 0
    assert stored["geometry"]["pa"]["name"] == "chest"
    assert set(stored["inputs"]) == {"pa", "lateral"}
    assert stored["ct"]["shape"] == [64, 64, 64]
    assert str(films[0].parent) not in text
    assert {key: printed[key] for key in ("model", "residual", "inputs")} == {
        key: stored[key] for key in ("model", "residual", "inputs")
    }
    for view in ("pa", "lateral"):
        assert 0 < stored["residual"][view]["after"] < stored["residual"][view]["before"]


def test_the_reconstruction_resembles_the_truth(result: tuple[Path, dict[str, Any]], phantom64_file: Path) -> None:
    from xrecon.anatomy.body import without_table
    from xrecon.anatomy.frame import framed, thorax_centre

    ct = xrecon.load_ct(phantom64_file)
    truth = framed(without_table(ct), 64, centre_mm=thorax_centre(ct)).hu
    reconstructed = xrecon.load_ct(result[0] / "ct.nii.gz").hu
    right_way = np.corrcoef(reconstructed.ravel(), truth.ravel())[0, 1]
    assert right_way > 0.7
    for axis in (0, 1):  # head and feet, front and back
        assert np.corrcoef(np.flip(reconstructed, axis).ravel(), truth.ravel())[0, 1] < right_way - 0.05


def test_existing_output_is_refused_before_anything_is_computed(films: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "preview.png").write_bytes(b"mine")
    done = run_reconstruct("--pa", "nowhere.png", "--lateral", films[1], "-o", tmp_path)
    assert done.exit_code == 2
    assert "preview.png: exists already" in done.stderr
    assert (tmp_path / "preview.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pa", "LATERAL", "--lateral", "PA"), "swap the two films"),
        (("--pa", "nowhere.png", "--lateral", "LATERAL"), "nowhere.png: the file does not exist"),
        (("--pa", "CT", "--lateral", "LATERAL"), "is a volume (nifti), not a film"),
        (("--pa", "PA", "--lateral", "LATERAL", "--size", "32"), "--size"),
        (("--pa", "PA", "--lateral", "LATERAL", "--size", "300"), "--size"),
        (("--pa", "PA", "--lateral", "LATERAL", "--model", "guess"), "guess"),
        (("--pa", "PA", "--lateral", "LATERAL", "--invert"), "line integrals, which have no inverse"),
        (("--pa", "PA", "--lateral", "LATERAL", "--split", "split.yaml"), "give --bank FOLDER"),
        (("--pa", "PA", "--lateral", "LATERAL", "--bank", "nowhere"), "nowhere: does not exist"),
        (("--pa", "PA", "--lateral", "LATERAL", "--bank", "SOURCE"), "no CT is left for the bank"),
        (("--pa", "PA", "--lateral", "LATERAL", "--bank", "SOURCE", "--model", "pca"), "used by model deform only"),
        (("--pa", "PA", "--lateral", "LATERAL", "--model", "deform+bank"), "needs a bank"),
        (("--pa", "PA", "--lateral", "LATERAL", "--device", "abacus"), "--device abacus"),
        (("--pa", "PA", "--lateral", "LATERAL", "--precision", "openvino"), "is for networks"),
        (("--pa", "PA", "--lateral", "LATERAL", "--precision", "int8"), "--precision"),
        (("--pa", "PA"), "--lateral"),
    ],
)
def test_wrong_input_exits_2_and_writes_nothing(
    films: tuple[Path, Path],
    phantom64_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"PA": films[0], "LATERAL": films[1], "CT": phantom64_file, "SOURCE": phantom64_file.parent}
    done = run_reconstruct(*(places.get(argument, argument) for argument in arguments), "-o", "out")
    assert done.exit_code == 2, done.stderr
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_missing_priors_exit_1_and_say_how_to_make_them(films: tuple[Path, Path], tmp_path: Path) -> None:
    assets = tmp_path / "none.safetensors"
    done = run_reconstruct("--pa", films[0], "--lateral", films[1], "-o", tmp_path / "out", "--assets", assets)
    assert done.exit_code == 1
    assert "xrecon train priors" in done.stderr
    assert not (tmp_path / "out").exists()


def test_plain_pictures_are_taken_with_the_asked_geometry(films: tuple[Path, Path], tmp_path: Path) -> None:
    for film in films:  # without their side-cars: display values of unknown gain
        (tmp_path / f"{film.stem}.png").write_bytes(film.with_suffix(".png").read_bytes())
    done = run_reconstruct(
        "--pa", tmp_path / "pa.png", "--lateral", tmp_path / "lateral.png", "-o", tmp_path / "out",
        "--model", "atlas", "--size", 64, "--geometry", "x2ct", "--pixel-mm", 10.5, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["geometry"]["pa"]["source_to_detector_mm"] == 949.0
    assert report["geometry"]["pa"]["pixel_mm"] == [10.5, 10.5]
    assert report["film_notes"]["pa"]
