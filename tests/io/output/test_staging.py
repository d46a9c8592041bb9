"""Several outputs of one command: all or none, and nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xrecon.errors import InputError, OutputExistsError
from xrecon.io.output.staging import check_outputs, staged_outputs


def test_all_files_arrive_together_and_the_stage_goes(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    with staged_outputs(folder, ["a.txt", "b.txt"], overwrite=False) as stage:
        (stage / "a.txt").write_text("a")
        (stage / "b.txt").write_text("b")
        (stage / "scratch").write_text("not asked for")
        assert not (folder / "a.txt").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b.txt"]
    assert (folder / "b.txt").read_text() == "b"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), staged_outputs(folder, ["a.txt"], overwrite=False) as stage:
        (stage / "a.txt").write_text("a")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_older_results_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(ZeroDivisionError), staged_outputs(tmp_path, ["a.txt"], overwrite=True) as stage:
        (stage / "a.txt").write_text("new")
        raise ZeroDivisionError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_existing_files_are_replaced_only_if_asked(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("old")
    with pytest.raises(OutputExistsError, match=r"b\.txt"):
        check_outputs(tmp_path, ["a.txt", "b.txt"], overwrite=False)
    with staged_outputs(tmp_path, ["b.txt"], overwrite=True) as stage:
        (stage / "b.txt").write_text("new")
    assert (tmp_path / "b.txt").read_text() == "new"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="expected a folder"):
        check_outputs(tmp_path / "out" / "deeper", ["a.txt"], overwrite=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="cannot be written"):
            check_outputs(tmp_path / "out", ["a.txt"], overwrite=False)
    finally:
        tmp_path.chmod(0o700)


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_a_folder_of_dicom_is_replaced_as_a_whole(tmp_path: Path) -> None:
    fill(tmp_path / "dicom", "ct/1.dcm", "ct/2.dcm")
    with staged_outputs(tmp_path, ["a.txt"], overwrite=True, subfolder="dicom") as stage:
        (stage / "a.txt").write_text("a")
        fill(stage / "dicom", "ct/1.dcm")
        assert (tmp_path / "dicom" / "ct" / "2.dcm").exists()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "a.txt", "dicom", "dicom/ct", "dicom/ct/1.dcm"
    ]  # fmt: skip


def test_a_folder_is_left_alone_if_it_may_not_go(tmp_path: Path) -> None:
    fill(tmp_path / "dicom", "1.dcm")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        check_outputs(tmp_path, [], overwrite=False, subfolder="dicom")
    check_outputs(tmp_path, [], overwrite=True, subfolder="dicom")
    fill(tmp_path / "dicom", "deep/notes.txt")
    with pytest.raises(InputError, match=r"files that are not \.dcm \(notes\.txt\)"):
        check_outputs(tmp_path, [], overwrite=True, subfolder="dicom")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is no folder"):
        check_outputs(tmp_path, [], overwrite=True, subfolder="file")
