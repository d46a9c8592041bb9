"""The pneumothorax study: its plan, its arithmetic on made-up rows, and the whole chain on artificial chests."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from support.dataset_factory import random_case, write_dataset
from xrecon.anatomy.frame import thorax_centre
from xrecon.cli.app import build_app
from xrecon.data.dataset import PreparedDataset
from xrecon.errors import InputError
from xrecon.evaluation.cases import FilmTaking, file_sources, healthy_sources, prepared_sources
from xrecon.evaluation.studies.pneumothorax_job import change_of_density
from xrecon.evaluation.studies.pneumothorax_plan import BLIND, HEALTHY_CT, OTHER, TRUE_CT, plan_plants
from xrecon.evaluation.studies.pneumothorax_summary import summarise_study
from xrecon.phantoms.thorax import Phantom
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.segmentation import Segmentation
from xrecon.volume import RESEARCH_NOTICE


def test_plan_is_balanced_and_seeded() -> None:
    found = plan_plants(4, sizes=(0.1, 0.4), repeats=2, seed=7)
    assert all(plants[0].occupancy == 0.0 for plants in found)
    for size in (0.1, 0.4):
        own = [one for plants in found for one in plants if one.occupancy == size]
        assert {one.side for one in own} == {"right", "left"}
        assert {one.pattern for one in own} == {"upright", "supine"}
        assert {one.mechanism for one in own} == {"flow", "offset"}
    seeds = [one.seed for plants in found for one in plants[1:]]
    assert len(set(seeds)) == len(seeds)
    assert plan_plants(4, sizes=(0.1, 0.4), repeats=2, seed=7) == found
    for wrong in ((), (0.001,), (0.95,)):
        with pytest.raises(InputError, match="sizes"):
            plan_plants(1, sizes=wrong)


def test_an_unknown_mechanism_is_refused() -> None:
    with pytest.raises(InputError, match="mechanisms must be some of flow, offset, got magic"):
        plan_plants(1, mechanisms=("magic",))


def row(patient: str, asked: float, found_right: float, *, model: str = "m", planted: float = 100.0) -> dict[str, Any]:
    share = found_right / 30.0
    return {
        "case": patient, "patient": patient, "plant": int(asked > 0), "model": model, "asked": asked,
        "side": "right" if asked else "none", "pattern": "upright",
        "true": {"occupancy": 100 * asked, "whole_chest": 50 * asked, "air_ml": planted if asked else 0.0},
        "found": {"whole_chest": share, "right": share, "left": 0.0, "right_air_ml": found_right, "left_air_ml": 0.0},
        "air_dice": 0.5,
        "change": {"true": -200.0, "found": -50.0, "mirror_true": 0.0, "mirror_found": -10.0} if asked else None,
    }  # fmt: skip


def test_figures_of_made_up_rows_by_hand() -> None:
    rows = [row("a", 0.3, 80.0), row("b", 0.3, 5.0), row("a", 0.0, 0.0), row("b", 0.0, 20.0)]
    found = summarise_study(rows, detect_ml=10.0)["m"]
    assert (found.sensitivity.value, found.sensitivity.of) == (0.5, 2)
    assert found.specificity.value == 0.5
    assert found.side.value == 1.0 and found.side.of == 1
    # Scores 80, 5 against 0, 20: three of four pairs the right way round.
    assert found.auc.value == pytest.approx(0.75)
    (size,) = found.by_size
    assert size.recovered_share.value == pytest.approx((0.8 + 0.05) / 2)
    assert size.change_share.value == pytest.approx(0.25)
    assert size.mirror_share.value == pytest.approx(0.05)
    assert found.occupancy.n == 4


def test_a_refusal_is_no_detection_and_is_counted() -> None:
    refused = row("a", 0.3, 0.0)
    refused["found"] = dict.fromkeys(refused["found"])
    found = summarise_study([refused, row("b", 0.3, 50.0), row("b", 0.0, 0.0)])["m"]
    assert found.refused == 1
    assert found.sensitivity.value == 0.5
    assert (found.auc.n, found.auc.of) == (2, 3)
    assert found.occupancy.n == 2


def with_films(values: dict[str, Any], right: float, percent: float) -> dict[str, Any]:
    """A row whose film networks state a probability of the right side, and an occupancy of +- 5 points."""
    said = {"right_probability": right, "left_probability": 0.1, "percent": percent}
    return {**values, "mechanism": "flow", "films": {**said, "low": percent - 5.0, "high": percent + 5.0}}


def test_what_the_films_say_is_counted_by_itself() -> None:
    rows = [
        with_films(row("a", 0.3, 80.0), 0.9, 14.0),  # 15 % are true
        with_films(row("b", 0.3, 0.0), 0.05, 2.0),
        with_films(row("a", 0.0, 0.0), 0.2, 1.0),
        with_films(row("b", 0.0, 0.0), 0.3, 9.0),
    ]
    figures = summarise_study(rows)["m"]
    large = next(group for group in figures.by_group if group.name == "upright, at least 10% of a side")
    assert large.n == 2 and large.sensitivity.value == 0.5
    assert large.film_side is not None and large.film_side.value == 0.5
    # Probabilities 0.9 and 0.1 against 0.2 and 0.3.
    assert large.film_auc is not None and large.film_auc.value == pytest.approx(0.5)
    assert figures.films is not None and figures.films.covered.value == 0.5
    assert figures.films.interval_width.value == pytest.approx(10.0)
    without = summarise_study([row("a", 0.3, 80.0), row("a", 0.0, 0.0)])["m"]
    assert without.films is None and without.by_group[0].film_auc is None


def test_plants_are_counted_by_width() -> None:
    narrow, wide = row("a", 0.05, 0.0), row("b", 0.3, 80.0)
    narrow["true"]["width_mm"], wide["true"]["width_mm"] = 8.0, 30.0
    groups = {g.name: g for g in summarise_study([narrow, wide, row("a", 0.0, 0.0)])["m"].by_group}
    assert groups["0 to 9 mm wide"].sensitivity.value == 0.0 and groups["over 19 mm wide"].sensitivity.value == 1.0
    assert "9 to 12 mm wide" not in groups and groups["upright, under 10%"].n == 1


def test_films_of_a_stand_are_taken_as_asked_for(phantom64_file: Path) -> None:
    (source,) = file_sources([("phantom", phantom64_file)], size=64, geometry="chest")
    stand = replace(source, film=FilmTaking(pixels=160, physics="clinical")).open()
    first, again, other = (stand.films(stand.volume, seed=seed)[0] for seed in (1, 1, 2))
    assert first.image.shape == (160, 160) and first.quantity == "display"
    assert np.array_equal(first.image, again.image) and not np.array_equal(first.image, other.image)


def test_change_of_density_tells_the_side() -> None:
    labels, air = np.zeros((4, 4, 8), np.uint8), np.zeros((4, 4, 8), np.uint8)
    labels[..., :3], labels[..., 5:] = 1, 2
    labels[..., 0], air[..., 0] = 3, 1
    truth = Segmentation(labels, air, np.eye(4))
    true = np.zeros(labels.shape)
    true[..., 0] = -150.0
    blurred = np.zeros(labels.shape)
    blurred[..., 0], blurred[..., 7] = -60.0, -60.0  # darkens both sides alike
    found = change_of_density(blurred, true, truth, side="right")
    assert found == {"true": -150.0, "found": -60.0, "mirror_true": 0.0, "mirror_found": -60.0}
    nothing = change_of_density(true, true, Segmentation(labels * 0, air * 0, np.eye(4)), side="right")
    assert nothing["found"] is None


def test_films_of_a_planted_case_differ_only_by_the_plant(chests: Path) -> None:
    source = prepared_sources(PreparedDataset(chests, "test"))[0]
    chest = source.open()
    sick, truth = plant_pneumothorax(chest.volume, side="right", occupancy=0.4, pattern="lateral")
    before, after = chest.films(chest.volume), chest.films(sick)
    change = after[0].image - before[0].image
    middle = change.shape[1] // 2
    # Free air instead of lung on the patient's right, which the film shows on its left.
    assert change[:, :middle].min() < -0.05
    assert np.abs(change[:, middle + 4 :]).max() < 0.3 * np.abs(change[:, :middle]).max()
    assert chest.on_frame(sick) is sick and chest.truth_on_frame(truth) is truth


def test_cases_with_air_of_their_own_are_left_out(tmp_path: Path) -> None:
    sick, healthy = random_case(seed=1), random_case(seed=2)
    healthy = replace(healthy, air=np.zeros_like(healthy.air))
    folder = write_dataset(tmp_path, {"sick": "test", "healthy": "test"}, cases=[sick, healthy])
    dataset = PreparedDataset(folder, "test")
    assert [source.name for source in healthy_sources(dataset)] == ["healthy"]
    assert {source.name for source in prepared_sources(dataset)} == {"sick", "healthy"}  # the robustness study's
    alone = PreparedDataset(write_dataset(tmp_path / "b", {"sick": "test"}, cases=[sick]), "test")
    with pytest.raises(InputError, match="every test case has free pleural air"):
        healthy_sources(alone)
    # A reader who knows that the air is a bulla has the last word.
    assert [source.name for source in healthy_sources(alone, exempt=["sick"])] == ["sick"]
    with pytest.raises(InputError, match="no test case other; it has sick"):
        healthy_sources(alone, exempt=["other"])


def test_a_scanned_chest_meets_its_frame(phantom64: Phantom, phantom64_file: Path) -> None:
    (source,) = file_sources([("phantom", phantom64_file)], size=64, geometry="chest")
    chest = source.open()
    sick, truth = plant_pneumothorax(chest.volume, side="left", occupancy=0.4)
    framed, labels = chest.on_frame(sick), chest.truth_on_frame(truth)
    assert framed.shape == labels.shape == (64, 64, 64)
    assert framed.hu[labels.labels == 3].mean() < -900
    assert labels.air_side[labels.labels == 3].min() == 2
    assert np.nonzero(labels.labels == 3)[2].mean() > 32  # the patient's left
    assert np.allclose(framed.centre_mm, 0.0)
    assert thorax_centre(phantom64.volume).shape == (3,)
    assert chest.films(sick)[0].image.shape == (128, 128)


@pytest.fixture(scope="module")
def studied(chests: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "out"
    arguments = [
        "study",
        "pneumothorax",
        "--dataset",
        str(chests),
        "--models",
        "atlas",
        "--sizes",
        "0.4",
        "-o",
        str(out),
    ]
    done = CliRunner().invoke(build_app(), arguments)
    assert done.exit_code == 0, done.stderr
    return out


@pytest.mark.slow
def test_the_whole_chain_with_its_controls(studied: Path, chests: Path) -> None:
    summary = json.loads((studied / "summary.json").read_text(encoding="utf-8"))
    found = summary["results"]
    assert list(found) == [TRUE_CT, HEALTHY_CT, BLIND, "atlas", f"{OTHER}atlas"]
    assert summary["failures"] == []
    assert all(one["sensitivity"]["of"] == 2 and one["specificity"]["of"] == 2 for one in found.values())
    # The controls say what they must: all of the lesion, none of it, nothing seen.
    assert found[TRUE_CT]["by_size"][0]["change_share"]["value"] == pytest.approx(1.0)
    assert found[HEALTHY_CT]["by_size"][0]["change_share"]["value"] == 0.0
    assert found[BLIND]["by_size"][0]["change_share"]["value"] == 0.0
    assert found[HEALTHY_CT]["air_dice"]["value"] <= found[TRUE_CT]["air_dice"]["value"]
    assert abs(found["atlas"]["by_size"][0]["mirror_share"]["value"]) < 1
    assert summary["plants"]["one"][1]["seed"] != summary["plants"]["two"][1]["seed"]
    assert summary["notice"] == RESEARCH_NOTICE
    assert str(chests) not in (studied / "summary.json").read_text(encoding="utf-8")
    page = (studied / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 5
    assert "<script" not in page
    assert len((studied / "rows.csv").read_text(encoding="utf-8").splitlines()) == 1 + 2 * 2 * 5


@pytest.mark.slow
def test_a_study_goes_on_without_computing_again(studied: Path, chests: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = json.loads((studied / "summary.json").read_text(encoding="utf-8"))["results"]
    monkeypatch.setattr("xrecon.evaluation.models.reconstruct", None)  # would fail if it were called
    arguments = ["study", "pneumothorax", "--dataset", str(chests), "--models", "atlas", "--sizes", "0.4"]
    done = CliRunner().invoke(build_app(), [*arguments, "-o", str(studied), "--overwrite"])
    assert done.exit_code == 0, done.stderr
    assert json.loads((studied / "summary.json").read_text(encoding="utf-8"))["results"] == before


def test_unusable_requests_are_refused(chests: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (["--sizes", "big"], "--sizes big"),
        (["--sizes", "2"], "sizes must lie"),
        (["--model", "magic"], "unknown model"),
        (["--known-healthy", "nobody"], "no test case nobody"),
    ):
        command = ["study", "pneumothorax", "--dataset", str(chests), "-o", str(tmp_path / "out"), *arguments]
        done = CliRunner().invoke(build_app(), command)
        assert done.exit_code == 2
        assert message in done.stderr
        assert not (tmp_path / "out").exists()
