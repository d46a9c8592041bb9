"""The working grid and the way back from it to the voxels of the input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from support.voxel_shapes import LEVELS
from xrecon.ptxseg.levels import edge_levels
from xrecon.ptxseg.refine import onto_input
from xrecon.ptxseg.work_grid import working_grid
from xrecon.volume import Volume


@settings(deadline=None, max_examples=12)
@given(
    spacing=st.tuples(*[st.sampled_from([0.7, 1.0, 1.7, 2.2, 3.0, 5.0])] * 3),
    starts=st.tuples(*[st.integers(0, 3)] * 3),
)
def test_working_voxels_lie_where_their_affine_says(
    spacing: tuple[float, float, float], starts: tuple[int, int, int]
) -> None:
    # A linear ramp in mm is reproduced by block means and by interpolation, up to the repeated ends.
    places = np.indices((12, 13, 14)).astype(np.float32)
    ramp = sum(place * s * k for place, s, k in zip(places, spacing, (1.0, 2.0, 3.0), strict=True))
    volume = Volume.centred(np.asarray(ramp, dtype=np.float32), spacing)
    box = tuple(slice(start, n) for start, n in zip(starts, volume.shape, strict=True))
    grid = working_grid(volume, (box[0], box[1], box[2]))
    matrix = np.linalg.inv(volume.affine) @ grid.volume.affine
    index = np.stack([*np.indices(grid.volume.shape), np.ones(grid.volume.shape)])
    at = np.tensordot(matrix, index, axes=1)[:3]
    expected = sum(place * s * k for place, s, k in zip(at, spacing, (1.0, 2.0, 3.0), strict=True))
    inner = tuple(slice(4, -4) if r.split > 1 else slice(None) for r in grid.ratios)
    assert np.allclose(grid.volume.hu[inner], expected[inner], atol=1e-2)
    assert all(0.7 <= s <= 2.6 for s in grid.spacing_mm)


@pytest.mark.parametrize("pitch", [0.8, 1.8, 4.0])
def test_a_ball_of_air_comes_back_from_the_working_grid(pitch: float) -> None:
    count = round(64.0 / pitch)
    places = (np.indices((count,) * 3) + 0.5) * pitch - 32.0
    radius = np.sqrt((places**2).sum(axis=0))
    share = np.clip((20.0 - radius) / pitch + 0.5, 0.0, 1.0)
    volume = Volume.centred((40.0 - 1020.0 * share).astype(np.float32), (pitch, pitch, pitch))
    grid = working_grid(volume, (slice(0, count),) * 3)
    edges = edge_levels(LEVELS, pitch)
    classes = np.where(grid.volume.hu < edges.wall_hu, np.uint8(3), np.uint8(0))
    fine = onto_input(grid, classes, edges=(edges, edges), air_hu=-980.0)
    real = share >= 0.5
    assert 2.0 * float(((fine == 3) & real).sum()) / float((fine == 3).sum() + real.sum()) > (
        0.97 if pitch < 3.0 else 0.93
    )
    assert set(np.unique(fine)) == {0, 3}


def test_lung_behind_a_thin_pleura_stays_lung() -> None:
    # Air, a pleura of 1 mm, lung; voxels of 0.7 mm, so that two make one of the working grid.
    place = (np.arange(96) + 0.5) * 0.7 - 33.6
    pleura = ndimage.gaussian_filter1d((np.abs(place) < 0.5).astype(float), 0.6)
    hu = np.where(place < 0, LEVELS.air_hu, LEVELS.lung_hu) + pleura * (40.0 - LEVELS.lung_hu)
    volume = Volume.centred(np.broadcast_to(hu, (40, 40, 96)).astype(np.float32), (0.7, 0.7, 0.7))
    grid = working_grid(volume, (slice(0, 40), slice(0, 40), slice(0, 96)))
    half = grid.volume.shape[2] // 2
    classes = np.full(grid.volume.shape, 1, np.uint8)
    classes[:, :, :half] = 3
    edges = edge_levels(LEVELS, 0.7)
    fine = onto_input(grid, classes, edges=(edges, edges), air_hu=LEVELS.air_hu)
    row = fine[20, 20]
    # The working grid parts them within a voxel of the pleura's middle; no lung beyond it may turn into air.
    assert (row[place > 0.7] == 1).all()
    assert (row[place < -1.4] == 3).all()
