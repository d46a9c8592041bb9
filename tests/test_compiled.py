"""Compiled functions: kept on disk where that is possible, and working where nothing can be written."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import xrecon

DROP_FROM_BOUNDING_SET, MAY_WRITE_EVERYWHERE = 24, 1
"""Linux: `prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)`."""

USES = {
    "flood": """
import numpy as np
from xrecon.ptxseg.flood import flood
markers = np.zeros((4, 4, 4), np.uint8)
markers[0, 0, 0] = 3
flood(np.zeros((4, 4, 4), np.float32), markers, np.ones((4, 4, 4), bool), low_hu=-1000.0, high_hu=0.0)
assert (markers == 3).all()
""",
    "boundary among input voxels": """
import numpy as np
from xrecon.ptxseg.levels import EdgeLevels
from xrecon.ptxseg.refine import onto_input
from xrecon.ptxseg.work_grid import working_grid
from xrecon.volume import Volume
fine = Volume(np.full((16, 16, 16), -850.0, np.float32), np.diag([0.8, 0.8, 0.8, 1.0]))
grid = working_grid(fine, (slice(0, 16), slice(0, 16), slice(0, 16)))
classes = np.zeros(grid.volume.shape, np.uint8)
classes[2:6, 2:6, 2:6] = 1
edge = EdgeLevels(-480.0, -600.0, -700.0, -900.0)
assert (onto_input(grid, classes, edges=[edge, edge], air_hu=-1000.0) == 1).any()
""",
    "planting": """
import numpy as np
from xrecon.planting.trace import inside_share, step_back
place = np.ones((5, 4), np.float32)
assert (step_back(place, np.zeros((4, 4, 4, 4), np.float32), 1.0) == place).all()
assert inside_share(place, np.ones((4, 4, 4, 1), np.float32), np.ones(5, np.float32)) == 5.0
""",
    "smoothing": """
import numpy as np
from xrecon.smoothing import gaussian_smoothed
assert np.allclose(gaussian_smoothed(np.full((5, 6, 7), 2.0, np.float32), 1.5), 2.0)
""",
    "structural similarity": """
import numpy as np
from xrecon.evaluation.metrics.ssim_window import window_ssim
volume = np.random.default_rng(0).random((9, 9, 9))
assert abs(window_ssim(volume, volume)[0] - 1.0) < 1e-9
""",
    "projector": """
import torch, xrecon
view = xrecon.ConeBeam.preset("chest", "pa", size=32)
assert xrecon.project(torch.ones(1, 1, 32, 32, 32), 4.0, view).max() > 50.0
""",
    "features of networks": """
import numpy as np
from xrecon.models.fast.feature_kernels import accumulate
target = np.zeros((2, 4), np.float32)
ones = np.ones(4, np.float32)
accumulate(np.full((2, 4), 3.0, np.float32), ones, ones, np.float32(2.0), target, 0, 2)
assert (target == 4.0).all()
""",
    "augmentation": """
import numpy as np
from xrecon.augmentation.sampling_kernel import sample_all
index = np.ones((3, 2, 2, 2), np.float32)
hu, codes = sample_all(index, np.full((4, 4, 4), 7.0, np.float32), np.ones((4, 4, 4), np.uint8), np.float32(-1024.0))
assert (hu == 7.0).all() and (codes == 1).all()
""",
}


WRITABLE_PLACES = {"NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "PYTHONPYCACHEPREFIX"}


def obey_permissions() -> None:
    """Permissions do not bind the administrator: give up that right before another program is run."""
    if os.geteuid() == 0 and sys.platform == "linux":
        ctypes.CDLL(None).prctl(DROP_FROM_BOUNDING_SET, MAY_WRITE_EVERYWHERE, 0, 0, 0)


@dataclass(frozen=True)
class ReadOnlyInstallation:
    """A copy of the package in a folder that its user may not write to, and neither to a home folder."""

    folder: Path

    def run(self, code: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name not in WRITABLE_PLACES}
        environment |= {
            "HOME": str(self.folder / "no-home"),
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            cwd=self.folder,
            preexec_fn=obey_permissions if os.name == "posix" else None,
        )


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadOnlyInstallation]:
    folder = tmp_path_factory.mktemp("read-only")
    shutil.copytree(
        Path(xrecon.__file__).parent, folder / "xrecon", ignore=shutil.ignore_patterns("__pycache__", "assets")
    )
    folders = [folder, *(part for part in folder.rglob("*") if part.is_dir())]
    for part in folders:
        part.chmod(0o555)
    try:
        read_only = ReadOnlyInstallation(folder)
        trial = read_only.run(
            "import pathlib, xrecon\n"
            "package = pathlib.Path(xrecon.__file__).parent\n"
            "for place in (package, package / 'ptxseg', package.parent):\n"
            "    try:\n"
            "        (place / 'trial').mkdir()\n"
            "    except OSError:\n"
            "        continue\n"
            "    print('wrote in', place)"
        )
        assert trial.returncode == 0, trial.stderr
        if trial.stdout:
            pytest.skip(f"this user may write to folders without write permission here: {trial.stdout}")
        yield read_only
    finally:
        for part in folders:
            part.chmod(0o755)


@pytest.mark.parametrize("use", USES)
def test_every_use_runs_where_neither_package_nor_home_can_be_written(
    installation: ReadOnlyInstallation, use: str
) -> None:
    done = installation.run(USES[use] + "\nimport xrecon; print(xrecon.__file__)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(installation.folder / "xrecon" / "__init__.py")


def test_a_bare_cache_fails_there(installation: ReadOnlyInstallation) -> None:
    # Without this, the test above could pass because numba finds some folder after all.
    done = installation.run(
        "import numba\nfrom xrecon.resample import axis_weights\nnumba.njit(cache=True)(axis_weights)"
    )
    assert done.returncode != 0
    assert "no locator available" in done.stderr


def test_no_other_module_has_a_decorator_of_numba() -> None:
    package = Path(xrecon.__file__).parent
    users = [path.name for path in package.rglob("*.py") if "njit" in path.read_text(encoding="utf-8")]
    assert users == ["compiled.py"]


def test_compiled_code_is_kept_beside_a_writable_source(tmp_path: Path) -> None:
    source = tmp_path / "doubling.py"
    source.write_text("from xrecon.compiled import compiled\n@compiled()\ndef double(x):\n    return 2 * x\n")
    environment = {name: value for name, value in os.environ.items() if name not in WRITABLE_PLACES}
    package = str(Path(xrecon.__file__).parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), package])
    code = "from doubling import double; print(double(21), sum(double.stats.cache_hits.values()))"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        for _ in range(2)
    ]
    assert [run.stdout.split() for run in runs] == [["42", "0"], ["42", "1"]]
    assert list((tmp_path / "__pycache__").glob("doubling.double-*.nbi"))


def test_help_and_the_lightest_imports_do_not_load_numba() -> None:
    code = (
        "import sys, contextlib, io\nfrom xrecon.cli.app import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    sys.argv = ['xrecon', '--help']; main()\n"
        "import xrecon, xrecon.volume, xrecon.geometry\nprint('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
