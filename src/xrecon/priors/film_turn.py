"""Which way up a film lies and whether dense tissue is bright, by likeness to the mean chest that may be shifted.

A film is compared in all four quarter turns, straight and mirrored, with the mean chest in both views, enlarged and
moved along the body by several steps (a cropped film shows a larger chest than the mean), as it is and with its local
brightness and contrast taken out. The best of these is its score in a turn; the least, with its sign changed, the
score of its negative. The limits were chosen on films simulated from the 16 training CTs, also with other gamma,
local contrast, black borders, letters and crops of 10 % (benchmarks/film_content.py shows most of these).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

TURN_MARGIN = 0.14
"""By how much a film that lies on its side resembles the mean chest more when turned; simulated upright films at most
by 0.10."""
HALF_TURN_MARGIN = 0.09
"""The same for a film on its head. Chosen on 864 simulated films of the 16 train CTs: both views in nine postures
(turned by 10 and 20 degrees, leaning by 10 degrees to a side, by 15 degrees forwards and backwards), whole and cropped
by 10 and 18 %. Upright ones resemble the mean chest on their head by 0.08 more at most; of those on their head, 60 % of
the whole lateral films and 92 % of the cropped ones resemble it more upright by this margin. Where the CT itself ends
obliquely within the film, as in a lean of a short CT, an upright one resembled it on its side by 0.17 more."""
_TURN_MARGINS = (0.0, TURN_MARGIN, HALF_TURN_MARGIN, TURN_MARGIN)
"""By quarter turns."""
PAIR_TURN_MARGIN = 0.1
"""The same for the sum of both films in one turn; simulated upright pairs resemble it more upright."""
SIGN_MARGIN = 0.1
"""Difference of the scores of film and negative above which the sign is clear; simulated films have 0.32 and more,
cropped by 18 % 0.15."""
_PIXELS = 32
_ZOOMS = (0.85, 1.0, 1.2, 1.45)
_SHIFTS = (-0.3, -0.15, 0.0, 0.15, 0.3)  # along the body, in half edges of the film
_BLUR_PIXELS = 4.0
_CONTRAST_FLOOR = 0.15


@dataclass(frozen=True)
class TurnScores:
    """Scores (-1..1) of one film in its four quarter turns, and what they say.

    Attributes:
        bright: of the film turned counterclockwise by 0, 90, 180 and 270 degrees.
        dark: of its negative in the same turns.
        view_margin: by how much it resembles its own view more than the other one, as it lies.
    """

    bright: tuple[float, float, float, float]
    dark: tuple[float, float, float, float]
    view_margin: float = 0.0

    @property
    def upright(self) -> float:
        """The better score of film and negative as it lies."""
        return max(self.bright[0], self.dark[0])

    @property
    def turn_deg(self) -> int:
        """By how much the film must be turned counterclockwise to stand upright: 0, 90, 180 or 270 degrees."""
        gains = {k: max(self.bright[k], self.dark[k]) - _TURN_MARGINS[k] for k in (1, 2, 3)}
        turned = max(gains, key=lambda k: gains[k])
        if gains[turned] > self.upright:
            return 90 * turned
        bright = max((1, 2, 3), key=lambda k: self.bright[k])
        # A film that lies on its side resembles the negative of an upright one, but the turned film more.
        beats = self.bright[bright] > max(self.dark[0], self.bright[0] + _TURN_MARGINS[bright])
        return 90 * bright if beats else 0

    @property
    def sign(self) -> int:
        """1 where dense tissue is bright, -1 where it is dark, 0 where that is unclear, of the film as it lies."""
        difference = self.bright[0] - self.dark[0]
        return 0 if abs(difference) <= SIGN_MARGIN else (1 if difference > 0 else -1)


def turn_scores(image: Tensor, covered: Tensor, expected: Tensor) -> TurnScores:
    """Scores of one film.

    Args:
        image: [n, n] film on a square frame; n a multiple of 32.
        covered: [n, n] bool: where the film has measured.
        expected: [2, n, n] films of the mean chest on the same frame, in the film's view and in the other one.
    """
    step = image.shape[-1] // _PIXELS
    small = functional.avg_pool2d(image[None, None].double(), step)[0, 0]
    mask = (functional.avg_pool2d(covered[None, None].double(), step)[0, 0] > 0.5).double()
    templates = _templates(expected.double())
    best = torch.zeros(4, 2, dtype=torch.float64)  # by turn and view
    least = torch.zeros(4, 2, dtype=torch.float64)
    for film, shapes in ((small, templates), (_flattened(small, mask), _flattened(templates, torch.ones_like(mask)))):
        for k in range(4):
            turned, seen = torch.rot90(film, k), torch.rot90(mask, k)
            both = [_correlations(*shown, shapes) for shown in ((turned, seen), (turned.flip(1), seen.flip(1)))]
            scores = torch.stack(both).reshape(-1, 2)
            best[k] += scores.amax(dim=0) / 2
            least[k] += scores.amin(dim=0) / 2
    bright, dark = best.amax(dim=1).tolist(), (-least).amax(dim=1).tolist()
    asked_view, other_view = (best[0] if bright[0] >= dark[0] else -least[0]).tolist()
    return TurnScores(
        (bright[0], bright[1], bright[2], bright[3]),
        (dark[0], dark[1], dark[2], dark[3]),
        view_margin=asked_view - other_view,
    )


def pair_turn_deg(pa: TurnScores, lateral: TurnScores) -> int:
    """By how much both films together must be turned counterclockwise: 0, 90, 180 or 270 degrees."""
    sums = [max(a, b) + max(c, d) for a, b, c, d in zip(pa.bright, pa.dark, lateral.bright, lateral.dark, strict=True)]
    best = max(range(4), key=lambda k: sums[k])
    return 90 * best if sums[best] > sums[0] + PAIR_TURN_MARGIN else 0


def without_white_frame(film: Tensor, covered: Tensor) -> tuple[Tensor, float]:
    """Where the film measured, without margins of constant, brightest pixels; and the widest margin's share."""
    inner, widest = covered.clone(), 0.0
    low, high = float(film[covered].min()), float(film[covered].max())
    white = film >= high - 0.02 * (high - low)
    for axis in (0, 1):
        lines = torch.nonzero(covered.any(dim=1 - axis)).flatten().tolist()
        for order in (lines, lines[::-1]):
            for count, k in enumerate(order):
                if not bool(white.select(axis, k)[covered.select(axis, k)].all()):
                    break
                inner.select(axis, k).fill_(False)
                widest = max(widest, (count + 1) / len(lines))
    return (inner, widest) if bool(inner.any()) else (covered, 0.0)


def _templates(expected: Tensor) -> Tensor:
    """[zooms * shifts * views, 32, 32], the view changing fastest, from the mean chest's films; beyond them is air."""
    places = (torch.arange(_PIXELS, dtype=torch.float64) + 0.5) * 2 / _PIXELS - 1
    pictures = []
    for zoom in _ZOOMS:
        for shift in _SHIFTS:
            rows, cols = torch.meshgrid(places / zoom + shift, places / zoom, indexing="ij")
            lattice = torch.stack([cols, rows], dim=-1)[None].expand(len(expected), -1, -1, -1)
            pictures.append(functional.grid_sample(expected[:, None], lattice, align_corners=False)[:, 0])
    return torch.cat(pictures)


def _correlations(film: Tensor, mask: Tensor, shapes: Tensor) -> Tensor:
    """Pearson's correlations [n] of a film [p, p] with pictures [n, p, p] where the mask is 1."""
    count = mask.sum().clamp_min(1.0)
    centred = (film - (film * mask).sum() / count) * mask
    others = (shapes - ((shapes * mask).sum(dim=(1, 2)) / count)[:, None, None]) * mask
    scale = others.square().sum(dim=(1, 2)).sqrt() * centred.square().sum().sqrt()
    return (others * centred).sum(dim=(1, 2)) / scale.clamp_min(1e-9)


def _flattened(pictures: Tensor, mask: Tensor) -> Tensor:
    """Pictures [..., p, p] without their local mean and contrast, where the mask is 1."""
    weight = _blurred(mask).clamp_min(1e-6)
    detail = (pictures - _blurred(pictures * mask) / weight) * mask
    contrast = (_blurred(detail.square()) / weight).sqrt()
    floor = _CONTRAST_FLOOR * detail.square().mean().sqrt()
    return detail / (contrast + floor).clamp_min(1e-9)


def _blurred(pictures: Tensor) -> Tensor:
    size = pictures.shape[-1]
    distance = torch.arange(size, dtype=torch.float64)[:, None] - torch.arange(size, dtype=torch.float64)[None, :]
    kernel = torch.exp(-0.5 * (distance / _BLUR_PIXELS).square())
    kernel = kernel / kernel.sum(dim=1).max()
    return kernel @ pictures @ kernel
