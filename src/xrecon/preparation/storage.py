"""Where a data set is written: a local folder, or anything that fsspec can reach (s3://, gs://, memory://, ...)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from xrecon.errors import InputError, MissingPartError
from xrecon.io.output.atomic import write_bytes_atomic

LOCAL = ("file", "local")


def is_remote(place: str) -> bool:
    """Whether a path is a URL of something other than a local file."""
    scheme, separator, _ = place.partition("://")
    return bool(separator) and scheme not in LOCAL


def file_system(place: str) -> tuple[Any, str]:
    """(fsspec file system, path in it) of a local path or URL.

    Raises:
        MissingPartError: the file system needs a package that is not installed.
        InputError: an unknown kind of URL, or no access.
    """
    from fsspec.core import url_to_fs

    try:
        if is_remote(place):
            fs, path = url_to_fs(place)
        else:
            fs, path = url_to_fs(os.fspath(Path(place.removeprefix("file://").removeprefix("local://")).absolute()))
    except ImportError as error:
        raise MissingPartError(f"{place}: {error}") from error
    except (ValueError, OSError) as error:
        raise InputError(
            f"{place}: cannot be reached ({error}); give a local path or a URL that fsspec knows"
        ) from error
    return fs, str(path)


class Store:
    """A folder of whole files; every file is either complete or absent.

    Locally a file is written beside its place and renamed. Object stores publish an object when it is complete.

    Args:
        place: path or URL of the folder.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self._fs, self._root = file_system(place)
        self._local = not is_remote(place)

    def __str__(self) -> str:
        return self.place

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.place,)

    @property
    def folder(self) -> Path | None:
        """The local folder; None for a URL."""
        return Path(self._root) if self._local else None

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        return bool(self._fs.isfile(self._path(name)))

    def read(self, name: str) -> bytes:
        """All bytes of a file. Raises FileNotFoundError, OSError."""
        return bytes(self._fs.cat_file(self._path(name)))

    def write(self, name: str, content: bytes) -> None:
        """Write or replace a file. Raises InputError, XReconError (disk full), OSError."""
        if self._local:
            write_bytes_atomic(Path(self._path(name)), content, overwrite=True)
            return
        path = self._path(name)
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._fs.pipe_file(path, content)

    def delete(self, name: str) -> None:
        """Remove a file if it is there."""
        if self.exists(name):
            self._fs.rm_file(self._path(name))

    def names(self, folder: str) -> list[str]:
        """Names of the files in a subfolder, sorted; empty where there is none."""
        try:
            entries = self._fs.ls(self._path(folder), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(str(entry["name"]).rpartition("/")[2] for entry in entries if entry["type"] == "file")

    def is_empty(self) -> bool:
        """Whether nothing is there yet."""
        try:
            return not self._fs.ls(self._root, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return True
