"""What a reconstruction does with films that look inverted, turned, swapped, mirrored, framed or like no chest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from xrecon.errors import InputError
from xrecon.inference.result import ViewResidual
from xrecon.priors.film_content import (
    BODY_SHARE_LIMIT,
    CHEST_LIMIT,
    SCORE_LIMIT,
    DrawableChest,
    FilmVerdict,
    PairVerdict,
    judge_films,
    negative,
)
from xrecon.priors.films import FilmPair
from xrecon.radiograph import VIEWS, Radiograph

RESIDUAL_LIMIT = 0.9
"""Largest residual of a result that is taken as a fit; simulated films of train CTs leave 0.66 at most when refined,
and 0.76 without refinement (the atlas)."""
_FORCE = "or go on with --force (force=True)"
_NAMES = {"pa": "PA", "lateral": "lateral"}
_TURNS = {90: "by 90 degrees counterclockwise", 180: "by 180 degrees", 270: "by 90 degrees clockwise"}
_LYING = {90: "lies on its side", 180: "stands on its head", 270: "lies on its side"}
_OTHER = {"pa": "lateral", "lateral": "PA"}


@dataclass(frozen=True)
class CheckedFilms:
    """Films that a reconstruction may use.

    Attributes:
        films: as given, or with dark and bright exchanged.
        notes: what a reader should know of the check; notes on an inversion are with the films.
        summary: the verdict and its measures, by view, for the JSON beside the CT.
    """

    films: FilmPair
    notes: tuple[str, ...]
    summary: Mapping[str, Any]


def check_films(pair: FilmPair, mean: DrawableChest, *, force: bool) -> CheckedFilms:
    """Judge the films by their content; display films with dense tissue dark are inverted.

    Args:
        pair: the films as given.
        mean: the mean chest of the prior.
        force: take the films as they are and only say what was seen.

    Raises:
        InputError: turned, swapped, the same film twice, a white frame, no chest, or line integrals with dense tissue
            dark; not with `force`.
    """
    verdict = judge_films(pair, mean)
    faults = _pair_faults(verdict) or _film_faults(verdict)
    faults += [
        _negative_line_integrals(film, seen)
        for film, seen in zip(pair.films, verdict.films, strict=True)
        if seen.is_inverted and film.is_quantitative
    ]
    if faults and not force:
        raise InputError("; ".join(faults))
    notes = [f"forced: {fault}" for fault in faults]
    films = []
    for film, seen in zip(pair.films, verdict.films, strict=True):
        used, more = _with_polarity(film, seen, force=force)
        films.append(used)
        notes += more
        notes += _hints(film.view, seen)
    summary = {
        **{
            film.view: _film_summary(seen, was_inverted=used is not film)
            for film, used, seen in zip(pair.films, films, verdict.films, strict=True)
        },
        "pair": {
            "as_given": round(verdict.as_given, 3),
            "exchanged": round(verdict.exchanged, 3),
            "agreement": round(verdict.agreement, 3),
            "looks_swapped": verdict.is_swapped,
            "turn_deg": verdict.turn_deg,
            "looks_like_one_film": verdict.is_same_film,
        },
    }
    changed = any(used is not film for film, used in zip(pair.films, films, strict=True))
    return CheckedFilms(replace(pair, films=(films[0], films[1])) if changed else pair, tuple(notes), summary)


def residual_notes(residual: Mapping[str, ViewResidual]) -> tuple[str, ...]:
    """Notes on films that the result does not explain, refined or not."""
    return tuple(
        f"the result does not fit the {_NAMES[view]} film (residual {misfit.after:.0%} of the film's own variation, "
        f"expected below {RESIDUAL_LIMIT:.0%}): do not trust it; check view, inversion and pixel spacing of the film"
        for view, misfit in residual.items()
        if not misfit.after <= RESIDUAL_LIMIT
    )


def _pair_faults(verdict: PairVerdict) -> list[str]:
    if verdict.is_same_film:
        message = f"both films show the same picture (correlation {verdict.agreement:.2f} with each other)"
        return [f"{message}: give one PA and one lateral film, {_FORCE}"]
    if verdict.turn_deg:
        return [_turned_pair(verdict)]
    if verdict.is_swapped:
        sums = f"sum of the correlations {verdict.exchanged:.2f}, as given {verdict.as_given:.2f}"
        message = f"the films look swapped: they resemble the mean chest in the other views more ({sums})"
        return [f"{message}: exchange --pa and --lateral, {_FORCE}"]
    return []


def _turned_pair(verdict: PairVerdict) -> str:
    turn = verdict.turn_deg
    turned, given = (sum(_score(seen, of) for seen in verdict.films) for of in (turn, 0))
    lie = "stand on their heads" if turn == 180 else "lie on their sides"
    return (
        f"both films {lie}: together they resemble the mean chest more when turned (sum of the scores {turned:.2f} "
        f"against {given:.2f} as given): turn both pictures {_TURNS[turn]} and give them again, {_FORCE}"
    )


def _score(seen: FilmVerdict, turn_deg: int) -> float:
    k = turn_deg // 90
    return max(seen.turns.bright[k], seen.turns.dark[k])


def _film_faults(verdict: PairVerdict) -> list[str]:
    faults = []
    for view, seen in zip(VIEWS, verdict.films, strict=True):
        like = seen.likeness
        if seen.turn_deg:
            scores = f"{_score(seen, seen.turn_deg):.2f} against {_score(seen, 0):.2f} as given"
            faults.append(
                f"the {_NAMES[view]} film {_LYING[seen.turn_deg]}: it resembles the mean chest more when turned "
                f"(score {scores}): turn the picture {_TURNS[seen.turn_deg]} and give it again, {_FORCE}"
            )
        elif seen.shows_no_chest:
            faults.append(
                f"the {_NAMES[view]} film looks like no chest film in either view (largest correlation with the mean "
                f"chest {like.strength:.2f}, expected {CHEST_LIMIT:g} and more; score in the best of four turns "
                f"{max(*seen.turns.bright, *seen.turns.dark):.2f}, expected {SCORE_LIMIT:g} and more): give an upright "
                f"chest film, cropped to the film itself, {_FORCE}"
            )
        elif seen.has_white_frame:
            faults.append(
                f"the {_NAMES[view]} film has a white frame ({seen.frame_share:.0%} of its length at the widest), "
                f"which would be taken for the densest tissue: crop it away, {_FORCE}"
            )
        elif seen.is_other_view:
            faults.append(
                f"the film given as {_NAMES[view]} looks like a {_OTHER[view]} film (correlation with the mean "
                f"chest {like.other_best:.2f} as {_OTHER[view]}, {like.best:.2f} as {_NAMES[view]}): give the upright "
                f"{_NAMES[view]} film, {_FORCE}"
            )
    return faults


def _negative_line_integrals(film: Radiograph, seen: FilmVerdict) -> str:
    return (
        f"the {_NAMES[film.view]} film holds line integrals, but looks inverted (correlation with the mean chest "
        f"{-seen.likeness.best:.2f}): line integrals have no inverse; simulate or convert the film again, {_FORCE}"
    )


def _with_polarity(film: Radiograph, seen: FilmVerdict, *, force: bool) -> tuple[Radiograph, list[str]]:
    """The film with dense tissue bright, unless that was decided by the user; and what is to be said of it."""
    if not seen.is_inverted or film.is_quantitative:
        return film, []
    looks = (
        f"the {_NAMES[film.view]} film looks inverted, dense tissue is dark (correlation with the mean chest "
        f"{-seen.likeness.best:.2f}, inverted {seen.likeness.best:.2f})"
    )
    if film.inversion_asked:
        return film, [f"{looks}; it was left as --invert or --no-invert (invert=...) says"]
    if force:
        return film, [f"{looks}; it was left as it is by --force: give --invert if it is (invert=True)"]
    note = f"{looks}; it was inverted: if that is wrong, give --no-invert (invert=False)"
    return replace(negative(film), notes=(*film.notes, note)), [note]


def _hints(view: str, seen: FilmVerdict) -> list[str]:
    hints = []
    like = seen.likeness
    if seen.is_mirrored:
        hints.append(
            f"the {view} film resembles the mean chest more when mirrored (correlation {like.mirrored:.2f} against "
            f"{like.straight:.2f}): if it is hung the other way round, use --mirror-{view} (mirror=True)"
        )
    if seen.has_unclear_sign:
        hints.append(
            f"it is unclear whether the {_NAMES[view]} film is inverted: it resembles the mean chest neither way "
            f"(correlation {like.best:.2f}): look at it, and give --invert or --no-invert (invert=...)"
        )
    if seen.body_share < BODY_SHARE_LIMIT:
        hints.append(
            f"only {seen.body_share:.0%} of the {_NAMES[view]} film is denser than the open beam, expected "
            f"{BODY_SHARE_LIMIT:.0%} and more: the result is not to be trusted; crop the film to the chest"
        )
    return hints


def _film_summary(seen: FilmVerdict, *, was_inverted: bool) -> dict[str, Any]:
    like = seen.likeness
    return {
        "looks": _look(seen),
        "was_inverted": was_inverted,
        "correlation_straight": round(like.straight, 3),
        "correlation_mirrored": round(like.mirrored, 3),
        "correlation_other_view": round(like.other_best, 3),
        "body_share": round(seen.body_share, 3),
        "scores_bright_by_turn": [round(score, 3) for score in seen.turns.bright],
        "scores_dark_by_turn": [round(score, 3) for score in seen.turns.dark],
    }


def _look(seen: FilmVerdict) -> str:
    words = [
        word
        for word, applies in (
            ("no chest", seen.shows_no_chest),
            ("turned", bool(seen.turn_deg)),
            ("framed", seen.has_white_frame),
            ("inverted", seen.is_inverted),
            ("mirrored", seen.is_mirrored),
            ("other view", seen.is_other_view),
            ("of unclear sign", seen.has_unclear_sign),
        )
        if applies
    ]
    return " and ".join(words) or "as expected"
