"""Air in the chest that is no pneumothorax: volume and place."""

from __future__ import annotations

import numpy as np
import pytest

from xrecon.anatomy.healthy_lungs import split_lungs
from xrecon.errors import InputError
from xrecon.phantoms.thorax import Phantom, ThoraxParameters, thorax_phantom
from xrecon.planting.confounders import plant_bulla, plant_stomach_gas, plant_subcutaneous_emphysema


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """6 mm voxels with a little noise: coarse, so that planting takes a second."""
    return thorax_phantom(64, 6.0, parameters=ThoraxParameters(noise_hu=12.0))


def test_confounders_have_their_volume_and_stay_out_of_the_pleura(phantom: Phantom) -> None:
    right, left = split_lungs(phantom.volume)
    sick, bulla = plant_bulla(phantom.volume, side="left", volume_ml=80.0, seed=3)
    assert bulla.sum() * sick.voxel_ml == pytest.approx(80.0, rel=0.15)
    assert (bulla & left).sum() > 0.8 * bulla.sum()
    assert np.median(sick.hu[bulla]) < -900.0
    sick, streaks = plant_subcutaneous_emphysema(phantom.volume, side="right", volume_ml=40.0)
    assert not (streaks & (right | left)).any()
    assert np.median(sick.hu[streaks]) < -350.0
    assert np.argwhere(streaks)[:, 2].mean() < phantom.volume.shape[2] / 2
    sick, gas = plant_stomach_gas(phantom.volume, volume_ml=120.0)
    assert gas.sum() * sick.voxel_ml == pytest.approx(120.0, rel=0.2)
    assert not (gas & (right | left)).any()
    assert np.argwhere(gas)[:, 2].mean() > phantom.volume.shape[2] / 2
    with pytest.raises(InputError, match="volume_ml"):
        plant_bulla(phantom.volume, volume_ml=0.0)
