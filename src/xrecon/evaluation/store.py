"""Results of single cases on disk, so that an evaluation that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xrecon.io.output.atomic import atomic_path
from xrecon.json_text import json_text


class ResultStore:
    """Results of single cases on disk, so that an evaluation that was stopped goes on where it was.

    A result counts only under the settings that it was made with: their digest is part of its name.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def path(self, name: str, settings: Mapping[str, Any], suffix: str) -> Path:
        """File of a result; `name` may hold `/` for sub-folders, and points, which begin no suffix."""
        text = json_text(settings, indent=None, sort_keys=True)
        return self.folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}{suffix}"

    def values(self, name: str, settings: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The stored JSON values, or those of `make`, stored for the next time."""
        path = self.path(name, settings, ".json")
        if path.is_file():
            stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return stored
        values = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        # NaN and infinity as such: identical volumes have an infinite PSNR, and None would mean "not measured".
        with atomic_path(path, overwrite=True) as temporary:
            temporary.write_text(json_text(values, non_finite="literal", indent=1), encoding="utf-8")
        return values

    def forget(self, name: str, settings: Mapping[str, Any], suffix: str) -> None:
        """Remove one stored file, if it is there, so that it is made anew."""
        self.path(name, settings, suffix).unlink(missing_ok=True)

    def write(self, name: str, settings: Mapping[str, Any], suffix: str, content: bytes) -> None:
        """Store a file of any other kind."""
        path = self.path(name, settings, suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path, overwrite=True) as temporary:
            temporary.write_bytes(content)

    def arrays(
        self, name: str, settings: Mapping[str, Any], make: Callable[[], dict[str, np.ndarray[Any, Any]]]
    ) -> dict[str, np.ndarray[Any, Any]]:
        """The stored arrays, or those of `make`, stored for the next time."""
        path = self.path(name, settings, ".npz")
        if path.is_file():
            with np.load(path, allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}
        arrays = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path, overwrite=True) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
        return arrays
