"""The scripts of examples/ run as their users would run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_simulate_and_reconstruct(phantom64_file: Path) -> None:
    run = subprocess.run(
        [sys.executable, EXAMPLES / "simulate_and_reconstruct.py", phantom64_file, "64"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Volume(synthetic CT, 64x64x64 voxels" in run.stdout
    residuals = [line for line in run.stdout.splitlines() if "residual" in line]
    assert [line.split(":")[0] for line in residuals] == ["pa", "lateral"]
    for line in residuals:
        before, after = (float(word.rstrip("%")) for word in line.split() if word.endswith("%"))
        assert after < 0.5 * before
