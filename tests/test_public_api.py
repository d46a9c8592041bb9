"""The names that examples, documents and outside scripts use, and that importing them stays cheap."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import xrecon


@pytest.mark.parametrize("name", sorted(xrecon._HOME))
def test_every_public_name_resolves_to_its_home(name: str) -> None:
    value = getattr(xrecon, name)
    assert value.__module__.startswith("xrecon.")
    assert value.__name__ == name
    assert inspect.getdoc(value), f"xrecon.{name} needs a docstring"


@pytest.mark.parametrize("name", sorted(xrecon._MODULES))
def test_every_public_module_imports(name: str) -> None:
    assert inspect.ismodule(getattr(xrecon, name))


def test_type_checkers_see_the_same_names_as_the_interpreter() -> None:
    tree = ast.parse(Path(xrecon.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == {**xrecon._HOME, **dict.fromkeys(xrecon._MODULES, "xrecon")}


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = xrecon.no_such_name


def test_dir_lists_the_public_names() -> None:
    assert dir(xrecon) == sorted([*xrecon._HOME, *xrecon._MODULES, "__version__"])


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, xrecon; print([m for m in ('torch', 'numpy', 'scipy', 'pydicom') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_documents_name_the_same_version() -> None:
    root = Path(__file__).resolve().parent.parent
    assert f"\nversion: {xrecon.__version__}\n" in (root / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {xrecon.__version__}" in (root / "CHANGELOG.md").read_text(encoding="utf-8")
