"""Framing: a CT without its table, centred on its lungs, on the wide grid of the priors; with films where needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from xrecon.anatomy.body import without_table
from xrecon.anatomy.frame import lung_box
from xrecon.films.simulation import simulate
from xrecon.priors.chest import TEMPLATE_GRID
from xrecon.priors.films import FilmPair
from xrecon.priors.registration import MovingChest
from xrecon.volume import OUTSIDE_HU, Volume

_FILM_PIXELS = 128


@dataclass(frozen=True)
class FramedChest:
    """One CT on the grid of the priors, centred on its lungs.

    Attributes:
        name: pseudonym, for messages.
        hu: [D, H, W] on TEMPLATE_GRID, vacuum outside the body.
        valid: [D, H, W], 1 where the scanner measured.
        box_mm: [2, 3] lower and upper corner of the box round the lungs, (d, h, w) mm from the frame's centre.
    """

    name: str
    hu: Tensor
    valid: Tensor
    box_mm: Tensor

    def coarse(self) -> MovingChest:
        """For registration: a third of the resolution."""
        hu, valid = (functional.avg_pool3d(v[None], 3)[0] for v in (self.hu, self.valid))
        return MovingChest(hu, valid, self.box_mm)


@dataclass(frozen=True)
class FilmedChest(FramedChest):
    """A framed CT with the PA and lateral film that its patient would have had."""

    films: FilmPair


def frame_chest(name: str, ct: Volume) -> FramedChest:
    """One CT without its table, centred on its lungs, on TEMPLATE_GRID.

    Raises:
        InputError: no body or no lungs in it.
    """
    ct = ct.canonical()
    low, high = lung_box(ct)
    centre = (low + high) / 2
    measured = ct.with_hu(np.ones(ct.shape, np.float32))
    hu, valid = (
        torch.from_numpy(
            v.resampled(TEMPLATE_GRID.shape, TEMPLATE_GRID.spacing_mm, centre_mm=centre, fill_hu=fill).hu.copy()
        )
        for v, fill in ((without_table(ct), OUTSIDE_HU), (measured, 0.0))
    )
    low, high = low - centre, high - centre
    # From LPS (x, y, z) to (d, h, w): z runs against D.
    box = torch.tensor([[-high[2], low[1], low[0]], [-low[2], high[1], high[0]]], dtype=torch.float32)
    return FramedChest(name, hu, valid, box)


def frame_with_films(name: str, ct: Volume) -> FilmedChest:
    """One CT as `frame_chest` gives it, and its two simulated films.

    Raises:
        InputError: no body or no lungs in it.
    """
    framed = frame_chest(name, ct)
    low, high = lung_box(ct.canonical())
    films = FilmPair(simulate(ct, size=_FILM_PIXELS, centre_mm=(low + high) / 2))
    return FilmedChest(framed.name, framed.hu, framed.valid, framed.box_mm, films)
