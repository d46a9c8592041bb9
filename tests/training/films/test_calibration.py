"""Calibration of film networks: from scores of patients left out to probabilities and intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest

from xrecon.errors import InputError
from xrecon.training.films.calibration import calibrate, probabilities
from xrecon.training.films.film_validation import HEALTHY, FilmScore

LUNGS_ML = (2200.0, 1900.0)


def score(case: str, number: int, occupancy: float, side: int, air: tuple[float, float], presence: float) -> FilmScore:
    """A pair whose networks said `air` mL, and `presence` on the sick side (or on the right one)."""
    share = (presence, 0.02) if side != 1 else (0.02, presence)
    true_ml = occupancy * LUNGS_ML[max(side, 0)]
    return FilmScore(
        case=case,
        anatomy=number,
        sample=0,
        pattern="" if side == HEALTHY else "upright",
        mechanism="" if side == HEALTHY else "flow",
        has_confounders=False,
        occupancy=occupancy,
        whole_chest=true_ml / (true_ml + sum(LUNGS_ML)) if side != HEALTHY else 0.0,
        width_mm=0.0,
        side=side,
        air_ml=true_ml,
        lungs_ml=LUNGS_ML,
        view_air_ml={"pa": air, "lateral": air},
        view_lungs_ml={"pa": LUNGS_ML, "lateral": LUNGS_ML},
        presence=share,
    )


def scores(seed: int, count: int = 400) -> list[FilmScore]:
    """Networks that say 0.8 of the volume with an error, and 0 to 40 mL on healthy sides."""
    rng = np.random.default_rng(seed)
    result = []
    for number in range(count):
        case, false_ml = f"case_{number % 8}", rng.uniform(0, 40, 2)
        if number % 2:
            result.append(score(case, number, 0.0, HEALTHY, (false_ml[0], false_ml[1]), float(rng.uniform(0.01, 0.5))))
            continue
        side, occupancy = int(rng.integers(2)), float(rng.uniform(0.02, 0.6))
        said = occupancy * LUNGS_ML[side] * 0.8 * float(np.exp(0.15 * rng.standard_normal()))
        air = (said, false_ml[1]) if side == 0 else (false_ml[0], said)
        result.append(score(case, number, occupancy, side, air, float(rng.uniform(0.3, 0.99))))
    return result


def test_a_calibration_holds_on_new_patients() -> None:
    calibration = calibrate(scores(1), networks=["0" * 64])
    new = scores(2)
    assert 1.1 < calibration.factor < 1.4  # the networks see four fifths of the air
    held = []
    for s in new:
        estimate = calibration.occupancy(s.air_by_side_ml, s.lungs_by_side_ml, probabilities(calibration, s))
        held.append(estimate.low <= 100 * s.whole_chest <= estimate.high)
    assert 0.85 <= np.mean(held) <= 0.96
    healthy = [max(probabilities(calibration, s)) for s in new if s.side == HEALTHY]
    assert np.mean(np.array(healthy) >= calibration.presence.threshold) < 0.1
    sick = [probabilities(calibration, s)[s.side] for s in new if s.occupancy > 0.1]
    assert np.mean(np.array(sick) >= calibration.presence.threshold) > 0.95


def test_probabilities_are_frequencies() -> None:
    calibration = calibrate(scores(3, 1200), networks=["0" * 64])
    said, true = [], []
    for s in scores(4, 1200):
        said += probabilities(calibration, s)
        true += [float(s.side == side) for side in (0, 1)]
    assert np.mean(said) == pytest.approx(np.mean(true), abs=0.03)
    sure = np.array(said) > 0.9
    assert sure.any() and np.mean(np.array(true)[sure]) > 0.9


def test_few_pairs_are_refused() -> None:
    with pytest.raises(InputError, match="at least 20 healthy"):
        calibrate(scores(5, 30), networks=["0" * 64])


def test_cases_and_networks_are_recorded() -> None:
    calibration = calibrate(scores(6, 100), networks=["1" * 64, "2" * 64])
    assert calibration.networks == ("1" * 64, "2" * 64) and calibration.pairs == 100
    assert calibration.cases == tuple(f"case_{k}" for k in range(8))
    assert sum(band.pairs for band in calibration.bands) == 100
