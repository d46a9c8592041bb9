"""The packages that name their public things: every name is there, and naming them loads nothing heavy."""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

PACKAGES = ("augmentation", "data", "films", "phantoms", "planting")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_has_what_it_names(name: str) -> None:
    package = importlib.import_module(f"xrecon.{name}")
    assert 3 <= len(package.__all__) <= 8
    for public in package.__all__:
        assert not isinstance(getattr(package, public), ModuleType), f"{public} is hidden by a module of that name"
    with pytest.raises(AttributeError, match="no attribute 'nowhere'"):
        _ = package.nowhere


def test_packages_load_nothing_heavy_before_a_name_is_used() -> None:
    lines = [f"import xrecon.{name}" for name in PACKAGES]
    lines += ["import xrecon.planting.pattern", "import sys", "print({'torch', 'scipy', 'numba'} & set(sys.modules))"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
