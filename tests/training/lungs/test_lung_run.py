"""The command `xrecon train lungs` on the artificial thorax."""

from __future__ import annotations

from pathlib import Path

import pytest

from xrecon.models.checkpoint import load_model

pytestmark = pytest.mark.usefixtures("small_recipes")


@pytest.mark.slow
def test_the_command_makes_weights_that_segment_takes(phantom64_file: Path, tmp_path: Path) -> None:
    """Everything that made the shipped weights, on one artificial patient and for a second."""
    from typer.testing import CliRunner

    from xrecon.cli.app import build_app
    from xrecon.ptxseg.hemithoraces.lung_models import resolve

    folder, out = tmp_path / "cases", tmp_path / "run"
    folder.mkdir()
    (folder / phantom64_file.name).write_bytes(phantom64_file.read_bytes())
    result = CliRunner().invoke(build_app(), ["train", "lungs", str(folder), "-o", str(out), "--minutes", "0.01"])
    assert result.exit_code == 0, result.output
    assert load_model(out)[1].family == "lungs"
    assert resolve(str(out)).load() is not None
    again = ["train", "lungs", str(folder), "-o", str(tmp_path / "again"), "--minutes", "0.01", "--start", str(out)]
    result = CliRunner().invoke(build_app(), again)
    assert result.exit_code == 0, result.output
    assert load_model(tmp_path / "again")[1].metrics["begun_with_sha256"] == load_model(out)[1].sha256


def test_weights_to_start_with_have_to_be_there(phantom64_file: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from xrecon.cli.app import build_app

    folder, absent = str(phantom64_file.parent), str(tmp_path / "absent")
    result = CliRunner().invoke(build_app(), ["train", "lungs", folder, "-o", str(tmp_path / "o"), "--start", absent])
    assert result.exit_code == 2
    assert "absent: holds no model.safetensors" in result.stderr
    assert not (tmp_path / "o").exists()
