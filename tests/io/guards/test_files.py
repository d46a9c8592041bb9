"""Files on the way in: missing, empty, folders; digests."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from xrecon.errors import InputError
from xrecon.io.guards.files import check_file, sha256_of


@pytest.mark.parametrize("make", ["missing", "empty", "folder"])
def test_check_file_names_the_path(tmp_path: Path, make: str) -> None:
    path = tmp_path / "x"
    if make == "empty":
        path.touch()
    elif make == "folder":
        path.mkdir()
    with pytest.raises(InputError, match=str(path)):
        check_file(path)


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 1000)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(b"abc" * 1000).hexdigest()
