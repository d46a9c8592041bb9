"""What cannot be a chest CT, and what is said of one that can."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from support.voxel_shapes import SHAPE, ball
from xrecon.errors import InputError
from xrecon.ptxseg import plausibility
from xrecon.ptxseg.describe import detection_limit_ml
from xrecon.volume import Volume


@pytest.mark.parametrize(
    ("hu", "spacing", "message"),
    [
        (np.linspace(0.0, 1.0, 1000), 20.0, r"scaled to \[0, 1\]"),
        (np.linspace(0.0, 4095.0, 1000), 20.0, "subtract 1024"),
        (np.full(1000, -1000.0), 20.0, "constant"),
        (np.linspace(-1000.0, -200.0, 1000), 20.0, "nothing as dense as soft tissue"),
        (np.linspace(-1000.0, 1000.0, 1000), 1.0, "check the spacing"),
        (np.linspace(-1000.0, 1000.0, 1000), 900.0, "check the spacing"),
    ],
)
def test_what_cannot_be_a_chest_ct_is_refused(hu: NDArray[np.float64], spacing: float, message: str) -> None:
    volume = Volume.centred(hu.reshape(10, 10, 10).astype(np.float32), (spacing,) * 3)
    with pytest.raises(InputError, match=message):
        plausibility.check_units(volume)


def test_sharpness_is_the_width_of_an_edge() -> None:
    lung = ball(14)
    sharp = ndimage.gaussian_filter(np.where(lung, -860.0, 40.0).astype(np.float32), 0.6)
    soft = ndimage.gaussian_filter(sharp, 3.0)
    widths = [plausibility.edge_width_mm(hu, hu < -410.0, (2.0, 2.0, 2.0)) for hu in (sharp, soft)]
    assert widths[0] < 5.0 < 10.0 < widths[1]
    assert [plausibility.is_smooth(width) for width in widths] == [False, True]


def test_a_lung_that_leaves_the_picture_is_named() -> None:
    sides = np.zeros(SHAPE, dtype=np.uint8)
    sides[5:, 5:30, 5:30] = 1
    assert plausibility.cut_sides(sides) == ["feet"]
    assert plausibility.cut_sides(ball(12).astype(np.uint8)) == []


def test_the_detection_limit_is_that_of_the_slices() -> None:
    plain = {"thick_slices": False, "smooth_image": False, "very_noisy": False}
    assert detection_limit_ml(plain, far_apart=False) == 45.0
    assert detection_limit_ml(plain, far_apart=True) == 200.0
    assert detection_limit_ml({**plain, "very_noisy": True}, far_apart=False) is None
