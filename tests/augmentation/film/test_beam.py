"""The two exposures: geometry within its range."""

from __future__ import annotations

import pytest

from xrecon.augmentation.film.beam import BeamSettings, draw_beams
from xrecon.augmentation.random_streams import stream
from xrecon.augmentation.steps import Exposures
from xrecon.films.simulation import film_pair
from xrecon.projector.attenuation import FILM_ENERGY_KEV


def test_the_angle_between_the_views_stays_in_its_range() -> None:
    nominal = Exposures(film_pair("chest", size=32), FILM_ENERGY_KEV)
    angles = []
    for seed in range(60):
        exposures, record = draw_beams(nominal, BeamSettings(between_views_deg=10.0), stream(seed, "beam"))
        beams, energy = exposures.beams, exposures.energy_kev
        angles.append(beams[1].angle_deg - beams[0].angle_deg)
        assert record["between_views_deg"] == pytest.approx(angles[-1])
        assert 50 <= energy <= 70
        for beam, nominal_beam in zip(beams, nominal.beams, strict=True):
            assert beam.pixel_at_isocentre_mm == pytest.approx(nominal_beam.pixel_at_isocentre_mm, rel=0.03)
            assert max(map(abs, beam.translation_mm)) <= 8.0
    assert 80 <= min(angles) < 84
    assert 96 < max(angles) <= 100
