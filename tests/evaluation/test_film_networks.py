"""Film networks measured on cases that they were not trained on, with a known answer where there can be one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from support.film_chests import write_film_chests
from xrecon.errors import CheckpointError, InputError, OutputExistsError
from xrecon.evaluation.film_networks import REPORT_NAME, evaluate_films, film_report
from xrecon.evaluation.statistics.agreement import Agreement
from xrecon.models.checkpoint import save_model
from xrecon.models.film_network import FilmNet, FilmNetConfig
from xrecon.models.lung_network import LungNet, LungNetConfig
from xrecon.training.films.film_validation import FilmScore

CONFIG = FilmNetConfig(channels=(8, 8, 8), pixel_mm=12.0)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film_chests(tmp_path_factory.mktemp("measured_chests"), anatomies=8)


def stored(folder: Path, **metrics: object) -> Path:
    torch.manual_seed(0)
    save_model(FilmNet(CONFIG), folder, name="films", training_data="none", licence="none", metrics=metrics)
    return folder


def test_only_the_cases_left_out_are_measured(library: Path, tmp_path: Path) -> None:
    model = stored(tmp_path / "model", fold=1, folds=4)
    report, scores = evaluate_films(model, library, output=tmp_path)
    assert {score.case for score in scores} == {"bert"} and len(scores) == 8
    assert report.pairs == {"plain": 2, "confounders": 2, "sick": 4}
    values = json.loads((tmp_path / REPORT_NAME).read_text())
    assert "RESEARCH ONLY" in values["notice"] and len(values["scores"]) == 8
    assert str(tmp_path) not in (tmp_path / REPORT_NAME).read_text()
    with pytest.raises(OutputExistsError):
        evaluate_films(model, library, output=tmp_path)


def test_networks_that_have_seen_every_case_are_not_measured(library: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trained on all cases"):
        evaluate_films(stored(tmp_path / "all", fold=None, folds=4), library)
    lungs = LungNet(LungNetConfig(channels=(4, 6), pitch_mm=12.0))
    save_model(lungs, tmp_path / "lungs", name="lungs", training_data="none", licence="none")
    with pytest.raises(CheckpointError, match="expected film networks"):
        evaluate_films(tmp_path / "lungs", library)


def test_a_library_without_the_case_is_refused(tmp_path: Path) -> None:
    films = write_film_chests(tmp_path / "films", anatomies=3)
    with pytest.raises(InputError, match="no anatomy of the cases left out"):
        evaluate_films(stored(tmp_path / "model", fold=3, folds=4), films)


def score(case: str, estimate_ml: float, true_ml: float, *, other: bool = False) -> FilmScore:
    """A pair with `true_ml` of air on the left (none: healthy) in lungs of 4000 mL, of which the film shows some."""
    sick = true_ml > 0
    return FilmScore(
        case=case,
        anatomy=0,
        sample=0,
        pattern="apical" if sick else "",
        mechanism="offset" if sick else "",
        has_confounders=other,
        occupancy=true_ml / 2000.0,
        whole_chest=true_ml / 4000.0,
        width_mm=20.0 if sick else 0.0,
        side=1 if sick else -1,
        air_ml=true_ml,
        lungs_ml=(2000.0, 2000.0 - true_ml),
        view_air_ml={"pa": (0.0, estimate_ml)},
        view_lungs_ml={"pa": (2000.0, 2000.0 - estimate_ml)},
    )


def test_the_report_of_scores_with_a_known_answer() -> None:
    sick = [score(case, ml, ml) for case, ml in (("a", 250.0), ("b", 500.0), ("a", 700.0), ("b", 900.0))]
    healthy = [score("a", 30.0, 0.0), score("b", 10.0, 0.0), score("a", 600.0, 0.0, other=True)]
    report = film_report([*sick, *healthy])
    areas = report.areas["upright_at_least_10"]
    assert areas["plain"].value == 1.0 and areas["plain"].low == 1.0
    assert areas["confounders"].value == 0.5
    assert areas["all"].value == pytest.approx(10 / 12)
    assert report.areas["supine"]["all"].value is None
    assert report.areas["upright_width_19_to_1000_mm"]["plain"].value == 1.0
    assert report.areas["upright_at_least_10_offset"]["plain"].value == 1.0
    assert report.side_accuracy.value == 1.0
    assert isinstance(report.volume_ml, Agreement) and report.volume_ml.mean_absolute_error == 0.0
    assert isinstance(report.occupancy, Agreement) and report.occupancy.n == 7
    assert report.false_air_ml == {"plain": (20.0, 28.0), "confounders": (600.0, 600.0)}
    wrong = [replace(s, view_air_ml={"pa": (900.0, 0.0)}) for s in sick]
    assert film_report(wrong).side_accuracy.value == 0.0
