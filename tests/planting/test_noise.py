"""Level and noise of the air of a scan, with its grain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xrecon.anatomy.healthy_lungs import find_lungs
from xrecon.phantoms.thorax import Phantom, ThoraxParameters, thorax_phantom
from xrecon.planting.noise import measure_noise


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """6 mm voxels with a little noise: coarse, so that planting takes a second."""
    return thorax_phantom(64, 6.0, parameters=ThoraxParameters(noise_hu=12.0))


def test_noise_is_measured_with_its_grain(phantom: Phantom) -> None:
    chest = find_lungs(phantom.volume)
    noise = measure_noise(phantom.volume, chest)
    assert noise.sd_hu == pytest.approx(12.0, rel=0.35)
    assert max(noise.correlation) < 0.35, "the phantom's noise is white"
    grainy = replace(noise, sd_hu=10.0, correlation=(0.2, 0.5, 0.8))
    grain = grainy.draw((40, 60, 60), np.random.default_rng(0))
    assert grain.std() == pytest.approx(10.0, rel=0.01)
    for axis, expected in enumerate(grainy.correlation):
        first, second = np.delete(grain, -1, axis).ravel(), np.delete(grain, 0, axis).ravel()
        assert np.corrcoef(first, second)[0, 1] == pytest.approx(expected, abs=0.12)
