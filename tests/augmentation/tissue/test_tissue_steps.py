"""Changes of density, bullae, nodules, effusions and the scanner: labels that follow, nothing touched elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from support.augment_fixtures import phantom_case
from xrecon.augmentation.chest import AugmentedChest, chest_of
from xrecon.augmentation.spatial.deformation import ChestDeformation
from xrecon.augmentation.tissue.bulla import BullaSettings, add_bullae
from xrecon.augmentation.tissue.density import DensitySettings, change_density
from xrecon.augmentation.tissue.effusion import EffusionSettings, add_effusion
from xrecon.augmentation.tissue.nodules import NoduleSettings, add_nodules
from xrecon.augmentation.tissue.scanner import ScannerSettings, scan
from xrecon.geometry import FRAME_MM
from xrecon.phantoms.thorax import Phantom


@pytest.fixture(scope="module")
def chest(phantom64: Phantom) -> AugmentedChest:
    return chest_of(phantom_case(phantom64), ChestDeformation.none(), size=64, frame_mm=FRAME_MM)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_density_changes_lung_fat_and_bone_and_keeps_water(chest: AugmentedChest) -> None:
    changed, draws = change_density(chest, DensitySettings(lung=(1.4, 1.4), gradient=0.0, bone=(0.8, 0.8)), rng(1))
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


def test_bullae_are_air_but_no_pneumothorax(chest: AugmentedChest) -> None:
    changed, draws = add_bullae(chest, BullaSettings(count=(1, 1), radius_mm=(20.0, 20.0)), rng(3))
    place = tuple(draws["bullae"][0]["place"])
    assert changed.hu[place] == pytest.approx(-970, abs=1)
    assert np.array_equal(changed.sides, chest.sides)
    assert not changed.air.any()
    thinner = changed.hu < chest.hu - 30
    assert (chest.sides[thinner] > 0).all()
    assert np.count_nonzero(thinner) * chest.voxel_ml < 1.3 * 4 / 3 * np.pi * 2.0**3


def test_nodules_are_dense_and_inside_the_lung(chest: AugmentedChest) -> None:
    changed, draws = add_nodules(chest, NoduleSettings(count=(3, 3), radius_mm=(10.0, 10.0)), rng(3))
    denser = changed.hu > chest.hu + 100
    assert len(draws["nodules"]) == 3
    assert denser.any()
    assert (chest.sides[denser] > 0).all()
    for nodule in draws["nodules"]:
        assert changed.hu[tuple(nodule["place"])] > -30
    assert np.array_equal(changed.sides, chest.sides)


@pytest.mark.parametrize("upright", [0.0, 1.0])
def test_effusions_lie_at_the_bottom(chest: AugmentedChest, upright: float) -> None:
    changed, draws = add_effusion(chest, EffusionSettings(share=(0.15, 0.15), upright_probability=upright), rng(5))
    number = 1 if draws["side"] == "right" else 2
    cavity, fluid = chest.sides == number, (chest.sides == number) & (changed.sides == 0)
    assert np.count_nonzero(fluid) / np.count_nonzero(cavity) == pytest.approx(0.15, abs=0.05)
    assert np.median(changed.hu[fluid]) == pytest.approx(draws["hu"], abs=30)
    axis = 0 if upright else 1
    assert np.argwhere(fluid)[:, axis].mean() > np.argwhere(cavity & ~fluid)[:, axis].mean() + 5
    assert np.array_equal(changed.sides == 3 - number, chest.sides == 3 - number)


def test_the_scanner_adds_its_noise_to_the_patient_only(chest: AugmentedChest) -> None:
    wish = ScannerSettings(blur_mm=(0.0, 0.0), noise_hu=(12.0, 12.0), grain_mm=(0.0, 4.0))
    changed, _ = scan(chest, wish, rng(0))
    patient = chest.hu > -1000
    assert (changed.hu - chest.hu)[patient].std() == pytest.approx(12.0, rel=0.05)
    assert (changed.hu[chest.hu == -1024] == -1024).all()
    softer, draws = scan(chest, ScannerSettings(blur_mm=(8.0, 8.0), noise_hu=(0.0, 0.0)), rng(0))
    assert draws["blur_mm"] == 8.0
    assert np.abs(np.diff(softer.hu, axis=2)).mean() < 0.9 * np.abs(np.diff(chest.hu, axis=2)).mean()
