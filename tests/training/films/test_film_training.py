"""Training of the film networks: what is picked, folds, a library that grows, resuming without a trace, measuring."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.film_chests import CASES, write_film_chests
from xrecon.config import load_config
from xrecon.data.film_library import FilmLibrary
from xrecon.errors import CheckpointError, ConfigError, InputError, OutputExistsError
from xrecon.models.checkpoint import load_model
from xrecon.models.film_network import FilmMaps, FilmNet
from xrecon.training.films.film_loop import train_films
from xrecon.training.films.film_loss import film_loss
from xrecon.training.films.film_pool import FilmPool
from xrecon.training.films.film_training import FilmTraining
from xrecon.training.films.film_validation import FilmScore, film_metrics, map_volume_ml, score_films

SMALL: dict[str, Any] = {
    "network": {"channels": [8, 8, 8], "pixel_mm": 6.0, "presence": True},
    "steps": 6,
    "batch": 2,
    "validate_every": 3,
    "validation_pairs": 8,
    "fold": 0,
}


def small(**changes: Any) -> FilmTraining:
    return load_config(FilmTraining, values={**SMALL, **changes})


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film_chests(tmp_path_factory.mktemp("film_chests"))


def run(library: Path, folder: Path, **options: Any) -> Any:
    return train_films(library, folder, progress=lambda _text: None, **{"settings": small(), **options})


def test_the_case_of_a_fold_is_never_trained_on(library: Path) -> None:
    for fold in range(4):
        pool = FilmPool(library, small(fold=fold))
        assert pool.left_out == (CASES[fold],)
        assert {entry.anatomy.case for entry in pool.training} == set(CASES) - {CASES[fold]}
        assert {entry.anatomy.case for entry in pool.validation} == {CASES[fold]}
    with pytest.raises(InputError, match="fold 4 does not exist"):
        FilmPool(library, small(fold=4))
    assert FilmPool(library, small(fold=None)).left_out == ()


def test_pairs_are_picked_by_occupancy_and_two_fifths_are_healthy(library: Path) -> None:
    pool = FilmPool(library, small())
    rng = np.random.default_rng(0)
    picked = [pool.training[i] for i in pool.picked(rng, 4000)]
    assert np.mean([entry.occupancy == 0 for entry in picked]) == pytest.approx(0.4, abs=0.03)
    sick = {(e.anatomy.number, e.sample): e.occupancy for e in pool.training if e.occupancy}
    counts = {key: sum((e.anatomy.number, e.sample) == key for e in picked) for key in sick}
    ratio = [counts[key] / occupancy**0.4 for key, occupancy in sick.items()]
    assert max(ratio) / min(ratio) < 1.6


def test_batches_repeat_and_have_the_shapes_of_the_network(library: Path) -> None:
    first, again = FilmPool(library, small()), FilmPool(library, small())
    inputs, target = first.batch(4)
    assert inputs.shape == (2, 2, 2, 64, 64) and target.air_mm.shape == (2, 2, 2, 64, 64)
    assert torch.equal(inputs, again.batch(4)[0]) and not torch.equal(inputs, first.batch(5)[0])
    only_pa = FilmPool(library, small(network={**SMALL["network"], "views": ["pa"]}))
    assert only_pa.batch(0)[0].shape == (2, 1, 2, 64, 64)


def test_coarser_films_are_means_of_the_stored_ones(library: Path) -> None:
    pool = FilmPool(library, small(network={**SMALL["network"], "pixel_mm": 12.0}))
    assert pool.factor == 2 and pool.batch(0)[0].shape[-2:] == (32, 32)
    with pytest.raises(InputError, match="cannot serve"):
        FilmPool(library, small(network={**SMALL["network"], "pixel_mm": 7.0}))


def test_new_anatomies_are_taken_up(tmp_path: Path) -> None:
    pool = FilmPool(write_film_chests(tmp_path, anatomies=4), small())
    assert len(pool.training) == 12
    write_film_chests(tmp_path, anatomies=4, first=4)
    assert len(pool.training) == 12
    pool.refresh()
    assert len(pool.training) == 24 and len(pool.validation) == 8


def test_a_library_without_anatomies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no anatomy to train on"):
        FilmPool(write_film_chests(tmp_path, anatomies=0), small())


def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(library: Path, tmp_path: Path) -> None:
    whole = run(library, tmp_path / "whole")
    parts = tmp_path / "parts"
    step = 0
    for _ in range(12):
        outcome = run(library, parts, resume=True, max_seconds=1e-6)
        assert outcome.step == step + 1 or outcome.finished
        step = outcome.step
        if outcome.finished:
            break
    assert whole.finished and outcome.finished
    assert whole.metrics == outcome.metrics
    first, second = (load_model(folder)[0].state_dict() for folder in (tmp_path / "whole", parts))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (tmp_path / "whole" / "scores-000003.json").is_file()


def test_a_run_leaves_settings_figures_and_weights_that_can_be_read(library: Path, tmp_path: Path) -> None:
    run(library, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == [3, 6]
    facts = json.loads((tmp_path / "run.json").read_text())
    assert facts["left_out"] == ["anna"] and "commit" in facts["environment"]
    network, information = load_model(tmp_path, dtype=torch.float32)
    assert isinstance(network, FilmNet) and information.family == "films"
    assert information.metrics["left_out_cases"] == ["anna"] and "anna" not in information.training_data
    scores = json.loads((tmp_path / "scores-000006.json").read_text())
    assert len(scores["scores"]) == 8 and "RESEARCH ONLY" in scores["notice"]


def test_lines_of_steps_that_are_done_again_are_dropped(library: Path, tmp_path: Path) -> None:
    run(library, tmp_path, max_seconds=1e-6)
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write('{"step": 5, "loss": 1}\n{"step": 0, "loss": 2}\n{"ste')
    run(library, tmp_path, resume=True, max_seconds=1e-6)
    kept = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"step": 0, "loss": 2} in kept and {"step": 5, "loss": 1} not in kept


def test_other_settings_and_existing_runs_are_refused(library: Path, tmp_path: Path) -> None:
    run(library, tmp_path, max_seconds=1e-6)
    with pytest.raises(OutputExistsError):
        run(library, tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        run(library, tmp_path, resume=True, settings=small(seed=3))
    assert run(library, tmp_path, overwrite=True, max_seconds=1e-6).step == 1
    with pytest.raises(ConfigError):
        small(sttps=3)


def test_a_run_does_not_go_on_with_another_library(tmp_path: Path) -> None:
    films = write_film_chests(tmp_path / "films", anatomies=4)
    run(films, tmp_path / "run", max_seconds=1e-6)
    write_film_chests(films, anatomies=4, first=4)
    assert run(films, tmp_path / "run", resume=True, max_seconds=1e-6).step == 2
    information = json.loads((films / "library.json").read_text())
    (films / "library.json").write_text(json.dumps({**information, "cases": {**information["cases"], "anna": "1"}}))
    with pytest.raises(CheckpointError, match="library of other cases"):
        run(films, tmp_path / "run", resume=True)


def test_a_network_learns_a_batch_by_heart(library: Path) -> None:
    pool = FilmPool(library, small(network={**SMALL["network"], "pixel_mm": 12.0}, batch=4))
    inputs, target = pool.batch(0)
    torch.manual_seed(0)
    network = FilmNet(pool.settings.network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = film_loss(network(inputs), target, air_weight=5.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_the_loss_is_least_at_the_truth_and_counts_the_side() -> None:
    generator = torch.Generator().manual_seed(0)
    air = 40.0 * (torch.rand(2, 2, 2, 16, 16, generator=generator) > 0.7)
    air[:, :, 1] = 0.0
    target = FilmMaps(torch.zeros_like(air), air, 80.0 * torch.rand(air.shape, generator=generator))
    side = torch.tensor([[8.0, -8.0]] * 2)
    truth = FilmMaps(torch.where(air > 0, 9.0, -9.0), air, target.lung_mm, side)
    best = float(film_loss(truth, target, air_weight=5.0))
    assert best < 0.02
    for worse in (
        replace(truth, air_logit=-truth.air_logit),
        replace(truth, air_mm=truth.air_mm + 5.0),
        replace(truth, lung_mm=truth.lung_mm * 0.5),
        replace(truth, presence_logit=-side),
    ):
        assert float(film_loss(worse, target, air_weight=5.0)) > best + 0.005


def test_volumes_of_exact_maps_are_those_of_the_truth(library: Path) -> None:
    pool = FilmPool(library, small())
    films = FilmLibrary(library)
    sample = films.read(films.anatomies()[0], 2)
    volume = map_volume_ml(torch.from_numpy(sample.air)[None], pool.views)
    assert volume.shape == (1, 2, 2)
    assert float(volume[0, 0, 0]) == pytest.approx(sample.meta["volumes_ml"]["air"], rel=1e-3)
    assert not volume[0, :, 1].any()


def score(air: tuple[float, float], *, side: int = -1, occupancy: float = 0.0, other: bool = False) -> FilmScore:
    true_ml = 3000.0 * occupancy
    return FilmScore(
        case="anna",
        anatomy=0,
        sample=0,
        pattern="" if side < 0 else "upright",
        mechanism="" if side < 0 else "flow",
        has_confounders=other,
        occupancy=occupancy,
        whole_chest=occupancy / 2,
        width_mm=0.0,
        side=side,
        air_ml=true_ml,
        lungs_ml=(2000.0, 2000.0),
        view_air_ml={"pa": air, "lateral": (0.0, 0.0)},
        view_lungs_ml={"pa": (2000.0, 2000.0), "lateral": (2000.0, 2000.0)},
        presence=(0.9, 0.1) if side == 0 else (0.1, 0.2),
    )


def test_figures_of_scores_with_a_known_answer() -> None:
    sick = [score((400.0, 10.0), side=0, occupancy=0.2), score((50.0, 20.0), side=1, occupancy=0.2)]
    healthy = [score((20.0, 0.0)), score((0.0, 100.0), other=True)]
    figures = film_metrics([*sick, *healthy])
    assert figures["pairs"] == {"plain": 1, "confounders": 1, "sick": 2, "upright_10": 2}
    assert figures["auc_upright_10"] == 0.75  # 400 and 50 against 20 and 100
    assert (figures["auc_upright_10_plain"], figures["auc_upright_10_confounders"]) == (1.0, 0.5)
    assert figures["auc_0.15_0.3"] == 0.75 and figures["auc_0.03_0.07"] is None
    assert figures["side_accuracy_10"] == 0.5
    assert figures["auc_upright_10_lateral"] == 0.5 and figures["auc_10_flow"] == 0.75
    # 0.9 and 0.2 against 0.2 and 0.2: two wins and two draws.
    assert figures["auc_upright_10_presence"] == 0.75
    assert figures["false_air_ml"]["median"] == 10.0
    assert film_metrics([])["auc_upright_10"] is None


def test_scores_do_not_depend_on_the_batch(library: Path) -> None:
    pool = FilmPool(library, small(bfloat16=False))
    torch.manual_seed(0)
    network = FilmNet(pool.settings.network)
    one, all_at_once = (score_films(network, pool, pool.validation, batch=batch) for batch in (1, 8))
    for a, b in zip(one, all_at_once, strict=True):
        assert a.highest_ml == pytest.approx(b.highest_ml, rel=1e-4)
        assert (a.case, a.side) == (b.case, b.side)


def test_a_run_begins_with_the_weights_of_another(library: Path, tmp_path: Path) -> None:
    first = run(library, tmp_path / "first")
    assert first.weights is not None
    short = small(steps=1, learning_rate=1e-12, weight_decay=0.0)
    run(library, tmp_path / "second", settings=short, start=tmp_path / "first")
    before, after = (load_model(tmp_path / name, dtype=torch.float32)[0].state_dict() for name in ("first", "second"))
    assert all(torch.allclose(before[key], after[key], atol=1e-3) for key in before)
    facts = json.loads((tmp_path / "second" / "run.json").read_text())
    assert facts["started_with"] == load_model(tmp_path / "first")[1].sha256
    assert "started_with" not in json.loads((tmp_path / "first" / "run.json").read_text())


def test_networks_that_have_seen_the_cases_left_out_start_nothing(library: Path, tmp_path: Path) -> None:
    run(library, tmp_path / "first")  # leaves out the first case
    with pytest.raises(CheckpointError, match=f"trained on {CASES[1]}, which this run leaves out"):
        run(library, tmp_path / "other", settings=small(fold=1), start=tmp_path / "first")
    wider = small(network={**SMALL["network"], "channels": [8, 8, 16]})
    with pytest.raises(CheckpointError, match="other settings"):
        run(library, tmp_path / "wider", settings=wider, start=tmp_path / "first")
    assert run(library, tmp_path / "all", settings=small(fold=None), start=tmp_path / "first").finished
