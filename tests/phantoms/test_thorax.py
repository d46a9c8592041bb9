"""The analytic thorax: the right way round, plausible, repeatable, and true to its own labels."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.phantoms.thorax import FREE_AIR, LEFT_LUNG, RIGHT_LUNG, Phantom, ThoraxParameters, thorax_phantom
from xrecon.volume import CANONICAL

SIZE, SPACING_MM = 96, 4.0


@lru_cache(maxsize=8)
def phantom_of(size: int = SIZE, spacing_mm: float = SPACING_MM, **values: object) -> Phantom:
    return thorax_phantom(size, spacing_mm, parameters=ThoraxParameters(**values))  # type: ignore[arg-type]


def centroid(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    assert mask.any()
    return np.argwhere(mask).mean(axis=0)


def hemithorax_mass(phantom: Phantom, label: int, *, air_hu: float = -990.0) -> float:
    """Tissue in one pleural cavity, mL of water: lung and pocket together, less the pocket's own gas."""
    inside = phantom.labels == label
    pocket = phantom.labels == FREE_AIR
    tissue = phantom.volume.hu[inside | pocket].astype(np.float64) + 1000.0
    gas = (air_hu + 1000.0) * np.count_nonzero(pocket)
    return float((tissue.sum() - gas) * phantom.volume.voxel_ml / 1000.0)


def test_volume_is_canonical_synthetic_and_centred() -> None:
    volume = phantom_of().volume
    assert volume.synthetic and volume.is_canonical
    np.testing.assert_allclose(volume.affine[:3, :3], CANONICAL * SPACING_MM)
    np.testing.assert_allclose(volume.centre_mm, 0.0, atol=1e-9)
    assert phantom_of().labels.shape == volume.shape and phantom_of().labels.dtype == np.uint8


def test_organs_lie_on_their_sides() -> None:
    phantom, middle = phantom_of(), (SIZE - 1) / 2
    at = {name: centroid(mask) for name, mask in phantom.structures.items()}
    assert at["heart"][2] > middle + 2
    assert at["liver"][2] < middle - 4
    assert at["stomach_gas"][2] > middle + 8
    assert at["spleen"][2] > middle + 8
    assert at["spine"][1] > at["heart"][1] + 10
    assert at["table"][1] > at["spine"][1] > middle
    assert at["aorta"][2] > middle
    assert at["trachea"][0] < at["heart"][0] < at["liver"][0]
    assert centroid(phantom.labels == RIGHT_LUNG)[2] < middle - 8
    assert centroid(phantom.labels == LEFT_LUNG)[2] > middle + 8


def test_right_dome_is_higher_and_gas_lies_under_the_left_one() -> None:
    phantom = phantom_of()
    # The floor of each lung above the middle of its dome.
    column = {RIGHT_LUNG: int(SIZE / 2 - 17), LEFT_LUNG: int(SIZE / 2 + 17)}
    rows = slice(SIZE // 2 - 3, SIZE // 2 + 3)
    floor = {side: np.nonzero((phantom.labels[:, rows, w] == side).any(axis=1))[0].max() for side, w in column.items()}
    assert floor[RIGHT_LUNG] < floor[LEFT_LUNG]
    gas = np.argwhere(phantom.structures["stomach_gas"])
    assert gas[:, 0].min() > floor[LEFT_LUNG] - 2


def test_no_flip_leaves_the_phantom_alike() -> None:
    hu = phantom_of().volume.hu
    for axis in range(3):
        assert np.abs(hu - np.flip(hu, axis)).mean() > 20.0


def test_projections_show_more_heart_on_the_image_right() -> None:
    phantom = phantom_of(table=False)
    frontal = np.clip(phantom.volume.hu + 1000.0, 0.0, None).mean(axis=1)
    rows = np.unique(np.nonzero(phantom.structures["heart"])[0])
    right_half, left_half = frontal[rows, : SIZE // 2], frontal[rows, SIZE // 2 :]
    assert left_half[:, 4:24].mean() > right_half[:, -24:-4].mean() + 10.0


def test_hounsfield_values() -> None:
    phantom = phantom_of()
    hu, masks = phantom.volume.hu, phantom.structures

    def median(mask: NDArray[np.bool_]) -> float:
        return float(np.median(hu[mask]))

    assert hu.min() >= -1024 and hu.max() <= 1000
    lungs = (phantom.labels == RIGHT_LUNG) | (phantom.labels == LEFT_LUNG)
    assert -880 < median(lungs) < -800
    assert 40 <= median(masks["heart"]) <= 60
    assert median(masks["liver"]) == pytest.approx(60, abs=2)
    assert 100 < median(masks["spine"]) < 500
    assert hu[masks["ribs"]].max() > 400
    assert median(masks["trachea"]) < -950
    assert np.percentile(hu[masks["stomach_gas"]], 10) == pytest.approx(-980, abs=2)
    assert np.isclose(hu[masks["table"]], -600, atol=1).any()
    outside = hu[~masks["body"] & ~masks["table"]]
    assert np.median(outside) == -1000


def test_gravity_makes_the_back_of_the_lung_denser() -> None:
    phantom = phantom_of()
    d, h, w = np.nonzero(phantom.labels == RIGHT_LUNG)
    values = phantom.volume.hu[d, h, w]
    front, back = np.quantile(h, [0.2, 0.8])
    assert np.median(values[h >= back]) > np.median(values[h <= front]) + 10


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ({"lung_height_mm": 190.0}, {"lung_height_mm": 250.0}),
        ({"chest_width_mm": 250.0}, {"chest_width_mm": 310.0}),
        ({"chest_depth_mm": 160.0}, {"chest_depth_mm": 220.0}),
        ({"inspiration": 0.0}, {"inspiration": 1.0}),
        ({"heart_scale": 1.3}, {"heart_scale": 0.8}),
    ],
)
def test_lung_volume_follows_the_habitus(smaller: dict[str, float], larger: dict[str, float]) -> None:
    def lungs_ml(values: dict[str, float]) -> float:
        phantom = phantom_of(48, 8.0, **values)
        return phantom.label_ml(RIGHT_LUNG) + phantom.label_ml(LEFT_LUNG)

    assert lungs_ml(larger) > 1.05 * lungs_ml(smaller)


def test_default_lungs_hold_what_a_man_inhales() -> None:
    right, left = phantom_of().label_ml(RIGHT_LUNG), phantom_of().label_ml(LEFT_LUNG)
    assert 4500 < right + left < 6500
    assert left < right


def test_same_person_at_every_voxel_size() -> None:
    coarse, fine = phantom_of(64, 6.0), phantom_of(128, 3.0)
    for label in (RIGHT_LUNG, LEFT_LUNG):
        assert coarse.label_ml(label) == pytest.approx(fine.label_ml(label), rel=0.01)
    pooled = fine.volume.hu.reshape(64, 2, 64, 2, 64, 2).mean(axis=(1, 3, 5))
    assert np.abs(pooled - coarse.volume.hu).mean() < 15.0
    assert pooled.mean() == pytest.approx(float(coarse.volume.hu.mean()), abs=8.0)  # thin bone is drawn a little thick


def test_seed_decides_vessels_and_noise_and_nothing_else() -> None:
    first = thorax_phantom(48, 8.0, parameters=ThoraxParameters(seed=5, noise_hu=12.0))
    again = thorax_phantom(48, 8.0, parameters=ThoraxParameters(seed=5, noise_hu=12.0))
    other = thorax_phantom(48, 8.0, parameters=ThoraxParameters(seed=6, noise_hu=12.0))
    np.testing.assert_array_equal(first.volume.hu, again.volume.hu)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.volume.hu, other.volume.hu)
    np.testing.assert_array_equal(first.labels, other.labels)
    quiet = thorax_phantom(48, 8.0, parameters=ThoraxParameters(seed=5))
    assert np.std((first.volume.hu - quiet.volume.hu)[first.structures["liver"]]) == pytest.approx(12.0, rel=0.1)


def test_table_can_be_left_out() -> None:
    bare, lying = phantom_of(table=False), phantom_of()
    assert not bare.structures["table"].any()
    assert lying.structures["table"].sum() > 1000
    assert not (lying.structures["table"] & lying.structures["body"]).any()
    assert np.all(bare.volume.hu[~bare.structures["body"]] < 0)
    assert bare.volume.hu[lying.structures["table"]].max() < -400


def test_fat_and_breasts_enlarge_the_body_but_not_the_lungs() -> None:
    slim, stout = phantom_of(64, 6.0, fat_mm=5.0), phantom_of(64, 6.0, fat_mm=30.0)
    woman = phantom_of(64, 6.0, breast_mm=45.0)
    np.testing.assert_array_equal(slim.labels, stout.labels)
    assert stout.structures["body"].sum() > 1.15 * slim.structures["body"].sum()
    front = woman.structures["body"] & ~phantom_of(64, 6.0).structures["body"]
    assert front.sum() * woman.volume.voxel_ml > 300
    assert np.argwhere(front)[:, 1].max() < 32  # in front of the middle


@pytest.mark.parametrize(("side", "volume_ml"), [("right", 60.0), ("right", 900.0), ("left", 250.0), ("left", 1600.0)])
def test_pneumothorax_has_the_volume_side_and_mass_asked_for(side: str, volume_ml: float) -> None:
    well, sick = phantom_of(), phantom_of(pneumothorax_side=side, pneumothorax_ml=volume_ml)
    label = RIGHT_LUNG if side == "right" else LEFT_LUNG
    other = LEFT_LUNG if side == "right" else RIGHT_LUNG
    assert sick.label_ml(FREE_AIR) == pytest.approx(volume_ml, rel=0.02)
    assert (centroid(sick.labels == FREE_AIR)[2] < SIZE / 2) == (side == "right")
    np.testing.assert_array_equal(sick.labels == other, well.labels == other)
    # Free air takes the room that lung filled, and nothing else.
    gone = (well.labels == label) & (sick.labels != label)
    assert np.count_nonzero(gone & (sick.labels != FREE_AIR)) <= 0.01 * gone.sum()
    assert hemithorax_mass(sick, label) == pytest.approx(hemithorax_mass(well, label), rel=0.03)
    density = [float(np.median(p.volume.hu[p.labels == label])) for p in (well, sick)]
    assert density[1] > density[0]


def test_free_air_gathers_at_apex_front_and_flank() -> None:
    sick = phantom_of(pneumothorax_side="left", pneumothorax_ml=300.0)
    air, lung = centroid(sick.labels == FREE_AIR), centroid(sick.labels == LEFT_LUNG)
    assert air[0] < lung[0] - 5 and air[1] < lung[1] and air[2] > lung[2]


def test_pocket_is_gas_and_holds_no_vessel() -> None:
    sick = phantom_of(pneumothorax_side="right", pneumothorax_ml=1200.0)
    pocket = sick.labels == FREE_AIR
    interior = pocket.copy()
    for axis in range(3):
        interior &= np.roll(pocket, 1, axis) & np.roll(pocket, -1, axis)
    assert interior.sum() > 3000
    np.testing.assert_allclose(sick.volume.hu[interior], -990.0, atol=1.0)


def test_larger_pneumothorax_contains_the_smaller() -> None:
    small = phantom_of(pneumothorax_side="right", pneumothorax_ml=300.0).labels == FREE_AIR
    large = phantom_of(pneumothorax_side="right", pneumothorax_ml=900.0).labels == FREE_AIR
    assert not (small & ~large).any()


def test_impossible_pneumothorax_is_refused() -> None:
    with pytest.raises(InputError, match="does not fit into the left pleural cavity"):
        phantom_of(64, 6.0, pneumothorax_side="left", pneumothorax_ml=4800.0)
    with pytest.raises(InputError, match="smaller voxels"):
        phantom_of(32, 12.0, pneumothorax_side="left", pneumothorax_ml=0.3)


@pytest.mark.parametrize(
    "values",
    [
        {"chest_width_mm": 100.0},
        {"lung_height_mm": float("nan")},
        {"fat_mm": "thick"},
        {"inspiration": 1.2},
        {"seed": -1},
        {"seed": 0.5},
        {"pneumothorax_side": "both", "pneumothorax_ml": 100.0},
        {"pneumothorax_side": "left"},
        {"pneumothorax_ml": 100.0},
    ],
)
def test_invalid_parameters_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(values))):
        ThoraxParameters(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "spacing_mm"), [(8, 3.0), (1024, 3.0), (64, 0.0), (64, float("nan"))])
def test_invalid_grids_are_refused(size: int, spacing_mm: float) -> None:
    with pytest.raises(InputError):
        thorax_phantom(size, spacing_mm)


def test_parameters_and_masks_cannot_be_changed() -> None:
    phantom = phantom_of()
    with pytest.raises(dataclasses.FrozenInstanceError):
        phantom.parameters.seed = 3  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        phantom.labels[0, 0, 0] = 1


def test_a_small_cube_shows_the_same_thorax_cut_off() -> None:
    whole, part = phantom_of(64, 6.0), phantom_of(32, 6.0)
    np.testing.assert_array_equal(part.labels, whole.labels[16:48, 16:48, 16:48])
    np.testing.assert_allclose(part.volume.hu, whole.volume.hu[16:48, 16:48, 16:48], atol=0.1)


@settings(max_examples=5, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 2**20), side=st.sampled_from([None, "right", "left"]))
def test_sampled_habitus_is_sound(seed: int, side: str | None) -> None:
    parameters = ThoraxParameters.sample(np.random.default_rng(seed))
    if side is not None:
        parameters = dataclasses.replace(parameters, pneumothorax_side=side, pneumothorax_ml=200.0)
    phantom = thorax_phantom(48, 8.0, parameters=parameters)
    body, labels = phantom.structures["body"], phantom.labels
    assert set(np.unique(labels)) <= {0, 1, 2, 3}
    assert body[labels > 0].all()
    for name, mask in phantom.structures.items():
        assert name == "body" or not mask[labels > 0].any(), name
    assert 1400 < phantom.label_ml(1) + phantom.label_ml(2) + phantom.label_ml(3) < 8200
    assert centroid(phantom.structures["heart"])[2] > 23.5 > centroid(phantom.structures["liver"])[2]
    # The lungs and the skin at mid-chest lie within the frame.
    assert not labels[:, :, [0, -1]].any() and not labels[0].any()
    assert not body[:, :, [0, -1]].any()
    if side is not None:
        assert phantom.label_ml(FREE_AIR) == pytest.approx(200.0, rel=0.02)
