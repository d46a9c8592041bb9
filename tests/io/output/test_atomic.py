"""Atomic writing: complete or absent, and disk errors in plain words."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from xrecon.errors import InputError, OutputExistsError, XReconError
from xrecon.io.output.atomic import atomic_path, write_json_atomic, write_text_atomic


def test_atomic_path_keeps_suffixes_and_renames(tmp_path: Path) -> None:
    final = tmp_path / "new" / "deep" / "a.nii.gz"
    with atomic_path(final, overwrite=False) as temporary:
        assert temporary.parent == final.parent
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("x")
        assert not final.exists()
    assert final.read_text() == "x"
    assert [p.name for p in final.parent.iterdir()] == ["a.nii.gz"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_atomic_path_leaves_nothing_on_failure(tmp_path: Path, failure: type[BaseException]) -> None:
    final = tmp_path / "a.txt"
    final.write_text("old")

    def fail() -> None:
        with atomic_path(final, overwrite=True) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert final.read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


def test_atomic_path_refuses_existing_even_if_made_meanwhile(tmp_path: Path) -> None:
    final = tmp_path / "a.txt"
    with (
        pytest.raises(OutputExistsError, match="another process"),
        atomic_path(final, overwrite=False) as temporary,
    ):
        temporary.write_text("mine")
        final.write_text("theirs")
    assert final.read_text() == "theirs"
    with pytest.raises(OutputExistsError, match="--overwrite"):
        write_text_atomic(final, "x")
    assert write_text_atomic(final, "x", overwrite=True).read_text() == "x"
    with pytest.raises(OutputExistsError, match="folder"):
        write_text_atomic(tmp_path, "x", overwrite=True)
    assert list(tmp_path.iterdir()) == [final]


def test_atomic_path_takes_folders(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "series", overwrite=False) as temporary:
        temporary.mkdir()
        (temporary / "1").write_text("x")
    assert (tmp_path / "series" / "1").read_text() == "x"


@pytest.mark.parametrize(
    ("code", "words", "exit_code"), [(errno.ENOSPC, "disk is full", 1), (errno.EACCES, "permission", 2)]
)
def test_disk_errors_are_explained(tmp_path: Path, code: int, words: str, exit_code: int) -> None:
    with (
        pytest.raises(XReconError, match=words) as caught,
        atomic_path(tmp_path / "a.txt", overwrite=False) as temporary,
    ):
        temporary.write_text("half")
        raise OSError(code, "simulated")
    assert "a.txt" in str(caught.value)
    assert caught.value.exit_code == exit_code
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="not a folder"):
        write_text_atomic(tmp_path / "file" / "out.txt", "x")


def test_json_takes_numpy_and_refuses_nan(tmp_path: Path) -> None:
    values = {"a": np.float32(0.5), "b": np.arange(3), "c": tmp_path / "p", "d": "µ"}
    path = write_json_atomic(tmp_path / "a.json", values)
    expected = {
        "a": 0.5,
        "b": [0, 1, 2],
        "c": str(tmp_path / "p"),
        "d": "µ",
    }
    assert json.loads(path.read_text(encoding="utf-8")) == expected
    with pytest.raises(InputError, match="cannot be written as JSON"):
        write_json_atomic(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()
