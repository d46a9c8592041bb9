from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from typer.testing import CliRunner

from xrecon.cli.app import build_app
from xrecon.phantoms.thorax import ThoraxParameters, thorax_phantom
from xrecon.quantify.findings import Findings
from xrecon.volume import RESEARCH_NOTICE

NAMES = ["air_side.nii.gz", "findings.json", "labels.nii.gz", "preview.png", "report.html"]


def run_segment(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["segment", *map(str, arguments)])


@pytest.fixture(scope="module")
def sick_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parameters = ThoraxParameters(pneumothorax_side="left", pneumothorax_ml=900.0, noise_hu=10.0)
    phantom = thorax_phantom(96, 4.0, parameters=parameters)
    hu = np.array(phantom.volume.hu)
    # The phantom's lungs touch and have no pleura: part them, and draw the line that every real pneumothorax shows.
    midline = np.abs(np.arange(96) - 47.5) * 4.0 < 9
    hu[(phantom.labels > 0) & midline] = 40
    line = binary_dilation(phantom.labels == 3) & (phantom.labels == 2)
    hu[line] = np.maximum(hu[line], -300)
    return phantom.volume.with_hu(hu).save(tmp_path_factory.mktemp("sick") / "secret_name.nii.gz")


@pytest.fixture(scope="module")
def result(sick_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("out") / "made"
    done = run_segment(sick_file, "-o", folder, "--json")
    assert done.exit_code == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_writes_everything_and_nothing_else(result: tuple[Path, dict[str, Any]], sick_file: Path) -> None:
    folder, report = result
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    assert sorted(Path(name).name for name in report["files"]) == NAMES
    text = (folder / "findings.json").read_text(encoding="utf-8")
    findings = Findings.from_json(text)
    assert findings.volumes_ml.left_air == pytest.approx(900, rel=0.25)
    assert findings.volumes_ml.right_air < 20
    assert report["occupancy"]["left"] == pytest.approx(findings.occupancy.left, abs=1e-5)
    assert findings.provenance["settings"]["lung_model"] == "auto"
    assert len(findings.provenance["inputs"]["ct"]["sha256"]) == 64
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert RESEARCH_NOTICE in page
    for content in (text, page):
        assert "secret_name" not in content and str(sick_file.parent) not in content


def test_labels_and_sides_lie_on_the_grid_of_the_ct(result: tuple[Path, dict[str, Any]], sick_file: Path) -> None:
    folder, report = result
    ct, labels, side = (nib.load(p) for p in (sick_file, folder / "labels.nii.gz", folder / "air_side.nii.gz"))
    assert np.allclose(ct.affine, labels.affine) and np.allclose(ct.affine, side.affine)
    values, sides = np.asarray(labels.dataobj), np.asarray(side.dataobj)
    assert values.shape == ct.shape and values.dtype == np.uint8
    assert np.array_equal(values == 3, sides > 0)
    assert np.count_nonzero(sides == 2) * 64 / 1000 == pytest.approx(report["volumes_ml"]["left_air"], abs=0.01)
    # In a NIfTI file x grows to the patient's right.
    x_mm = (labels.affine @ np.append(np.argwhere(values == 3).mean(axis=0), 1))[0]
    assert x_mm < 0, "a left pneumothorax lies at the patient's left"
    assert RESEARCH_NOTICE.encode() in labels.header["descrip"].tobytes()


def test_labels_lie_on_the_axes_of_any_input(sick_file: Path, tmp_path: Path) -> None:
    image = nib.load(sick_file)
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt("AIR"))
    nib.save(image.as_reoriented(turn), tmp_path / "ct.nii.gz")
    done = run_segment(tmp_path / "ct.nii.gz", "-o", tmp_path / "out", "--lung-model", "classical")
    assert done.exit_code == 0, done.stderr
    ct, labels, side = (
        nib.load(path)
        for path in (tmp_path / "ct.nii.gz", tmp_path / "out" / "labels.nii.gz", tmp_path / "out" / "air_side.nii.gz")
    )
    assert nib.aff2axcodes(labels.affine) == ("A", "I", "R")
    assert np.array_equal(ct.affine, labels.affine) and np.array_equal(ct.affine, side.affine)
    for name in ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"):
        assert ct.header[name] == labels.header[name] == side.header[name]
    air = np.asarray(labels.dataobj) == 3
    assert np.mean(np.asarray(ct.dataobj)[air] < -900) > 0.85
    assert np.array_equal(air, np.asarray(side.dataobj) == 2)


def test_existing_results_stay_unless_overwrite(sick_file: Path, tmp_path: Path) -> None:
    (tmp_path / "findings.json").write_bytes(b"mine")
    done = run_segment(sick_file, "-o", tmp_path)
    assert done.exit_code == 2
    assert "findings.json: exists already" in done.stderr
    assert (tmp_path / "findings.json").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_bad_input_exits_2_and_writes_nothing(sick_file: Path, tmp_path: Path) -> None:
    done = run_segment(sick_file, "-o", tmp_path / "out", "--lung-model", "oracle")
    assert done.exit_code == 2 and "oracle" in done.stderr and "classical" in done.stderr
    done = run_segment(tmp_path / "absent.nii.gz", "-o", tmp_path / "out")
    assert done.exit_code == 2 and "absent.nii.gz" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_people_get_a_sentence(sick_file: Path, tmp_path: Path) -> None:
    done = run_segment(sick_file, "-o", tmp_path / "out", "--quiet")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("Free pleural air was found: ")
    assert "on the left side" in done.stdout and "Pockets below 200 mL" in done.stdout
    assert done.stderr == ""


def test_a_sharp_ct_does_without_torch(sick_file: Path, tmp_path: Path) -> None:
    """Only the network needs it, and loading it takes seconds."""
    arguments = ["xrecon", "segment", str(sick_file), "-o", str(tmp_path / "out"), "--lung-model", "classical"]
    source = (
        "import sys\nfrom xrecon.cli.app import main\n"
        f"sys.argv = {arguments!r}\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    environment = json.loads((tmp_path / "out" / "findings.json").read_text(encoding="utf-8"))["provenance"][
        "environment"
    ]
    assert environment["device"] == "cpu"
    assert environment["threads"] is None
    assert environment["packages"]["torch"]
