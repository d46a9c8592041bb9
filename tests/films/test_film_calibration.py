"""What the numbers of film networks mean: probabilities, intervals, and a file that can be trusted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from xrecon.errors import CheckpointError, OutputExistsError
from xrecon.films.film_calibration import (
    CALIBRATION_NAME,
    FilmCalibration,
    OccupancyBand,
    PresenceCalibration,
    load_calibration,
)

PRESENCE = PresenceCalibration(intercept=-3.0, volume=0.9, presence=0.5, threshold=0.6, prevalence=0.25)
BANDS = (
    OccupancyBand(up_to=2.0, below=2.0, above=1.5, pairs=40),
    OccupancyBand(up_to=100.0, below=4.0, above=6.0, pairs=60),
)
CALIBRATION = FilmCalibration(
    presence=PRESENCE, factor=1.1, bands=BANDS, cases=("a", "b"), pairs=100, networks=("0" * 64,)
)


def test_more_air_and_a_surer_head_mean_a_higher_probability() -> None:
    by_volume = [CALIBRATION.probability(volume, 0.5) for volume in (0.0, 20.0, 100.0, 800.0)]
    assert by_volume == sorted(by_volume) and 0 < by_volume[0] < 0.1 and 0.7 < by_volume[-1] < 1
    assert CALIBRATION.probability(50.0, 0.9) > CALIBRATION.probability(50.0, 0.5) > CALIBRATION.probability(50.0, 0.1)
    assert CALIBRATION.probability(50.0, None) == CALIBRATION.probability(50.0, 0.5)
    assert CALIBRATION.probability(0.0, 0.0) > 0 and CALIBRATION.probability(1e6, 1.0) < 1


def test_the_interval_is_that_of_the_band_and_stays_within_the_chest() -> None:
    air, lung = (0.0, 400.0), (2000.0, 1600.0)
    estimate = CALIBRATION.occupancy(air, lung, (0.1, 1.0))
    assert estimate.percent == pytest.approx(11.0)  # 400 of 4000 mL, times 1.1
    assert (estimate.low, estimate.high) == (pytest.approx(7.0), pytest.approx(17.0))
    unlikely = CALIBRATION.occupancy(air, lung, (0.1, 0.1))
    assert unlikely.percent == pytest.approx(1.1 * 100 * 40 / 3640)
    assert unlikely.low == 0.0 and unlikely.high == pytest.approx(unlikely.percent + 1.5)
    assert CALIBRATION.occupancy((3000.0, 3000.0), (1.0, 1.0), (1.0, 1.0)).high == 100.0


def test_a_calibration_comes_back_from_its_file(tmp_path: Path) -> None:
    assert load_calibration(tmp_path) is None
    CALIBRATION.save(tmp_path)
    assert load_calibration(tmp_path) == CALIBRATION
    assert "NOT FOR DIAGNOSIS" in (tmp_path / CALIBRATION_NAME).read_text()
    with pytest.raises(OutputExistsError):
        CALIBRATION.save(tmp_path)


@pytest.mark.parametrize("damage", ["{", '{"presence": 3}', "[]"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    (tmp_path / CALIBRATION_NAME).write_text(damage)
    with pytest.raises(CheckpointError, match=CALIBRATION_NAME):
        load_calibration(tmp_path)


def test_bands_must_rise_to_the_whole_chest(tmp_path: Path) -> None:
    values = json.loads(CALIBRATION.model_dump_json())
    values["bands"] = values["bands"][:1]
    with pytest.raises(ValidationError, match="100 %"):
        FilmCalibration.model_validate(values)
