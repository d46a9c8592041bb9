"""Film networks on a patient's films: maps, volumes and shares by side, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from xrecon.errors import CheckpointError, InputError
from xrecon.films.simulation import simulate
from xrecon.inference.film_findings import FilmFindings, film_findings
from xrecon.models.checkpoint import save_model
from xrecon.models.film_network import FilmNet, FilmNetConfig
from xrecon.models.lung_network import LungNet, LungNetConfig
from xrecon.phantoms.thorax import Phantom
from xrecon.radiograph import Radiograph

Films = dict[str, Radiograph]


@pytest.fixture(scope="module")
def films(phantom64: Phantom) -> Films:
    pa, lateral = simulate(phantom64.volume, size=96)
    return {"pa": pa, "lateral": lateral}


def stored(folder: Path, **settings: object) -> Path:
    torch.manual_seed(0)
    config = FilmNetConfig.model_validate({"channels": (8, 8, 8), "pixel_mm": 6.0, "presence": True, **settings})
    save_model(FilmNet(config), folder, name="films", training_data="none", licence="none")
    return folder


def test_maps_and_figures_belong_together(films: Films, tmp_path: Path) -> None:
    findings = film_findings(films, stored(tmp_path))
    assert findings.views == ("pa", "lateral") and findings.air_mm.shape == (2, 2, 64, 64)
    assert 0 <= findings.air_probability.min() <= findings.air_probability.max() <= 1
    assert findings.presence is not None and all(0 < share < 1 for share in findings.presence)
    by_hand = findings.expected_air_mm[:, 1].sum(axis=(1, 2)).mean() * 6.0**2 / 1000.0
    assert findings.air_ml["left"] == pytest.approx(float(by_hand), rel=1e-4)
    air, lung = findings.air_ml, findings.lung_ml
    whole = sum(air.values()) / (sum(air.values()) + sum(lung.values()))
    assert findings.occupancy["whole_chest"] == pytest.approx(whole)
    assert findings.occupancy["right"] == pytest.approx(air["right"] / (air["right"] + lung["right"]))


def test_gain_and_offset_of_the_files_do_not_matter(films: Films, tmp_path: Path) -> None:
    folder = stored(tmp_path)
    changed = {
        name: Radiograph(300.0 + 40.0 * film.image, name, film.geometry, quantity="display")
        for name, film in films.items()
    }
    first, second = film_findings(films, folder), film_findings(changed, folder)
    assert np.abs(first.air_mm - second.air_mm).max() < 0.1


def test_a_network_of_the_pa_film_needs_no_lateral_one(films: Films, tmp_path: Path) -> None:
    folder = stored(tmp_path, views=("pa",), presence=False)
    findings = film_findings({"pa": films["pa"]}, folder)
    assert findings.views == ("pa",) and findings.presence is None
    assert findings.air_mm.shape == (1, 2, 64, 64)


def test_films_and_folders_that_do_not_fit_are_refused(films: Films, tmp_path: Path) -> None:
    folder = stored(tmp_path / "films")
    with pytest.raises(InputError, match="need the lateral film"):
        film_findings({"pa": films["pa"]}, folder)
    with pytest.raises(InputError, match="exchange the films"):
        film_findings({"pa": films["lateral"], "lateral": films["pa"]}, folder)
    lungs = LungNet(LungNetConfig(channels=(4, 6), pitch_mm=12.0))
    save_model(lungs, tmp_path / "lungs", name="lungs", training_data="none", licence="none")
    with pytest.raises(CheckpointError, match="expected film networks"):
        film_findings(films, tmp_path / "lungs")


def test_an_empty_chest_has_no_share(films: Films, tmp_path: Path) -> None:
    findings = film_findings(films, stored(tmp_path))
    nothing = np.zeros_like(findings.air_mm)
    empty = FilmFindings(findings.views, findings.geometry, nothing, nothing, nothing, None, "0")
    assert empty.occupancy == {"right": 0.0, "left": 0.0, "whole_chest": 0.0}
