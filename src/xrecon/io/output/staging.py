"""Commands that write several files: all of them are finished beside the others first, then renamed into place."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from xrecon.errors import InputError, OutputExistsError
from xrecon.io.output.atomic import atomic_path, check_absent

DICOM_SUFFIX = ".dcm"


def check_outputs(folder: Path, names: Sequence[str], *, overwrite: bool, subfolder: str = "") -> None:
    """Whether all `names` can be written into `folder`; to be called before a long computation. Creates nothing.

    Args:
        folder: to write to.
        names: of files.
        overwrite: files that exist may be replaced.
        subfolder: a folder of DICOM files, which is replaced as a whole; "" for none.

    Raises:
        OutputExistsError: one of the files exists and `overwrite` is false.
        InputError: `folder` is a file, or cannot be written.
    """
    folder = Path(folder)
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"{folder}: {existing} is a file, expected a folder to write to; choose another path")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: {existing} cannot be written; choose a folder that you may write to")
    for name in names:
        check_absent(folder / name, overwrite=overwrite)
    if subfolder:
        _check_dicom_folder(folder / subfolder, overwrite=overwrite)


def _check_dicom_folder(folder: Path, *, overwrite: bool) -> None:
    """Raises OutputExistsError or InputError where the folder may not be replaced: it holds other files than DICOM."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not overwrite:
        raise OutputExistsError(f"{folder}: exists already; give --overwrite (overwrite=True) or another folder")
    if folder.is_symlink() or not folder.is_dir():
        raise InputError(f"{folder}: is no folder; remove it, or choose another output folder")
    others = [path for path in folder.rglob("*") if not path.is_dir() and path.suffix != DICOM_SUFFIX]
    if others:
        raise InputError(
            f"{folder}: holds files that are not {DICOM_SUFFIX} ({others[0].name}), so it is not replaced; move them "
            "away, or choose another output folder"
        )


@contextmanager
def staged_outputs(folder: Path, names: Sequence[str], *, overwrite: bool, subfolder: str = "") -> Iterator[Path]:
    """A temporary folder in which to write the files `names`; they move into `folder` when the block ends well.

    A `subfolder` of DICOM files is made in it, too, and replaces the one that may be there as a whole: instances of
    two runs are never mixed.

    On any failure (also Ctrl-C) the temporary folder goes, and `folder` with it if it is new and empty.

    Raises:
        OutputExistsError: one of the files exists and `overwrite` is false.
        InputError: `folder` is a file, or cannot be written.
    """
    folder = Path(folder)
    check_outputs(folder, names, overwrite=overwrite, subfolder=subfolder)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    stage = folder / f".{uuid.uuid4().hex[:12]}.partial"
    stage.mkdir()
    try:
        yield stage
        for name in names:
            with atomic_path(folder / name, overwrite=overwrite) as temporary:
                (stage / name).replace(temporary)
        if subfolder:
            _publish_folder(stage / subfolder, folder / subfolder, stage / f"{subfolder}.old", overwrite=overwrite)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # it holds the results
                folder.rmdir()


def _publish_folder(fresh: Path, final: Path, aside: Path, *, overwrite: bool) -> None:
    """Rename a finished folder into place; one that is there goes to `aside` first."""
    _check_dicom_folder(final, overwrite=overwrite)
    if final.exists():
        final.replace(aside)
    try:
        fresh.replace(final)
    except OSError:
        if aside.exists():
            aside.replace(final)
        raise
