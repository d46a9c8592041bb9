"""A pneumothorax planted by the augmentation: within its range, labels that follow, nothing touched elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from support.augment_fixtures import phantom_case
from xrecon.augmentation.chest import AugmentedChest, chest_of
from xrecon.augmentation.spatial.deformation import ChestDeformation
from xrecon.augmentation.tissue.effusion import EffusionSettings, add_effusion
from xrecon.augmentation.tissue.planted_air import PneumothoraxSettings, plant
from xrecon.geometry import FRAME_MM
from xrecon.phantoms.thorax import Phantom


@pytest.fixture(scope="module")
def chest(phantom64: Phantom) -> AugmentedChest:
    return chest_of(phantom_case(phantom64), ChestDeformation.none(), size=64, frame_mm=FRAME_MM)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limits", [(0.05, 0.1), (0.3, 0.5)])
def test_the_planted_volume_lies_in_the_range_asked_for(
    chest: AugmentedChest, seed: int, limits: tuple[float, float]
) -> None:
    wish = PneumothoraxSettings(occupancy=limits, effusion_probability=0.0)
    sick, draws = plant(chest, wish, rng(seed))
    side, number = draws["side"], 1 if draws["side"] == "right" else 2
    air, hemithorax = sick.air > 0, sick.sides == number
    assert air.any()
    assert (sick.sides[air] == number).all()
    occupancy = np.count_nonzero(air) / np.count_nonzero(hemithorax)
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
        assert np.count_nonzero(hemithorax) == pytest.approx(np.count_nonzero(chest.sides == number), rel=0.08)


def test_fluid_lies_below_the_air_and_is_neither_lung_nor_air(chest: AugmentedChest) -> None:
    wish = PneumothoraxSettings(
        occupancy=(0.4, 0.4), tension_probability=0.0, effusion_probability=1.0, effusion_ml=(200.0, 200.0)
    )
    for seed in range(8):
        sick, draws = plant(chest, wish, rng(seed))
        if draws["pattern"] == "supine":
            break
    assert draws["pattern"] == "supine"
    number = 1 if draws["side"] == "right" else 2
    fluid = (chest.sides == number) & (sick.sides == 0) & (sick.hu > -300)
    assert np.count_nonzero(fluid) * sick.voxel_ml == pytest.approx(draws["fluid_ml"], rel=0.5)
    assert np.argwhere(fluid)[:, 1].mean() > np.argwhere(sick.air > 0)[:, 1].mean()  # the patient lies on the back


def test_a_side_with_free_air_is_left_alone(chest: AugmentedChest) -> None:
    air = chest.air.copy()
    air[chest.sides == 1] = 1
    sick = replace(chest, air=air)
    for seed in range(4):
        planted, draws = plant(sick, PneumothoraxSettings(occupancy=(0.2, 0.3)), rng(seed))
        assert draws["side"] == "left"
        assert (planted.air[chest.sides == 1] == 1).all() or draws["tension"] > 0
        _, draws = add_effusion(sick, EffusionSettings(share=(0.1, 0.1)), rng(seed))
        assert draws["side"] == "left"
    air[chest.sides == 2] = 1
    same, draws = plant(sick, PneumothoraxSettings(), rng(0))
    assert same is sick
    assert "skipped" in draws


def test_planting_repeats(chest: AugmentedChest) -> None:
    first, other = (plant(chest, PneumothoraxSettings(), rng(9)) for _ in range(2))
    assert first[1] == other[1]
    assert np.array_equal(first[0].hu, other[0].hu)
