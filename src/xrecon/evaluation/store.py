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
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        # NaN and infinity as such: identical volumes have an infinite PSNR, and None would mean "not measured".
        with atomic_path(path, overwrite=True) as temporary:
            temporary.write_text(json_text(made, non_finite="literal", indent=1), encoding="utf-8")
        return made

    def arrays(
        self, name: str, settings: Mapping[str, Any], make: Callable[[], dict[str, np.ndarray[Any, Any]]]
    ) -> dict[str, np.ndarray[Any, Any]]:
        """The stored arrays, or those of `make`, stored for the next time."""
        path = self.path(name, settings, ".npz")
        if path.is_file():
            with np.load(path, allow_pickle=False) as found:
                return {key: found[key] for key in found.files}
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path, overwrite=True) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **made)  # type: ignore[arg-type]
        return made
