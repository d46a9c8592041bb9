"""Changes of the chest's tissue: planted air within its range, labels that follow, nothing touched elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from support.augment_fixtures import phantom_case
from xrecon.augmentation.planted_air import plant
from xrecon.augmentation.settings import Bulla, Density, Effusion, Nodules, Pneumothorax, Scanner
from xrecon.augmentation.spatial import Chest, Deformation, chest_of
from xrecon.augmentation.tissue import add_bullae, add_effusion, add_nodules, change_density, scan
from xrecon.geometry import FRAME_MM
from xrecon.phantoms.thorax import Phantom


@pytest.fixture(scope="module")
def chest(phantom64: Phantom) -> Chest:
    return chest_of(phantom_case(phantom64), Deformation.none(), size=64, frame_mm=FRAME_MM)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limits", [(0.05, 0.1), (0.3, 0.5)])
def test_the_planted_volume_lies_in_the_range_asked_for(chest: Chest, seed: int, limits: tuple[float, float]) -> None:
    asked = Pneumothorax(occupancy=limits, effusion_probability=0.0)
    sick, draws = plant(chest, asked, rng(seed))
    side, number = draws["side"], 1 if draws["side"] == "right" else 2
    air, own = sick.air > 0, sick.sides == number
    assert air.any()
    assert (sick.sides[air] == number).all()
    occupancy = np.count_nonzero(air) / np.count_nonzero(own)
    assert occupancy == pytest.approx(draws["occupancy"])
    assert limits[0] - 0.01 <= occupancy <= limits[1] + 0.02
    # Small pockets are hardly thicker than the voxels of 6 mm: much of them is partial volume.
    assert np.median(sick.hu[air]) < (-930 if limits[0] > 0.2 else -780)
    assert (sick.hu[air] - chest.hu[air]).mean() < -20
    assert np.quantile(sick.hu[air], 0.05) < -955
    # The middle of the air lies on the patient's own side: low columns are the right.
    middle = np.argwhere(chest.sides > 0)[:, 2].mean()
    assert (np.argwhere(air)[:, 2].mean() < middle) == (side == "right")
    if draws["tension"] == 0:
        other = chest.sides == 3 - number
        assert np.array_equal(sick.sides == 3 - number, other)
        assert np.array_equal(sick.hu[other], chest.hu[other])
        # Lung and free air fill the old hemithorax but for its boundary voxels.
        assert np.count_nonzero(own) == pytest.approx(np.count_nonzero(chest.sides == number), rel=0.08)


def test_fluid_lies_below_the_air_and_is_neither_lung_nor_air(chest: Chest) -> None:
    asked = Pneumothorax(
        occupancy=(0.4, 0.4), tension_probability=0.0, effusion_probability=1.0, effusion_ml=(200.0, 200.0)
    )
    for seed in range(8):
        sick, draws = plant(chest, asked, rng(seed))
        if draws["pattern"] == "supine":
            break
    assert draws["pattern"] == "supine"
    number = 1 if draws["side"] == "right" else 2
    fluid = (chest.sides == number) & (sick.sides == 0) & (sick.hu > -300)
    assert np.count_nonzero(fluid) * sick.voxel_ml == pytest.approx(draws["fluid_ml"], rel=0.5)
    assert np.argwhere(fluid)[:, 1].mean() > np.argwhere(sick.air > 0)[:, 1].mean()  # the patient lies on the back


def test_a_side_with_free_air_is_left_alone(chest: Chest) -> None:
    air = chest.air.copy()
    air[chest.sides == 1] = 1
    sick = replace(chest, air=air)
    for seed in range(4):
        planted, draws = plant(sick, Pneumothorax(occupancy=(0.2, 0.3)), rng(seed))
        assert draws["side"] == "left"
        assert (planted.air[chest.sides == 1] == 1).all() or draws["tension"] > 0
        _, draws = add_effusion(sick, Effusion(share=(0.1, 0.1)), rng(seed))
        assert draws["side"] == "left"
    air[chest.sides == 2] = 1
    same, draws = plant(sick, Pneumothorax(), rng(0))
    assert same is sick
    assert "skipped" in draws


def test_planting_repeats(chest: Chest) -> None:
    one, other = (plant(chest, Pneumothorax(), rng(9)) for _ in range(2))
    assert one[1] == other[1]
    assert np.array_equal(one[0].hu, other[0].hu)


def test_density_changes_lung_fat_and_bone_and_keeps_water(chest: Chest) -> None:
    changed, draws = change_density(chest, Density(lung=(1.4, 1.4), gradient=0.0, bone=(0.8, 0.8)), rng(1))
    lung = (chest.sides > 0) & (chest.hu < -700)
    ratio = (changed.hu[lung] + 1000) / (chest.hu[lung] + 1000)
    assert np.median(ratio) == pytest.approx(1.4, abs=0.01)
    soft = (chest.hu > 0) & (chest.hu < 140) & (chest.sides == 0)
    assert np.allclose(changed.hu[soft], chest.hu[soft])
    bone = chest.hu > 400
    assert np.allclose(changed.hu[bone] - 150, 0.8 * (chest.hu[bone] - 150), atol=0.1)
    fat = (np.abs(chest.hu + 95) < 5) & (chest.sides == 0)
    assert np.median(changed.hu[fat] - chest.hu[fat]) == pytest.approx(draws["fat_hu"], rel=0.1, abs=0.5)
    outside = chest.hu == -1024
    assert (changed.hu[outside] == -1024).all()


def test_bullae_are_air_but_no_pneumothorax(chest: Chest) -> None:
    changed, draws = add_bullae(chest, Bulla(count=(1, 1), radius_mm=(20.0, 20.0)), rng(3))
    place = tuple(draws["bullae"][0]["place"])
    assert changed.hu[place] == pytest.approx(-970, abs=1)
    assert np.array_equal(changed.sides, chest.sides)
    assert not changed.air.any()
    thinner = changed.hu < chest.hu - 30
    assert (chest.sides[thinner] > 0).all()
    assert np.count_nonzero(thinner) * chest.voxel_ml < 1.3 * 4 / 3 * np.pi * 2.0**3


def test_nodules_are_dense_and_inside_the_lung(chest: Chest) -> None:
    changed, draws = add_nodules(chest, Nodules(count=(3, 3), radius_mm=(10.0, 10.0)), rng(3))
    denser = changed.hu > chest.hu + 100
    assert len(draws["nodules"]) == 3
    assert denser.any()
    assert (chest.sides[denser] > 0).all()
    for one in draws["nodules"]:
        assert changed.hu[tuple(one["place"])] > -30
    assert np.array_equal(changed.sides, chest.sides)


@pytest.mark.parametrize("upright", [0.0, 1.0])
def test_effusions_lie_at_the_bottom(chest: Chest, upright: float) -> None:
    changed, draws = add_effusion(chest, Effusion(share=(0.15, 0.15), upright_probability=upright), rng(5))
    number = 1 if draws["side"] == "right" else 2
    cavity, fluid = chest.sides == number, (chest.sides == number) & (changed.sides == 0)
    assert np.count_nonzero(fluid) / np.count_nonzero(cavity) == pytest.approx(0.15, abs=0.05)
    assert np.median(changed.hu[fluid]) == pytest.approx(draws["hu"], abs=30)
    axis = 0 if upright else 1
    assert np.argwhere(fluid)[:, axis].mean() > np.argwhere(cavity & ~fluid)[:, axis].mean() + 5
    assert np.array_equal(changed.sides == 3 - number, chest.sides == 3 - number)


def test_the_scanner_adds_its_noise_to_the_patient_only(chest: Chest) -> None:
    asked = Scanner(blur_mm=(0.0, 0.0), noise_hu=(12.0, 12.0), grain_mm=(0.0, 4.0))
    changed, _ = scan(chest, asked, rng(0))
    patient = chest.hu > -1000
    assert (changed.hu - chest.hu)[patient].std() == pytest.approx(12.0, rel=0.05)
    assert (changed.hu[chest.hu == -1024] == -1024).all()
    softer, draws = scan(chest, Scanner(blur_mm=(8.0, 8.0), noise_hu=(0.0, 0.0)), rng(0))
    assert draws["blur_mm"] == 8.0
    assert np.abs(np.diff(softer.hu, axis=2)).mean() < 0.9 * np.abs(np.diff(chest.hu, axis=2)).mean()
