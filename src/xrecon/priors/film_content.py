"""What two films show, judged by their pixels alone: likeness to both views' mean chest, straight and mirrored.

The mean chest of the prior is projected under the geometry of each film, as PA and as lateral view, and correlated
with the film where the film measured. A film with dense tissue dark correlates negatively, whichever way it hangs; a
lateral film that was given as PA resembles the lateral mean chest more; a film that shows no chest resembles neither.
The limits below were chosen on films simulated from training CTs (benchmarks/film_content.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from xrecon.priors.chest import DENSITY_GRID
from xrecon.priors.film_turn import TurnScores, pair_turn_deg, turn_scores, without_white_frame
from xrecon.priors.films import EMPTY_LINE_INTEGRAL, FilmPair, line_integrals
from xrecon.projector.attenuation import hu_to_mu
from xrecon.radiograph import VIEWS, Radiograph
from xrecon.warp import Grid

PIXELS = 64
"""Pixels per edge at which films are compared with the mean chest."""
POLARITY_LIMIT = -0.1
"""Largest plus smallest correlation below which a film is a negative; whole simulated films have 0.33 and more."""
CHEST_LIMIT = 0.1
"""Largest absolute correlation below which a film shows no chest; simulated films have 0.3 and more, also cropped."""
SCORE_LIMIT = 0.33
"""Least score in the best of the four turns; simulated films have 0.5 and more, cropped by 18 % 0.45."""
TURNED_SCORE_LIMIT = 0.48
"""The same for a film that seems to be turned: pictures of other things also have a best turn. Chosen on the simulated
films of train CTs of `film_turn.HALF_TURN_MARGIN`, which have 0.50 and more in their best turn, less 0.02."""
FRAME_SHARE_LIMIT = 0.03
"""Least share of an edge's length that a white frame takes."""
WRONG_VIEW_MARGIN = 0.05
"""By how much a film of the wrong view resembles the other view more; simulated films of the right view
resemble their own by 0.05 more."""
SWAP_MARGIN = 0.15
"""The same, the sum of both films; simulated pairs resemble their own views by 0.39 more."""
MIRROR_MARGIN = 0.02
"""By how much a film must resemble the mean chest more when mirrored. A hint: disease can move heart and spine."""
SAME_FILM = 0.98
"""Correlation of two films that are the same one; PA and lateral film of one simulated chest reach 0.76."""
BODY_SHARE_LIMIT = 0.2
"""Least share of a film that is body; simulated films have 0.39 and more."""


class DrawableChest(Protocol):
    """A chest that can be drawn on any grid in HU."""

    def hu(self, grid: Grid) -> Tensor:
        """[D, H, W] HU on `grid`."""
        ...


@dataclass(frozen=True)
class FilmLikeness:
    """Correlations (-1..1) of one film with the mean chest, where the film measured.

    Attributes:
        straight: with the mean chest in the film's view.
        mirrored: the same, the film flipped left to right.
        other_straight: with the mean chest in the other view.
        other_mirrored: the same, the film flipped left to right.
    """

    straight: float
    mirrored: float
    other_straight: float
    other_mirrored: float

    @property
    def values(self) -> tuple[float, float, float, float]:
        """All four."""
        return self.straight, self.mirrored, self.other_straight, self.other_mirrored

    @property
    def best(self) -> float:
        """The better of straight and mirrored, in the film's view."""
        return max(self.straight, self.mirrored)

    @property
    def other_best(self) -> float:
        """The better of straight and mirrored, in the other view."""
        return max(self.other_straight, self.other_mirrored)

    @property
    def strength(self) -> float:
        """The largest absolute correlation."""
        return max(abs(value) for value in self.values)

    @property
    def polarity(self) -> float:
        """Largest plus smallest correlation: negative where dense tissue is dark."""
        return max(self.values) + min(self.values)

    @property
    def is_negative(self) -> bool:
        """Whether the film is a negative: its sign is clear, and is the same straight and mirrored."""
        stronger = max((self.values[:2], self.values[2:]), key=lambda values: max(abs(value) for value in values))
        return self.polarity < POLARITY_LIMIT and max(stronger) < 0

    def of_negative(self) -> FilmLikeness:
        """The correlations of the same film with dark and bright exchanged."""
        return FilmLikeness(*(-value for value in self.values))


@dataclass(frozen=True)
class FilmVerdict:
    """What one film shows.

    Attributes:
        likeness: correlations, after the inversion where the film is a negative.
        turns: scores in the four quarter turns, of the film as given.
        body_share: share of the film's pixels that are denser than the open beam, 0..1.
        is_inverted: dense tissue is dark.
        is_mirrored: it resembles the mean chest more when mirrored.
        is_other_view: it resembles the other view clearly more.
        has_unclear_sign: whether dense tissue is dark cannot be told.
        shows_no_chest: it resembles neither view.
        turn_deg: by how much it must be turned counterclockwise to stand upright: 0, 90, 180 or 270 degrees.
        frame_share: the widest margin of constant, brightest pixels, as share of the film's height or width.
    """

    likeness: FilmLikeness
    turns: TurnScores
    body_share: float
    is_inverted: bool
    is_mirrored: bool
    is_other_view: bool
    has_unclear_sign: bool
    shows_no_chest: bool
    turn_deg: int
    frame_share: float

    @property
    def has_white_frame(self) -> bool:
        """Whether a margin that is no film would be taken for the densest tissue."""
        return not self.is_inverted and not self.shows_no_chest and self.frame_share > FRAME_SHARE_LIMIT


@dataclass(frozen=True)
class PairVerdict:
    """What both films show together.

    Attributes:
        films: of the PA and of the lateral film.
        as_given: sum of both films' likeness to their views.
        exchanged: sum of their likeness to the other views.
        agreement: correlation of the films with each other.
        is_swapped: the films resemble the exchanged views clearly more.
        is_same_film: both are one film.
        turn_deg: by how much both films together must be turned counterclockwise: 0, 90, 180 or 270 degrees.
    """

    films: tuple[FilmVerdict, FilmVerdict]
    as_given: float
    exchanged: float
    agreement: float
    is_swapped: bool
    is_same_film: bool
    turn_deg: int


def judge_films(pair: FilmPair, mean: DrawableChest) -> PairVerdict:
    """Judge the films by their likeness to the mean chest of the prior."""
    compared = _comparison(pair, mean)
    turns = compared.turns()
    pa, lateral = (
        _film_verdict(film, likeness, scores, frame)
        for film, likeness, scores, frame in zip(
            pair.films, compared.likeness(), turns, compared.frame_shares, strict=True
        )
    )
    as_given = pa.likeness.best + lateral.likeness.best
    exchanged = pa.likeness.other_best + lateral.likeness.other_best
    chests = not (pa.shows_no_chest or lateral.shows_no_chest)
    agreement = pair_agreement(pair)
    return PairVerdict(
        (pa, lateral),
        as_given=as_given,
        exchanged=exchanged,
        agreement=agreement,
        is_swapped=chests and exchanged > as_given + SWAP_MARGIN,
        is_same_film=agreement > SAME_FILM,
        turn_deg=pair_turn_deg(*turns) if chests else 0,
    )


def _film_verdict(film: Radiograph, likeness: FilmLikeness, turns: TurnScores, frame_share: float) -> FilmVerdict:
    like_none = max(*turns.bright, *turns.dark) < SCORE_LIMIT
    like_none = like_none or (turns.turn_deg != 0 and max(*turns.bright, *turns.dark) < TURNED_SCORE_LIMIT)
    turn_deg = 0 if like_none else turns.turn_deg
    no_chest = like_none or (likeness.strength < CHEST_LIMIT and not turn_deg)
    negative_by_sign = turns.sign < 0 or (turns.sign == 0 and likeness.is_negative)
    inverted = not no_chest and not turn_deg and negative_by_sign
    if inverted:
        likeness, film = likeness.of_negative(), negative(film)
    return FilmVerdict(
        likeness,
        turns,
        body_share=body_share(film),
        is_inverted=inverted,
        is_mirrored=not no_chest and likeness.mirrored > likeness.straight + MIRROR_MARGIN,
        is_other_view=not no_chest
        and likeness.other_best > likeness.best + WRONG_VIEW_MARGIN
        and turns.view_margin < 0,
        has_unclear_sign=not no_chest and not turn_deg and turns.sign == 0 and likeness.polarity < 0,
        shows_no_chest=no_chest,
        turn_deg=turn_deg,
        frame_share=frame_share,
    )


def negative(film: Radiograph) -> Radiograph:
    """The film with dark and bright exchanged, as reading it with `invert` would have done."""
    return replace(film, image=1.0 - film.image)


@dataclass(frozen=True)
class _Comparison:
    """Both films and the mean chest's films beside each other, on square frames.

    Attributes:
        films: [2, n, n], PA and lateral as given.
        covered: [2, n, n] bool: where they have measured, without white frames.
        expected: [2, 2, n, n]: for each film the mean chest in its view and in the other one.
        frame_shares: of both films.
    """

    films: Tensor
    covered: Tensor
    expected: Tensor
    frame_shares: tuple[float, float]

    def likeness(self) -> tuple[FilmLikeness, FilmLikeness]:
        """Correlations of each film with the mean chest."""
        likeness = []
        for image, seen, pictures in zip(self.films, self.covered, self.expected, strict=True):
            correlations = [
                correlation(picture[mask], like[mask])
                for like in pictures
                for picture, mask in ((image, seen), (image.flip(1), seen.flip(1)))
            ]
            likeness.append(FilmLikeness(*correlations))
        return likeness[0], likeness[1]

    def turns(self) -> tuple[TurnScores, TurnScores]:
        """Scores of each film in its four quarter turns."""
        pa, lateral = (turn_scores(*of) for of in zip(self.films, self.covered, self.expected, strict=True))
        return pa, lateral


def film_likeness(pair: FilmPair, mean: DrawableChest) -> tuple[FilmLikeness, FilmLikeness]:
    """Likeness of the PA and of the lateral film to the mean chest.

    Args:
        pair: the films as given, calibrated or not: a correlation knows no gain.
        mean: the mean chest of the prior.
    """
    return _comparison(pair, mean).likeness()


def _comparison(pair: FilmPair, mean: DrawableChest) -> _Comparison:
    mu = hu_to_mu(mean.hu(DENSITY_GRID))
    views = pair.views(PIXELS)
    turned = [
        replace(view, angle_deg=other.angle_deg, mirrored=other.mirrored)
        for view, other in zip(views, reversed(views), strict=True)
    ]
    expected = line_integrals(mu, DENSITY_GRID, [*views, *turned]).cpu()
    films = pair.values(PIXELS, torch.device("cpu"))
    covered = pair.covered(PIXELS, torch.device("cpu")) > 0
    inner = [without_white_frame(film, seen)[0] for film, seen in zip(films, covered, strict=True)]
    whole = [torch.from_numpy(film.image.copy()) for film in pair.films]
    shares = [without_white_frame(image, torch.ones_like(image, dtype=torch.bool))[1] for image in whole]
    return _Comparison(
        films,
        torch.stack(inner),
        torch.stack([expected[: len(VIEWS)], expected[len(VIEWS) :]], dim=1),
        (shares[0], shares[1]),
    )


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson's correlation of two sets of values; 0 where either is constant."""
    values = torch.stack([first.flatten(), second.flatten()]).double()
    if values.shape[1] < 2 or bool((values.std(dim=1) == 0).any()):
        return 0.0
    return float(torch.corrcoef(values)[0, 1])


def pair_agreement(pair: FilmPair) -> float:
    """Absolute correlation of the films with each other where both measured, the better of straight and mirrored."""
    films = pair.values(PIXELS, torch.device("cpu"))
    seen = (pair.covered(PIXELS, torch.device("cpu")) > 0).all(dim=0)
    both = seen & seen.flip(1)
    return max(abs(correlation(films[0][both], other[both])) for other in (films[1], films[1].flip(1)))


def body_share(film: Radiograph) -> float:
    """Share of the film's pixels that are denser than the open beam, 0..1.

    Display values have no zero: there the darkest pixel is taken for the open beam, and 5 % of the range above it.
    """
    values = torch.from_numpy(film.image.copy())
    if film.is_quantitative:
        return float((values > EMPTY_LINE_INTEGRAL).float().mean())
    low, high = float(values.min()), float(values.max())
    return float((values > low + 0.05 * (high - low)).float().mean())
