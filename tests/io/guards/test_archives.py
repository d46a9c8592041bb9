"""Zip archives that lead out of their folder or hold too many files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from xrecon.errors import InputError
from xrecon.io.guards import archives
from xrecon.io.guards.archives import open_zip, zip_members


@pytest.mark.parametrize("name", ["../evil.dcm", "/etc/evil", "a/../../evil", "..\\evil", "C:/evil"])
def test_zip_slip_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "x")
    with open_zip(path) as archive, pytest.raises(InputError, match="zip slip"):
        zip_members(archive, path)


def test_zip_member_count_is_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILES", 3)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(4):
            archive.writestr(str(k), "x")
    with open_zip(path) as archive, pytest.raises(InputError, match="4 files, the limit is 3"):
        zip_members(archive, path)
