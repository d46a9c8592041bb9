"""Every kind of confounder in an artificial chest: it is drawn, its gas is dark, and a seed gives the same again."""

from __future__ import annotations

import numpy as np
import pytest

from xrecon.anatomy.healthy_lungs import ChestAir, find_lungs
from xrecon.phantoms.thorax import ThoraxParameters, thorax_phantom
from xrecon.planting.confounders.catalogue import CONFOUNDERS
from xrecon.planting.confounders.raised_diaphragm import raise_diaphragm
from xrecon.volume import RESEARCH_NOTICE, Volume

WITHOUT_GAS = {"azygos_lobe", "lobectomy"}


@pytest.fixture(scope="module")
def chest() -> tuple[Volume, ChestAir]:
    """4 mm voxels with a little noise."""
    volume = thorax_phantom(96, 4.0, parameters=ThoraxParameters(noise_hu=12.0)).volume
    return volume, find_lungs(volume)


@pytest.mark.parametrize("name", sorted(CONFOUNDERS))
def test_a_confounder_is_drawn_with_dark_gas(name: str, chest: tuple[Volume, ChestAir]) -> None:
    volume, lungs = chest
    sick, gas = CONFOUNDERS[name](volume, chest=lungs, seed=1, size=0.7, side="left")
    assert sick.synthetic and RESEARCH_NOTICE in sick.notes[-1]
    assert np.count_nonzero(np.abs(sick.hu - volume.hu) > 100.0) * volume.voxel_ml > 1.0
    if name in WITHOUT_GAS:
        assert not gas.any()
    else:
        assert np.count_nonzero(gas) * volume.voxel_ml > 0.3
        assert np.median(sick.hu[gas]) < -450.0


def test_a_seed_gives_the_same_again_and_another_one_another_place(chest: tuple[Volume, ChestAir]) -> None:
    volume, lungs = chest
    plant = CONFOUNDERS["cavity"]
    first, again, other = (plant(volume, chest=lungs, seed=seed, size=0.5, side="right")[0].hu for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_raised_diaphragm_takes_room_from_its_lung_and_none_from_the_other(chest: tuple[Volume, ChestAir]) -> None:
    volume, lungs = chest
    raised = raise_diaphragm(volume, chest=lungs, side="left", raised_mm=40.0)
    assert raised.chest.left.sum() < 0.97 * lungs.left.sum()
    assert np.array_equal(raised.chest.right, lungs.right)
    assert 20.0 < raised.lift_mm.max() <= 40.0 + 1e-3
