from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from xrecon.cli.app import build_app


def run_phantom(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["phantom", *map(str, arguments)])


def test_writes_a_ct_and_the_labels_of_the_asked_pneumothorax(tmp_path: Path) -> None:
    ct, labels = tmp_path / "ct.nii.gz", tmp_path / "labels.nii.gz"
    done = run_phantom(
        "-o", ct, "--labels", labels, "--size", 48, "--pneumothorax-side", "left", "--pneumothorax-ml", 800, "--json"
    )
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["shape"] == [48, 48, 48]
    assert report["spacing_mm"] == pytest.approx([8.0, 8.0, 8.0])
    image, truth = nib.load(ct), nib.load(labels)
    assert np.allclose(image.affine, truth.affine)
    air = np.asarray(truth.dataobj) == 3
    assert air.sum() * 8.0**3 / 1000 == pytest.approx(800, rel=0.1)
    assert np.median(np.asarray(image.dataobj)[air]) < -950  # the median: edge voxels are partly tissue
    # In a NIfTI file x grows to the patient's right.
    x_mm = (image.affine @ np.append(np.argwhere(air).mean(axis=0), 1))[0]
    assert x_mm < 0, "a left pneumothorax lies at the patient's left"


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("a.nii", "b.nii"):
        assert run_phantom("-o", tmp_path / name, "--size", 32, "--seed", 3).exit_code == 0
    assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()


def test_random_adults_differ_by_seed_and_keep_the_pneumothorax(tmp_path: Path) -> None:
    heads = []
    for seed in (1, 2):
        output = tmp_path / f"{seed}.nii"
        labels = tmp_path / f"{seed}_labels.nii"
        arguments = ("--pneumothorax-side", "right", "--pneumothorax-ml", 700, "--labels", labels)
        assert run_phantom("-o", output, "--size", 32, "--seed", seed, "--random", *arguments).exit_code == 0
        truth = np.asarray(nib.load(labels).dataobj)
        assert (truth == 3).any()
        heads.append(truth > 0)
    assert not np.array_equal(*heads)


def test_existing_files_stay_unless_overwrite(tmp_path: Path) -> None:
    ct, labels = tmp_path / "ct.nii", tmp_path / "labels.nii"
    labels.write_bytes(b"mine")
    done = run_phantom("-o", ct, "--size", 32, "--labels", labels)
    assert done.exit_code == 2
    assert "labels.nii exists already" in done.stderr
    assert not ct.exists()
    assert run_phantom("-o", ct, "--size", 32, "--labels", labels, "--overwrite").exit_code == 0
    assert labels.read_bytes() != b"mine"
    assert run_phantom("-o", ct, "--size", 32).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "8"), "--size"),
        (("--size", "32", "--pneumothorax-ml", "100"), "pneumothorax_side"),
        (("--size", "32", "--pneumothorax-side", "middle"), "middle"),
        (("--size", "32", "--labels", "ct.nii"), "two different files"),
        (("--size", "32", "--pneumothorax-share", "0.9"), "give --count"),
    ],
)
def test_wrong_options_exit_2_and_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_phantom("-o", "ct.nii", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_surfaces_of_a_file(nurbs_file: Path, tmp_path: Path) -> None:
    ct, labels = tmp_path / "ct.nii.gz", tmp_path / "labels.nii.gz"
    done = run_phantom("-o", ct, "--labels", labels, "--nurbs", nurbs_file, "--size", 32, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["surfaces"] == ["body", "rlung", "llung"]
    assert set(np.unique(np.asarray(nib.load(labels).dataobj))) == {0, 1, 2}
    refused = run_phantom("-o", tmp_path / "b.nii", "--nurbs", nurbs_file, "--random")
    assert refused.exit_code == 2 and "leave out --random" in refused.stderr
    assert not (tmp_path / "b.nii").exists()
