"""A strip of pictures of one case for the quality page: both films and three planes with the lungs outlined."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from xrecon.data.case_file import CaseData

TILE = 144
"""Edge of one picture, pixels."""
PANELS = ("PA film", "lateral film", "coronal", "sagittal", "axial")
_WINDOW_HU = (-1000.0, 400.0)
_COLOURS = ((0, 0, 0), (255, 120, 60), (70, 170, 255), (255, 230, 0))
"""Outline colour of background, right lung, left lung and free air."""


def thumbnail(case: CaseData, *, quality: int = 82) -> bytes:
    """JPEG of `PANELS` side by side, radiological display (patient's right on the left); lungs outlined, air yellow.

    The planes cut the right lung's middle (sagittal), and the middle of both lungs (coronal, axial).
    """
    from PIL import Image

    labels = np.where(case.air > 0, np.uint8(3), case.sides)
    d, h, w = _middle(np.asarray(case.sides))
    films = [_grey(film, *np.percentile(film, [1, 99.5])) for film in (case.pa, case.lateral)]
    tiles = [_tile(film, None) for film in films]
    for plane, marks in (
        (case.ct[:, h, :], labels[:, h, :]),
        (case.ct[:, :, w], labels[:, :, w]),
        (case.ct[d], labels[d]),
    ):
        tiles.append(_tile(_grey(plane.astype(np.float32), *_WINDOW_HU), marks))
    stream = io.BytesIO()
    Image.fromarray(np.concatenate(tiles, axis=1)).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def _middle(sides: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Median (d, h) index of both lungs and median w index of the right lung (of the left where there is no right)."""
    if not sides.any():
        return sides.shape[0] // 2, sides.shape[1] // 2, sides.shape[2] // 2
    d, h, _ = (int(np.median(indices)) for indices in np.nonzero(sides))
    lung = sides == (1 if (sides == 1).any() else 2)
    return d, h, int(np.median(np.nonzero(lung)[2]))


def _grey(image: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    return np.asarray(255 * np.clip((image - low) / max(high - low, 1e-6), 0, 1), dtype=np.uint8)


def _tile(grey: NDArray[np.uint8], marks: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """[TILE, TILE, 3] RGB: the grey image enlarged or reduced, with the borders of the labels coloured."""
    from PIL import Image

    picture = np.array(Image.fromarray(grey).resize((TILE, TILE), Image.Resampling.BILINEAR))
    colour = np.repeat(picture[..., None], 3, axis=2)
    if marks is not None:
        large = np.array(Image.fromarray(marks).resize((TILE, TILE), Image.Resampling.NEAREST))
        edge = np.zeros(large.shape, dtype=bool)
        edge[1:] |= large[1:] != large[:-1]
        edge[:, 1:] |= large[:, 1:] != large[:, :-1]
        for value in (1, 2, 3):
            near = _grown(large == value)
            colour[edge & near & (large <= value)] = _COLOURS[value]
    return colour


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    out = mask.copy()
    out[1:] |= mask[:-1]
    out[:, 1:] |= mask[:, :-1]
    return out
