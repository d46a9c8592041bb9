"""The flood from markers: water takes the lowest pass, and runs only where it may."""

from __future__ import annotations

import numpy as np

from xrecon.ptxseg.flood import flood


def test_water_stops_at_the_ridge() -> None:
    hu = np.full((5, 5, 21), -900.0, dtype=np.float32)
    hu[:, :, 7] = -400.0  # the ridge stands off the middle
    markers = np.zeros(hu.shape, dtype=np.uint8)
    markers[2, 2, 0], markers[2, 2, 20] = 1, 2
    flood(hu, markers, np.ones(hu.shape, dtype=bool), low_hu=-1000.0, high_hu=0.0)
    assert (markers[:, :, :7] == 1).all()
    assert (markers[:, :, 8:] == 2).all()


def test_water_stays_where_it_may_run() -> None:
    markers = np.zeros((3, 3, 9), dtype=np.uint8)
    markers[1, 1, 0] = 1
    open_ = np.ones(markers.shape, dtype=bool)
    open_[:, :, 4] = False
    flood(np.zeros(markers.shape, dtype=np.float32), markers, open_, low_hu=-1.0, high_hu=1.0)
    assert (markers[:, :, :4] == 1).all()
    assert not markers[:, :, 4:].any()
