"""The page of constants says what the source says, and misses none."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import xrecon

PAGE_WRITER = Path(__file__).resolve().parents[2] / "benchmarks" / "ptxseg_constants_page.py"


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ptxseg_constants_page", PAGE_WRITER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


def test_the_page_of_constants_is_up_to_date(writer: ModuleType) -> None:
    assert writer.PAGE.read_text(encoding="utf-8") == writer.page(), "run python benchmarks/ptxseg_constants_page.py"


def test_every_module_with_constants_is_on_the_page(writer: ModuleType) -> None:
    package = Path(xrecon.__file__).parent
    listed = {module for modules in writer.STEPS.values() for module in modules}
    for path in (package / "ptxseg").rglob("*.py"):
        module = ".".join(path.relative_to(package).with_suffix("").parts)
        if path.name == "__init__.py" or module in listed:
            continue
        assert list(writer.constants_of(module)) == [], f"{module} is missing in STEPS"


def test_single_cases_are_named_on_the_page_and_not_in_the_source() -> None:
    for path in (Path(xrecon.__file__).parent / "ptxseg").rglob("*.py"):
        assert "case_" not in path.read_text(encoding="utf-8"), path.name


def test_an_origin_of_an_unknown_constant_is_refused(writer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(writer.ORIGIN, "ptxseg.judge._NO_SUCH_HU", "nowhere")
    with pytest.raises(SystemExit, match="_NO_SUCH_HU"):
        writer.page()
