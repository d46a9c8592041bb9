"""Hemithoraces from the lungs of other people's networks: lungmask and TotalSegmentator, where they are installed.

Both label lung tissue. What a hemithorax holds besides, free air above all, comes from the classical search, which
knows air of the chest from other air; the sides of what the package labels are the package's.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.morphology import Mask, Spacing, closed, filled
from xrecon.errors import InputError, MissingPartError
from xrecon.ptxseg.airways import Airways
from xrecon.ptxseg.hemithoraces.lungs import CLOSE_MM, Hemithoraces, find_hemithoraces
from xrecon.ptxseg.hemithoraces.sides import LEFT, RIGHT
from xrecon.volume import Volume

LUNGMASK_WEIGHTS = "XRECON_LUNGMASK_WEIGHTS"
"""Environment variable: a file of lungmask weights (state dict of R231); else lungmask's own cache or download."""
_MIN_SHARE = 0.03
"""A side that holds less of both is missing."""
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def with_free_air(
    lungs: NDArray[np.uint8], hu: NDArray[np.float32], *, body: Mask, airways: Airways, spacing: Spacing
) -> Hemithoraces:
    """Hemithoraces from lungs [D, H, W] (0, 1 right, 2 left) and the air of the chest beside them.

    Raises:
        InputError: no lungs in the CT.
    """
    if lungs.shape != hu.shape:
        raise InputError(f"the lungs have the shape {lungs.shape}, the CT {hu.shape}: another grid")
    classical = find_hemithoraces(hu, body, airways, spacing)
    labelled = np.where(airways.mask | ~body, np.uint8(0), lungs)
    sides = np.where(labelled > 0, labelled, classical.sides).astype(np.uint8)
    for side in (RIGHT, LEFT):
        whole = filled(closed(sides == side, CLOSE_MM, spacing))
        sides[whole & (sides == 0) & body & ~airways.mask] = side
    sizes = [int(np.count_nonzero(sides == side)) for side in (RIGHT, LEFT)]
    named = zip(("right", "left"), sizes, strict=True)
    return Hemithoraces(sides, next((name for name, size in named if size < _MIN_SHARE * sum(sizes)), None))


class LungmaskLungs:
    """lungmask's R231 (Hofmanninger 2020): axial slices, 256 x 256.

    Args:
        weights: a state dict of its network; None for `XRECON_LUNGMASK_WEIGHTS`, else the package's own cache.

    Raises:
        MissingPartError: the package is absent, or there are no weights and they cannot be fetched.
    """

    def __init__(self, weights: str | os.PathLike[str] | None = None) -> None:
        module = _module("lungmask.mask", package="lungmask")
        chosen = os.fspath(weights) if weights is not None else os.environ.get(LUNGMASK_WEIGHTS)
        if chosen is not None and not Path(chosen).is_file():
            raise MissingPartError(f"no lungmask weights at {chosen}: give the file of a state dict of R231")
        try:
            self._inferer = module.LMInferer(modelname="R231", modelpath=chosen, force_cpu=True, tqdm_disable=True)
        except OSError as error:  # its download failed
            raise MissingPartError(
                f"lungmask has no weights and could not fetch them ({error}); name a local file by {LUNGMASK_WEIGHTS}"
            ) from error

    def __call__(self, volume: Volume, *, body: Mask, airways: Airways) -> Hemithoraces:
        """As `lung_models.LungModel`."""
        hu = np.asarray(volume.hu)
        # lungmask reads [slice, row, column] with columns from the patient's right to left, as the canonical axes do.
        lungs = np.asarray(self._inferer.apply(np.ascontiguousarray(hu)), dtype=np.uint8)
        return with_free_air(
            np.where(lungs <= LEFT, lungs, np.uint8(0)), hu, body=body, airways=airways, spacing=volume.spacing_mm
        )


class TotalSegmentatorLungs:
    """The five lobes of TotalSegmentator's task "total" (Wasserthal 2023), with its own weights and cache.

    Args:
        fast: its 3 mm network instead of the 1.5 mm one.

    Raises:
        MissingPartError: the package or one that it needs is absent.
    """

    def __init__(self, *, fast: bool = True) -> None:
        self._run = _module("totalsegmentator.python_api", package="TotalSegmentator").totalsegmentator
        names = _module("totalsegmentator.map_to_binary", package="TotalSegmentator").class_map["total"]
        self._sides = lobe_sides(names)
        self._lobes = [names[number] for number in self._sides]
        self._fast = fast

    def __call__(self, volume: Volume, *, body: Mask, airways: Airways) -> Hemithoraces:
        """As `lung_models.LungModel`."""
        import nibabel

        hu = np.asarray(volume.hu)
        image: Any = nibabel.Nifti1Image(hu.round().astype(np.int16), _LPS_TO_RAS @ volume.affine)  # type: ignore[no-untyped-call]
        try:
            image_of_lobes = self._run(
                image, None, fast=self._fast, roi_subset=self._lobes, device="cpu", quiet=True, skip_saving=True
            )
        except OSError as error:
            raise MissingPartError(
                f"TotalSegmentator has no weights and could not fetch them ({error}); set TOTALSEG_WEIGHTS_PATH"
            ) from error
        labels = np.asarray(image_of_lobes.dataobj).astype(np.int64)
        table = np.zeros(max(int(labels.max()), *self._sides) + 1, dtype=np.uint8)
        for number, side in self._sides.items():
            table[number] = side
        return with_free_air(table[labels], hu, body=body, airways=airways, spacing=volume.spacing_mm)


def lobe_sides(names: dict[int, str]) -> dict[int, int]:
    """Side by number of the lobes among TotalSegmentator's class names.

    Raises:
        InputError: there are no lobes of both sides: another version.
    """
    ends = {"_right": RIGHT, "_left": LEFT}
    sides = {
        number: side
        for number, name in names.items()
        for end, side in ends.items()
        if name.startswith("lung_") and name.endswith(end)
    }
    if set(sides.values()) != {RIGHT, LEFT}:
        raise InputError(f"TotalSegmentator's classes hold no lobes of both lungs ({len(names)} classes); update it")
    return sides


def _module(name: str, *, package: str) -> ModuleType | Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPartError(
            f'lung_model="{package.lower()}" needs the package {package} ({error}): pip install {package}'
        ) from error
