"""Files beside the slices that could not be used: counted, named, and where in the chest they are missing."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pydicom
import pytest

from support.dicom_factory import anatomy, write_series
from xrecon.io.dicom.unused import UnusedFile, unused_notes
from xrecon.volume import load_ct

CONTENTS = {
    "empty": b"",
    "a web page": b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>",
    "not DICOM": b"Access denied\n" * 20,
}


def numbered_series(folder: Path, *, feet_first: bool = False) -> Path:
    """Files I1.dcm (feet) to I20.dcm (head), or the other way round."""
    write_series(folder, edit=lambda ds, k: setattr(ds, "InstanceNumber", k + 1))
    for file in list(folder.iterdir()):
        k = int(pydicom.dcmread(file).InstanceNumber)
        file.rename(folder / f"I{k if not feet_first else 21 - k}.dcm")
    return folder


def pack(folder: Path, *, zipped: bool) -> Path:
    if not zipped:
        return folder
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{folder.name}/{file.name}")
    return folder.with_suffix(".zip")


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("reason", list(CONTENTS))
@pytest.mark.parametrize(("numbers", "words"), [
    ((18, 19, 20), "at the head end: the apices may be missing"),
    ((1, 2), "at the feet end: the bases may be missing"),
    ((10,), "inside the stack"),
    ((1, 20), "at the head end"),
], ids=["head", "feet", "middle", "both"])  # fmt: skip
def test_unusable_files_are_counted_and_placed(
    tmp_path: Path, numbers: tuple[int, ...], words: str, reason: str, *, zipped: bool
) -> None:
    folder = numbered_series(tmp_path / "ct")
    for number in numbers:
        (folder / f"I{number}.dcm").write_bytes(CONTENTS[reason])
    volume = load_ct(pack(folder, zipped=zipped))
    notes = [note for note in volume.notes if "could not be used" in note]
    assert len(notes) == 1
    assert f"{len(numbers)} file" in notes[0] and f"{len(numbers)} {reason}" in notes[0]
    assert words in notes[0] and f"I{numbers[0]}.dcm" in notes[0]


def test_names_that_run_from_head_to_feet_are_understood(tmp_path: Path) -> None:
    folder = numbered_series(tmp_path / "ct", feet_first=True)
    (folder / "I1.dcm").write_bytes(b"")
    assert any("at the head end" in note for note in load_ct(folder).notes)


def test_names_without_order_say_that_the_place_is_unknown(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    (folder / "IM0099").write_bytes(b"")
    assert any("which part of the chest they held is not known" in note for note in load_ct(folder).notes)


def test_other_files_in_the_folder_are_nobodys_slices(tmp_path: Path) -> None:
    folder = numbered_series(tmp_path / "ct")
    for name in ("README.txt", "viewer.html", "DICOMDIR.xml", "Thumbs.db"):
        (folder / name).write_bytes(b"something else")
    (tmp_path / "I21.dcm").write_bytes(b"")
    volume = load_ct(folder)
    assert volume.hu.shape == anatomy().shape and volume.notes == ()


def test_names_are_left_out_where_they_may_hold_a_patient() -> None:
    used = [("ct", f"I{k}.dcm", 5.0 * k) for k in range(1, 21)]
    (note,) = unused_notes([UnusedFile("ct", "Doe-I21.dcm", "empty")], used, names=False)
    assert "Doe" not in note and "1 empty" in note
