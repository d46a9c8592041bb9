"""The public names of each package: they exist, and naming them costs no import."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import xrecon

PACKAGES = [module.name for module in pkgutil.walk_packages(xrecon.__path__, "xrecon.") if module.ispkg]
LAZY = [name for name in PACKAGES if hasattr(importlib.import_module(name), "_HOME")]


@pytest.mark.parametrize("name", LAZY)
def test_every_public_name_is_found_in_its_module(name: str) -> None:
    package = importlib.import_module(name)
    assert sorted(package.__all__) == sorted(package._HOME)
    for public, module in package._HOME.items():
        assert getattr(package, public) is getattr(importlib.import_module(module), public)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        package.nonsense  # noqa: B018


@pytest.mark.parametrize("name", ["xrecon.io", "xrecon.priors", "xrecon.training"])
def test_a_lazy_package_loads_nothing_heavy(name: str) -> None:
    assert name in LAZY
    code = f"import sys, {name}; print(sorted({{'torch', 'lightning_fabric', 'numpy'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.strip() == "[]"
