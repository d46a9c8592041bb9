"""The body beyond the ends of a scan."""

from __future__ import annotations

import numpy as np
import pytest

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.augmentation.scan_ends import scan_ends, without_gas
from xrecon.volume import Volume


def chest(*, lungs_from: int) -> tuple[Volume, ChestAir]:
    """A block 400 mm wide and 200 mm deep, 40 slices of 4 mm, with a lung on each side."""
    shape = (40, 60, 110)
    body, right, left = (np.zeros(shape, dtype=bool) for _ in range(3))
    body[:, 5:55, 5:105] = True
    right[lungs_from:30, 15:45, 20:45], left[lungs_from:30, 15:45, 65:90] = True, True
    ct = Volume.centred(np.where(body, 0.0, -1024.0).astype(np.float32), (4.0, 4.0, 4.0))
    return ct, ChestAir(right, left, np.zeros(shape, dtype=bool), body, None)


def upright(first: int, last: int) -> np.ndarray:
    axes = np.meshgrid(np.arange(first, last), np.arange(60), np.arange(110), indexing="ij")
    return np.stack(axes).astype(np.float32)


def test_shoulders_narrow_to_a_neck_and_the_scan_itself_stays() -> None:
    ct, air = chest(lungs_from=8)
    ends = scan_ends(ct, air, head=True, feet=True)
    index = upright(-30, 50)
    before = index.copy()
    below = ends.carry_on(index)
    inside = (before[0] >= 0) & (before[0] <= 39)
    assert np.array_equal(index[:, inside], before[:, inside])
    assert index[0].min() == 0.0
    assert index[0].max() == 39.0
    assert np.array_equal(below, before[0] > 39)
    whole = np.round(index).astype(int)
    known = ((whole >= 0) & (whole < np.array(ct.shape).reshape(3, 1, 1, 1))).all(axis=0)
    body = known & air.body[tuple(np.clip(whole[k], 0, ct.shape[k] - 1) for k in range(3))]
    widths = body.any(axis=1).sum(axis=1) * 4.0
    assert widths[0] == pytest.approx(125.0, abs=10.0)
    assert widths[30] == 400.0
    assert (np.diff(widths[:31]) >= 0).all()


def test_a_scan_that_cuts_the_lungs_ends_there() -> None:
    ct, air = chest(lungs_from=0)
    ends = scan_ends(ct, air, head=True, feet=False)
    assert ends.head is None
    assert ends.feet is None
    index = upright(-5, 45)
    before = index.copy()
    assert not ends.carry_on(index).any()
    assert np.array_equal(index, before)


def test_gas_is_filled_only_below_the_scan_and_in_the_body() -> None:
    hu = np.full((4, 2, 2), -900.0, dtype=np.float32)
    body = np.ones(hu.shape, dtype=bool)
    body[:, 0, 0] = False
    below = np.zeros(hu.shape, dtype=bool)
    below[2:] = True
    without_gas(hu, below, body)
    assert (hu[:2] == -900.0).all()
    assert (hu[2:, 0, 0] == -900.0).all()
    assert (hu[2:, 1] > 0.0).all()
