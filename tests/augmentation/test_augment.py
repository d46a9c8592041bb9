"""Samples of the augmentation: reproducible, never mirrored or folded, with films that belong to the CT."""

from __future__ import annotations

import json
import pickle
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.augment_fixtures import phantom_case
from support.dataset_factory import random_case
from xrecon.augmentation.augmenter import Augmenter, Sample
from xrecon.augmentation.beam import draw_beams
from xrecon.augmentation.random_streams import stream
from xrecon.augmentation.settings import Affine, AugmentConfig, Beam, Elastic
from xrecon.augmentation.spatial import Deformation, chest_of, draw_affine, draw_elastic
from xrecon.data.case_file import CaseData
from xrecon.errors import ConfigError, InputError
from xrecon.films.network_film import network_film
from xrecon.films.simulate import film_pair
from xrecon.geometry import FRAME_MM
from xrecon.phantoms.thorax import Phantom
from xrecon.projector import hu_to_mu, project

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


def same(one: Sample, other: Sample) -> bool:
    arrays = ("ct", "pa", "lateral", "sides", "air", "measured")
    equal = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)
    return equal and one.record == other.record and one.beams == other.beams


@pytest.fixture(scope="module")
def case(phantom64: Phantom) -> CaseData:
    return phantom_case(phantom64)


def test_a_sample_follows_from_settings_case_and_seed(case: CaseData) -> None:
    augment = augmenter(everything(), case)
    first = augment(case, 7)
    assert not same(augment(case, 8), first)  # and a call in between changes nothing
    assert same(augment(case, 7), first)
    assert same(pickle.loads(pickle.dumps(augment))(case, 7), first)
    found: list[Sample] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        worker = threading.Thread(target=lambda: found.append(augment(case, 7)))
        worker.start()
        worker.join()
    finally:
        torch.set_num_threads(threads)
    assert same(found[0], first)


def test_the_case_is_left_as_it_was(case: CaseData) -> None:
    before = [np.array(getattr(case, name)) for name in ("ct", "pa", "lateral", "sides", "air")]
    augmenter(everything(), case)(case, 3)
    after = [getattr(case, name) for name in ("ct", "pa", "lateral", "sides", "air")]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


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
    for shown, stored in ((sample.pa, case.pa), (sample.lateral, case.lateral)):
        assert np.abs(shown - network_film(stored)).mean() < 0.002
        assert np.abs(shown - network_film(stored)).max() < 0.04


def test_what_the_cube_lacks_comes_from_the_stored_films(case: CaseData) -> None:
    thick = np.zeros((64, 64), dtype=np.float32)
    thick[:, :16] = np.linspace(2.0, 0.0, 16)  # an arm beside the cube
    wider = replace(case, pa=case.pa + thick)
    shown = augmenter(AugmentConfig.off(), case, 64)(wider, 0).pa
    assert np.abs(shown - network_film(wider.pa)).max() < 0.08
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
    for shown, film in zip((sample.pa, sample.lateral), films, strict=True):
        assert np.abs(shown - network_film(film)).mean() < 0.02


def test_the_angle_between_the_views_stays_in_its_range() -> None:
    nominal = film_pair("chest", size=32)
    angles = []
    for seed in range(60):
        beams, energy, record = draw_beams(nominal, Beam(between_views_deg=10.0), stream(seed, "beam"))
        angles.append(beams[1].angle_deg - beams[0].angle_deg)
        assert record["between_views_deg"] == pytest.approx(angles[-1])
        assert 50 <= energy <= 70
        for beam, one in zip(beams, nominal, strict=True):
            assert beam.pixel_at_isocentre_mm == pytest.approx(one.pixel_at_isocentre_mm, rel=0.03)
            assert max(map(abs, beam.translation_mm)) <= 8.0
    assert 80 <= min(angles) < 84
    assert 96 < max(angles) <= 100


@given(st.integers(0, 10_000), st.floats(2.0, 40.0), st.floats(0.2, 0.8))
@settings(deadline=None, max_examples=25)
def test_deformations_never_fold(seed: int, amplitude: float, least: float) -> None:
    rng = np.random.default_rng(seed)
    affine, _ = draw_affine(Affine(rotation_deg=15.0), rng)
    wild = Elastic(amplitude_mm=(amplitude, amplitude), knot_mm=40.0, least_jacobian=least)
    deformation, record = draw_elastic(affine, wild, rng, frame_mm=FRAME_MM)
    finer = (np.arange(61) - 30.0) * (FRAME_MM / 61)
    relative = deformation.jacobian(finer) / np.linalg.det(affine.matrix)
    assert np.linalg.det(affine.matrix) > 0
    assert relative.min() > 0.8 * least
    assert record["amplitude_mm"] <= amplitude


def test_the_jacobian_is_that_of_the_map() -> None:
    rng = np.random.default_rng(4)
    deformation, _ = draw_affine(Affine(), rng)
    deformation, record = draw_elastic(deformation, Elastic(), rng, frame_mm=FRAME_MM)
    assert record["amplitude_mm"] > 0
    places = np.arange(-20.0, 21.0)
    origin = deformation.origin_mm(places).astype(np.float64)
    gradient = np.stack([np.stack(np.gradient(part, 1.0)) for part in origin])  # [component, axis, ...]
    found = np.linalg.det(np.moveaxis(gradient, (0, 1), (-2, -1)))
    inner = np.s_[2:-2, 2:-2, 2:-2]
    assert np.allclose(found[inner], deformation.jacobian(places)[inner], rtol=2e-3)


def test_labels_move_with_their_tissue(case: CaseData) -> None:
    # The CT is made of its own labels, so that after any deformation each label can be read off the HU again.
    painted = np.select([case.sides == 1, case.sides == 2], [1000, 2000], 0).astype(np.int16)
    sides_only = replace(case, ct=painted)
    rng = np.random.default_rng(2)
    deformation, _ = draw_affine(Affine(), rng)
    deformation, _ = draw_elastic(deformation, Elastic(), rng, frame_mm=FRAME_MM)
    chest = chest_of(sides_only, deformation, size=64, frame_mm=FRAME_MM)
    inside = chest.measured
    assert np.count_nonzero(chest.sides == 1) > 1000
    # Voxels deep in their label or deep outside are exact; at surfaces the values are blends.
    assert (chest.sides[inside & (chest.hu > 1990)] == 2).all()
    assert (chest.sides[inside & (chest.hu < 1)] == 0).all()
    pure = inside & (chest.sides == 1)
    assert np.median(chest.hu[pure]) == pytest.approx(1000, abs=1)
    growth = np.count_nonzero(chest.sides) / np.count_nonzero(case.sides)
    assert growth == pytest.approx(1 / np.linalg.det(deformation.matrix), rel=0.25)


def test_what_lies_beyond_the_cube_counts_as_unmeasured(case: CaseData) -> None:
    shifted = Deformation(np.eye(3), np.array([60.0, 0.0, 0.0]))
    cut = replace(case, scan_box=((0, 50), (0, 64), (4, 64)))
    chest = chest_of(cut, shifted, size=64, frame_mm=FRAME_MM)
    assert not chest.measured[:9].any()
    assert chest.measured[11:59, :, 5:63].all()
    assert not chest.measured[:, :, :4].any()
    assert not chest.measured[61:].any()
    assert (chest.hu[:9] == -1024).all()


def test_a_patients_own_films_are_kept_or_replaced(case: CaseData) -> None:
    own = replace(case, pa=np.flip(case.pa, 0).copy() / 10, quantity="display")
    kept = augmenter(only(affine={}).model_copy(), case, 64)(own, 0)
    assert kept.record["own_films"] is True
    assert "affine" not in kept.record
    assert np.array_equal(kept.ct, case.ct)
    assert np.allclose(kept.pa, network_film(own.pa), atol=1e-5)
    values = {**only(affine={}).model_dump(), "own_films": {"probability": 0.0}}
    made = augmenter(AugmentConfig.model_validate(values), case, 64)(own, 0)
    assert made.record["affine"]
    assert not np.allclose(made.pa, network_film(own.pa), atol=0.1)


def test_each_step_has_its_own_stream(case: CaseData) -> None:
    both = augmenter(only(affine={}, beam={}), case)(case, 1)
    alone = augmenter(only(beam={}), case)(case, 1)
    assert both.record["beam"] == alone.record["beam"]
    assert alone.record["affine"] is None


def test_bad_requests_are_refused(case: CaseData) -> None:
    with pytest.raises(InputError, match="fewer than the 96"):
        augmenter(AugmentConfig.off(), case, 96)(case, 0)
    with pytest.raises(InputError, match="seed"):
        augmenter(AugmentConfig.off(), case)(case, -1)
    with pytest.raises(InputError, match="16 voxels"):
        augmenter(AugmentConfig.off(), case, 8)


@pytest.mark.parametrize(
    "text", ["affine.scale=[1.2, 0.9]", "affine.scale=[0, 1]", "tone.bits=[12, 8]", "beam.probability=1.5", "bean.x=1"]
)
def test_bad_settings_are_refused(text: str) -> None:
    from xrecon.config import load_config

    with pytest.raises(ConfigError):
        load_config(AugmentConfig, None, [text])


def test_noise_without_anatomy_passes_through_every_step() -> None:
    noise = random_case(32)
    sample = augmenter(everything(), noise)(noise, 0)
    assert np.isfinite(sample.pa).all()
    assert "skipped" in sample.record["pneumothorax"]  # every side of it has free air already
