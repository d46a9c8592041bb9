"""The notice drawn into the pixels, for viewers that show no text of the header."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from xrecon.errors import InputError

TEXT_HU = 1000
"""Bright in every preset."""
_MARGIN = 2


def burn_in_text(slices: NDArray[np.int16], text: str) -> NDArray[np.int16]:
    """The slices [D, H, W] with `text` at the upper left of each, a line for each part between slashes.

    Raises:
        InputError: the slices are too small for it.
    """
    mask = _text_mask(text)
    rows, columns = (size + _MARGIN for size in mask.shape)
    if slices.shape[1] < rows or slices.shape[2] < columns:
        raise InputError(
            f"--burn-in: the text needs slices of at least {rows} x {columns} pixels, these have {slices.shape[1]} x "
            f"{slices.shape[2]}; choose a larger --size, or leave --burn-in out"
        )
    marked = slices.copy()
    corner = marked[:, _MARGIN:rows, _MARGIN:columns]
    corner[:, mask] = TEXT_HU
    return marked


def _text_mask(text: str) -> NDArray[np.bool_]:
    """[rows, columns], true where the text is."""
    lines = "\n".join(part.strip() for part in text.split("/"))
    font = ImageFont.load_default_imagefont()
    pencil = ImageDraw.Draw(Image.new("1", (1, 1)))
    _, _, width, height = pencil.multiline_textbbox((0, 0), lines, font=font, spacing=1)
    picture = Image.new("1", (int(width) + 1, int(height) + 1))
    ImageDraw.Draw(picture).multiline_text((0, 0), lines, fill=1, font=font, spacing=1)
    return np.asarray(picture, dtype=bool)
