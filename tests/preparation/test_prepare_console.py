"""What `xrecon prepare` prints: warnings of each case, and why equal CTs leave too few patients for folds."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from support.dicom_factory import write_series
from xrecon.cli.app import build_app
from xrecon.volume import Volume

pytestmark = pytest.mark.usefixtures("fast_lungs")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), ["prepare", *map(str, arguments), "--size", "32", "--workers", "1"])


def test_warnings_of_a_case_are_printed_with_it(people: list[Volume], tmp_path: Path) -> None:
    ct = people[0]
    turned = replace(ct, hu=np.ascontiguousarray(np.flip(ct.hu, 2)))
    turned.save(tmp_path / "in" / "mirrored.nii.gz")
    ct.save(tmp_path / "in" / "good.nii.gz")
    done = run(tmp_path / "in", "-o", tmp_path / "set", "--keep-names", "--allow-partial")
    assert done.exit_code == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "looks mirrored" in line]
    assert len(lines) == 1 and lines[0].startswith("  warning: mirrored: the anatomy looks mirrored")


def test_files_that_should_have_been_slices_are_printed(people: list[Volume], tmp_path: Path) -> None:
    ct = people[0]
    folder = write_series(tmp_path / "in" / "scan", ct.hu[::-1], spacing=(6.0, 6.0, 6.0), origin=(-190.0, -190.0, 0.0))
    (folder / "IM0099").write_bytes(b"")
    (folder / "readme.txt").write_text("stray")
    done = run(tmp_path / "in", "-o", tmp_path / "set", "--keep-names")
    assert done.exit_code == 0, done.stderr
    assert any("beside the slices could not be used" in line for line in done.stdout.splitlines())
    assert "1 other files: no CT by their first bytes: 1 x .txt" in done.stdout


def test_equal_cts_that_leave_too_few_patients_for_the_folds_are_named(people_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for source, name in (("anna", "anna"), ("anna", "again"), ("bert", "bert"), ("carl", "carl")):
        shutil.copy(people_folder / f"{source}.nii.gz", folder / f"{name}.nii.gz")
    options = (folder, "-o", tmp_path / "set", "--keep-names", "--test-share", 0)
    refused = run(*options, "--folds", 4)
    assert refused.exit_code == 2
    assert (
        "3 training patients cannot be dealt into 4 folds (1 CTs with the voxels of another count once)"
        in refused.stderr
    )
    assert "choose --folds 2 to 3" in refused.stderr
    again = run(*options, "--folds", 3)
    assert again.exit_code == 0, again.stderr
    assert "4 done before, 0 now" in again.stdout or "0 now" in again.stdout
