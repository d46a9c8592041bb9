"""Samples of the augmentation: reproducible, never mirrored or folded, with films that belong to the CT."""

from __future__ import annotations

import json
import pickle
import threading
from dataclasses import replace
from typing import Annotated

import numpy as np
import pytest
import torch
from pydantic import Field

from support.augment_fixtures import phantom_case
from support.dataset_factory import random_case
from xrecon.anatomy.morphology import Floats
from xrecon.augmentation.augmenter import Augmenter, Sample
from xrecon.augmentation.ranges import step_probability
from xrecon.augmentation.settings import AugmentConfig
from xrecon.augmentation.steps import FilmStep, FilmView
from xrecon.config import Config
from xrecon.data.case_file import CaseData
from xrecon.errors import InputError
from xrecon.films.normalisation import network_film
from xrecon.geometry import FRAME_MM
from xrecon.phantoms.thorax import Phantom
from xrecon.projector import hu_to_mu, project
from xrecon.report.augmentation import describe


class StripeSettings(Config):
    """A step that the package does not have."""

    probability: float = step_probability(1.0)


def add_stripe(
    film: Floats, view: FilmView, settings: StripeSettings, rng: np.random.Generator
) -> tuple[Floats, dict[str, object]]:
    row = int(rng.integers(len(film)))
    striped = film.copy()
    striped[row] = film.max()
    return striped, {"row": row, "film": view.name}


class WithStripe(AugmentConfig):
    """One more entry in the table of steps."""

    stripe: Annotated[StripeSettings, FilmStep(add_stripe)] = Field(default=StripeSettings())


ALL_STEPS = tuple(name for name in AugmentConfig.model_fields if name != "own_films")


def everything() -> AugmentConfig:
    return AugmentConfig.model_validate({name: {"probability": 1.0} for name in ALL_STEPS})


def only(**sections: dict[str, object]) -> AugmentConfig:
    """Nothing but the named steps, which are certain."""
    values = AugmentConfig.off().model_dump()
    for name, section in sections.items():
        values[name] = {"probability": 1.0, **section}
    return AugmentConfig.model_validate(values)


def augmenter(config: AugmentConfig, case: CaseData, size: int = 32) -> Augmenter:
    return Augmenter(config, size=size, frame_mm=FRAME_MM, beams=case.beams)


def same(first: Sample, second: Sample) -> bool:
    arrays = ("ct", "pa", "lateral", "sides", "air", "measured")
    equal = all(np.array_equal(getattr(first, name), getattr(second, name)) for name in arrays)
    return equal and first.record == second.record and first.beams == second.beams


@pytest.fixture(scope="module")
def case(phantom64: Phantom) -> CaseData:
    return phantom_case(phantom64)


def test_a_sample_follows_from_settings_case_and_seed(case: CaseData) -> None:
    augment = augmenter(everything(), case)
    first = augment(case, 7)
    assert not same(augment(case, 8), first)  # and a call in between changes nothing
    assert same(augment(case, 7), first)
    assert same(pickle.loads(pickle.dumps(augment))(case, 7), first)
    samples: list[Sample] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        worker = threading.Thread(target=lambda: samples.append(augment(case, 7)))
        worker.start()
        worker.join()
    finally:
        torch.set_num_threads(threads)
    assert same(samples[0], first)


def test_the_case_is_left_as_it_was(case: CaseData) -> None:
    before = [np.array(getattr(case, name)) for name in ("ct", "pa", "lateral", "sides", "air")]
    augmenter(everything(), case)(case, 3)
    after = [getattr(case, name) for name in ("ct", "pa", "lateral", "sides", "air")]
    assert all(np.array_equal(array, array_after) for array, array_after in zip(before, after, strict=True))


def test_what_a_sample_holds(case: CaseData) -> None:
    sample = augmenter(everything(), case)(case, 5)
    assert sample.ct.shape == (32, 32, 32)
    assert sample.ct.dtype == np.float32
    assert sample.ct.min() >= -1024
    assert np.isfinite(sample.ct).all()
    for film in (sample.pa, sample.lateral):
        assert film.shape == (32, 32)
        assert film.dtype == np.float32
        assert film.min() >= 0
        assert film.max() <= 1
        assert film.std() > 0.05
    assert sample.sides.dtype == sample.air.dtype == np.uint8
    assert set(np.unique(sample.sides)) == {0, 1, 2}
    assert (sample.sides[sample.air > 0] > 0).all()
    record = json.loads(json.dumps(sample.record, allow_nan=False))
    assert record["seed"] == 5
    assert set(ALL_STEPS) < set(record)
    assert all(record[name] for name in ALL_STEPS)


def test_off_is_nothing_but_the_stored_case(case: CaseData) -> None:
    sample = augmenter(AugmentConfig.off(), case, 64)(case, 0)
    assert np.array_equal(sample.ct, case.ct)
    assert np.array_equal(sample.sides, case.sides)
    assert sample.measured.all()
    assert sample.beams == case.beams
    for sample_film, stored in ((sample.pa, case.pa), (sample.lateral, case.lateral)):
        assert np.abs(sample_film - network_film(stored)).mean() < 0.002
        assert np.abs(sample_film - network_film(stored)).max() < 0.04


def test_what_the_cube_lacks_comes_from_the_stored_films(case: CaseData) -> None:
    thick = np.zeros((64, 64), dtype=np.float32)
    thick[:, :16] = np.linspace(2.0, 0.0, 16)  # an arm beside the cube
    wider = replace(case, pa=case.pa + thick)
    sample_film = augmenter(AugmentConfig.off(), case, 64)(wider, 0).pa
    assert np.abs(sample_film - network_film(wider.pa)).max() < 0.08
    moved = augmenter(only(affine={"shift_mm": 30.0, "rotation_deg": 0.0, "axis_scale": 0.0}), case, 64)
    sample = moved(wider, 1)
    arm = network_film(sample.pa) - network_film(moved(case, 1).pa)
    assert arm[:, :3].mean() > arm[:, 30:].mean() + 0.1


def test_smaller_samples_keep_the_scale(case: CaseData) -> None:
    small = augmenter(AugmentConfig.off(), case, 32)(case, 0)
    blocks = case.ct.reshape(32, 2, 32, 2, 32, 2).mean(axis=(1, 3, 5))
    assert np.corrcoef(small.ct.ravel(), blocks.ravel())[0, 1] > 0.99
    assert (small.sides > 0).sum() * 8 == pytest.approx((case.sides > 0).sum(), rel=0.03)
    film = network_film(case.pa.reshape(32, 2, 32, 2).mean(axis=(1, 3)))
    assert np.abs(small.pa - film).mean() < 0.02


@pytest.mark.parametrize("seed", range(6))
def test_left_and_right_are_never_exchanged(case: CaseData, phantom64: Phantom, seed: int) -> None:
    strong = only(affine={"rotation_deg": 10.0, "scale": (0.85, 1.15)}, elastic={"amplitude_mm": (8.0, 10.0)}, beam={})
    # A beacon in the patient's right front, head end: nothing symmetric about it.
    beacon = np.full(case.ct.shape, -1024, dtype=np.int16)
    beacon[12:18, 20:26, 14:20] = 3000
    lit = replace(case, ct=beacon, sides=np.where(beacon > 0, 1, case.sides * 0).astype(np.uint8), quantity="display")
    config = strong.model_copy(update={"own_films": strong.own_films.model_copy(update={"probability": 0.0})})
    sample = augmenter(config, case, 64)(lit, seed)
    d, h, w = np.argwhere(sample.sides == 1).mean(axis=0)
    assert d < 29
    assert h < 31
    assert w < 28
    rows, cols = np.indices((64, 64))
    for film, side in ((sample.pa, 28), (sample.lateral, 31)):
        weight = (film > 0.5) * film
        assert (weight * rows).sum() / weight.sum() < 29
        assert (weight * cols).sum() / weight.sum() < side


def test_films_belong_to_the_ct_and_the_beams_of_the_sample(case: CaseData) -> None:
    sample = augmenter(only(affine={}, elastic={}, density={}, beam={"energy_kev": (60.0, 60.0)}), case, 64)(case, 2)
    mu = torch.from_numpy(hu_to_mu(sample.ct))[None, None]
    films = project(mu, FRAME_MM / 64, sample.beams)[0].numpy()
    for sample_film, film in zip((sample.pa, sample.lateral), films, strict=True):
        assert np.abs(sample_film - network_film(film)).mean() < 0.02


def test_a_patients_own_films_are_kept_or_replaced(case: CaseData) -> None:
    patients_case = replace(case, pa=np.flip(case.pa, 0).copy() / 10, quantity="display")
    kept_sample = augmenter(only(affine={}).model_copy(), case, 64)(patients_case, 0)
    assert kept_sample.record["own_films"] is True
    assert "affine" not in kept_sample.record
    assert np.array_equal(kept_sample.ct, case.ct)
    assert np.allclose(kept_sample.pa, network_film(patients_case.pa), atol=1e-5)
    values = {**only(affine={}).model_dump(), "own_films": {"probability": 0.0}}
    simulated_sample = augmenter(AugmentConfig.model_validate(values), case, 64)(patients_case, 0)
    assert simulated_sample.record["affine"]
    assert not np.allclose(simulated_sample.pa, network_film(patients_case.pa), atol=0.1)


def test_each_step_has_its_own_stream(case: CaseData) -> None:
    together = augmenter(only(affine={}, beam={}), case)(case, 1)
    alone = augmenter(only(beam={}), case)(case, 1)
    assert together.record["beam"] == alone.record["beam"]
    assert alone.record["affine"] is None


def test_a_new_step_needs_no_more_than_its_entry_in_the_table(case: CaseData) -> None:
    config = WithStripe.model_validate({**AugmentConfig.off().model_dump(), "stripe": {"probability": 1.0}})
    plain, striped = augmenter(AugmentConfig.off(), case)(case, 1), augmenter(config, case)(case, 1)
    rows = striped.record["stripe"]
    assert [rows[view]["film"] for view in ("pa", "lateral")] == ["pa", "lateral"]
    assert (striped.pa[rows["pa"]["row"]] == striped.pa.max()).all()
    assert not np.array_equal(striped.lateral, plain.lateral)
    assert np.array_equal(striped.ct, plain.ct)
    assert describe(striped.record) == ["PA film: stripe", "lateral film: stripe"]
    assert describe(plain.record) == ["PA film: plain", "lateral film: plain"]


def test_bad_requests_are_refused(case: CaseData) -> None:
    with pytest.raises(InputError, match="fewer than the 96"):
        augmenter(AugmentConfig.off(), case, 96)(case, 0)
    with pytest.raises(InputError, match="seed"):
        augmenter(AugmentConfig.off(), case)(case, -1)
    with pytest.raises(InputError, match="16 voxels"):
        augmenter(AugmentConfig.off(), case, 8)


def test_noise_without_anatomy_passes_through_every_step() -> None:
    noise = random_case(32)
    sample = augmenter(everything(), noise)(noise, 0)
    assert np.isfinite(sample.pa).all()
    assert "skipped" in sample.record["pneumothorax"]  # every side of it has free air already
