"""Commands that write several files: all of them are finished beside the others first, then renamed into place."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from xrecon.errors import InputError
from xrecon.io.output.atomic import atomic_path, check_absent


def check_outputs(folder: Path, names: Sequence[str], *, overwrite: bool) -> None:
    """Whether all `names` can be written into `folder`; to be called before a long computation. Creates nothing.

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


@contextmanager
def staged_outputs(folder: Path, names: Sequence[str], *, overwrite: bool) -> Iterator[Path]:
    """A temporary folder in which to write the files `names`; they move into `folder` when the block ends well.

    On any failure (also Ctrl-C) the temporary folder goes, and `folder` with it if it is new and empty.

    Raises:
        OutputExistsError: one of the files exists and `overwrite` is false.
        InputError: `folder` is a file, or cannot be written.
    """
    folder = Path(folder)
    check_outputs(folder, names, overwrite=overwrite)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    stage = folder / f".{uuid.uuid4().hex[:12]}.partial"
    stage.mkdir()
    try:
        yield stage
        for name in names:
            with atomic_path(folder / name, overwrite=overwrite) as temporary:
                (stage / name).replace(temporary)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # it holds the results
                folder.rmdir()
