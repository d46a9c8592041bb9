"""Lung shapes of other patients, as targets of a deformation: coarse masks without any image."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError

_FILE = "lungs_4mm.npz"
PITCH_MM = 4.0
"""Voxel pitch of the shapes, mm."""


@dataclass(frozen=True, eq=False)
class LungShapes:
    """Masks of right (1) and left (2) lung, [D, H, W] uint8 of 4 mm, by name.

    Attributes:
        names: in the order of the file.
        masks: name -> [D, H, W]; D to the feet, H to the back, W to the left.
    """

    names: tuple[str, ...]
    masks: Mapping[str, NDArray[np.uint8]]

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> LungShapes:
        """The shapes of a folder that holds lungs_4mm.npz.

        Raises:
            InputError: no such file, or arrays of another kind in it.
        """
        path = Path(folder) / _FILE
        if not path.is_file():
            raise InputError(f"no lung shapes in {Path(folder).name}: expected the file {_FILE} in the folder")
        try:
            with np.load(path, allow_pickle=False) as archive:
                masks = {name: archive[name] for name in archive.files}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise InputError(f"{_FILE} cannot be read as a NumPy archive: {error}") from error
        for name, mask in masks.items():
            if mask.ndim != 3 or mask.dtype != np.uint8 or not {1, 2} <= set(np.unique(mask).tolist()):
                raise InputError(f"{name} in {_FILE}: expected uint8 [D, H, W] with 1 (right lung) and 2 (left lung)")
        if not masks:
            raise InputError(f"{_FILE} holds no shape")
        return cls(tuple(masks), masks)
