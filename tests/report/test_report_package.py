"""The packages of this layer and below name their public things, and naming them loads nothing heavy."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

PACKAGES = ("xrecon.report", "xrecon.quantify", "xrecon.evaluation.metrics", "xrecon.evaluation.statistics")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there(package: str) -> None:
    module = importlib.import_module(package)
    assert 5 <= len(module.__all__) <= 8
    for name in module.__all__:
        value = getattr(module, name)
        assert not isinstance(value, type(module)), f"{package}.{name} is a module of the same name"
    with pytest.raises(AttributeError, match=package):
        module.nothing  # noqa: B018


def test_naming_them_loads_neither_torch_nor_matplotlib() -> None:
    program = "\n".join(
        [
            "import importlib, sys",
            f"for package in {PACKAGES!r}: importlib.import_module(package)",
            "sys.exit(', '.join({'torch', 'matplotlib', 'scipy'} & set(sys.modules)))",
        ]
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
