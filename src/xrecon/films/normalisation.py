"""The one normalisation of films for a network, shared by training, evaluation and reconstruction.

A film in a file says nothing of its exposure: gain and offset of its grey values are arbitrary. They are fixed here by
two percentiles, which a marker, a collimator's edge or a metal part cannot move far.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError

PERCENTILES = (2.0, 98.0)
"""Of all pixels of the film: where the dark and the bright reference lie."""
LEVELS = (0.05, 0.95)
"""What the two percentiles become; 5 % of the range is left beyond them on each side."""


def network_film(film: NDArray[np.floating]) -> NDArray[np.float32]:
    """A film as networks of xrecon see it.

    The 2nd percentile of the pixels becomes 0.05, the 98th 0.95, linearly between and beyond, clipped to 0..1.
    So `network_film(gain * film + offset)` equals `network_film(film)` for every gain > 0 and every offset, up to
    rounding. Where the two percentiles coincide (a nearly empty film), the whole range serves instead; a constant film
    becomes 0.5.

    Args:
        film: [rows, cols], dense tissue bright: line integrals, or display values of a real film.

    Returns:
        [rows, cols] float32 in 0..1, a new array.

    Raises:
        InputError: not two axes, empty, or values that are not finite.

    Example:
        >>> network_film(np.linspace(0.0, 8.0, 64 * 64).reshape(64, 64)).min()
        0.03125
    """
    values = np.asarray(film)
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"a film has two axes [rows, cols] and at least one pixel, got shape {values.shape}")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise InputError(f"{count} of {values.size} pixels of the film are NaN or infinite; repair or project it again")
    low, high = np.percentile(values, PERCENTILES)
    scale = float(np.abs(values).max())
    if high - low <= 1e-9 * scale:
        low, high = float(values.min()), float(values.max())
        if high - low <= 1e-9 * scale:
            return np.full(values.shape, 0.5, dtype=np.float32)
    scaled = LEVELS[0] + (values - low) * ((LEVELS[1] - LEVELS[0]) / (high - low))
    return np.asarray(np.clip(scaled, 0.0, 1.0), dtype=np.float32)
