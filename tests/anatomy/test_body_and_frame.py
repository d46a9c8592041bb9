"""Body, lungs and frame of the phantom, whose truth is known; and the same in any orientation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from xrecon.anatomy.body import body_mask, find_body, without_table
from xrecon.anatomy.frame import framed, lung_box, thorax_centre
from xrecon.anatomy.morphology import distance_mm
from xrecon.errors import InputError
from xrecon.phantoms.thorax import Phantom, thorax_phantom
from xrecon.volume import OUTSIDE_HU, Volume


def box_of(mask: NDArray[np.bool_], volume: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners (LPS mm) of the voxels' centres in a mask."""
    world = np.argwhere(mask) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return world.min(axis=0), world.max(axis=0)


def turned(volume: Volume, axes: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> Volume:
    """The same scan, stored with its axes permuted and flipped."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    for new, old in enumerate(axes):
        matrix[old, new] = -1 if flips[new] else 1
        matrix[old, 3] = volume.shape[old] - 1 if flips[new] else 0
    hu = volume.hu.transpose(axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    return replace(volume, hu=np.ascontiguousarray(hu), affine=volume.affine @ matrix)


def test_the_mask_is_the_body_without_the_table(phantom64: Phantom) -> None:
    mask = body_mask(phantom64.volume)
    body, table = phantom64.structures["body"], phantom64.structures["table"]
    assert table.sum() > 1000
    dice = 2 * (mask & body).sum() / (mask.sum() + body.sum())
    assert dice > 0.98
    assert (mask & table).sum() < 0.01 * table.sum()
    assert (mask & np.isin(phantom64.labels, (1, 2))).sum() > 0.999 * np.isin(phantom64.labels, (1, 2)).sum()


def test_the_table_is_gone_and_the_body_untouched(phantom64: Phantom) -> None:
    ct = phantom64.volume
    clean = without_table(ct)
    mask = body_mask(ct)
    assert (clean.hu[~mask] == OUTSIDE_HU).all()
    assert np.array_equal(clean.hu[mask], ct.hu[mask])
    table = phantom64.structures["table"]
    assert ct.hu[table].mean() > -700
    assert clean.hu[table].mean() < -1000
    assert any("table" in note for note in clean.notes)


def test_a_table_that_touches_the_back_and_a_wire_go_too(phantom64: Phantom) -> None:
    hu = phantom64.volume.hu.copy()
    hu[:, 5, 40] = 300.0  # a cable along the chest, one voxel thick
    mask = body_mask(phantom64.volume.with_hu(hu))
    assert not mask[:, 5, 40].any()


def test_arms_beside_the_chest_belong_to_the_body(phantom64: Phantom) -> None:
    hu = phantom64.volume.hu.copy()
    _, h, w = np.meshgrid(*(np.arange(64),) * 3, indexing="ij")
    arms = ((h - 32) ** 2 + (w - 1) ** 2 < 36) | ((h - 32) ** 2 + (w - 62) ** 2 < 36)
    arms &= hu < -900
    hu[arms] = 30.0
    assert body_mask(phantom64.volume.with_hu(hu))[arms].mean() > 0.9


def test_lungs_and_centre_agree_with_the_labels(phantom64: Phantom) -> None:
    low, high = lung_box(phantom64.volume)
    lungs = np.isin(phantom64.labels, (1, 2, 3))
    truth_low, truth_high = box_of(lungs, phantom64.volume)
    assert np.abs(low - truth_low).max() <= 6.0  # one voxel: the tips of the recesses
    assert np.abs(high - truth_high).max() <= 6.0
    assert np.abs(thorax_centre(phantom64.volume) - (truth_low + truth_high) / 2).max() <= 6.0


def test_the_windpipe_above_the_lungs_is_not_lung(phantom64: Phantom) -> None:
    trachea = phantom64.structures["trachea"]
    _, lung_top = box_of(np.isin(phantom64.labels, (1, 2)), phantom64.volume)
    _, trachea_top = box_of(trachea, phantom64.volume)
    assert trachea_top[2] > lung_top[2] + 20
    assert lung_box(phantom64.volume)[1][2] <= lung_top[2] + 6.0


def test_a_pneumothorax_does_not_move_the_centre() -> None:
    from xrecon.phantoms.thorax import ThoraxParameters

    well = thorax_phantom(64, 6.0)
    sick = thorax_phantom(
        64, 6.0, parameters=replace(ThoraxParameters(), pneumothorax_side="left", pneumothorax_ml=900.0)
    )
    assert np.abs(thorax_centre(well.volume) - thorax_centre(sick.volume)).max() <= 6.0


@settings(max_examples=4, deadline=None)
@given(
    axes=st.permutations([0, 1, 2]),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_orientation_of_the_file_does_not_matter(
    phantom64: Phantom, axes: list[int], flips: tuple[bool, bool, bool]
) -> None:
    other = turned(phantom64.volume, (axes[0], axes[1], axes[2]), flips)
    assert np.allclose(thorax_centre(other), thorax_centre(phantom64.volume), atol=1e-6)
    cube, expected = framed(other, 32), framed(phantom64.volume, 32)
    assert np.allclose(cube.affine, expected.affine, atol=1e-6)
    assert np.allclose(cube.hu, expected.hu, atol=1e-2)
    assert np.array_equal(without_table(other).hu, without_table(phantom64.volume).hu)


def test_the_quick_body_on_blocks_is_the_body_to_a_block(phantom64: Phantom) -> None:
    ct = phantom64.volume.resampled((128, 128, 128), 3.0)
    exact, quick = body_mask(ct), find_body(ct)
    inside = quick.at([np.arange(n) for n in ct.shape])
    assert (inside & exact).sum() > 0.97 * exact.sum()
    assert not (inside & (distance_mm(exact, ct.spacing_mm) > 8.0)).any()  # no table, no clothes
    box = quick.box()
    assert exact[box].sum() == exact.sum()


def test_the_quick_body_of_nothing_is_an_error(phantom64: Phantom) -> None:
    with pytest.raises(InputError, match=r"no body found.*-1000 to -1000"):
        find_body(phantom64.volume.with_hu(np.full_like(phantom64.volume.hu, -1000.0)))


def test_a_mask_needs_known_axes(phantom64: Phantom) -> None:
    with pytest.raises(InputError, match="canonical"):
        body_mask(turned(phantom64.volume, (2, 1, 0), (False, False, False)))


def test_the_frame_is_a_cube_round_the_centre(phantom64: Phantom) -> None:
    centre = thorax_centre(phantom64.volume)
    cube = framed(phantom64.volume, 96)
    assert cube.shape == (96, 96, 96)
    assert cube.spacing_mm == pytest.approx((4.0, 4.0, 4.0))
    assert np.allclose(cube.centre_mm, centre)
    moved = framed(phantom64.volume, 32, centre_mm=centre + np.array([0.0, 0.0, 300.0]))
    assert moved.hu[0].max() == OUTSIDE_HU  # beyond the scan
    assert moved.hu[-1].max() > 0


def test_without_lungs_or_body_it_says_so(phantom64: Phantom) -> None:
    hu = phantom64.volume.hu.copy()
    hu[np.isin(phantom64.labels, (1, 2, 3)) | phantom64.structures["airways"]] = 40.0
    with pytest.raises(InputError, match="no lungs found"):
        thorax_centre(phantom64.volume.with_hu(hu))
    with pytest.raises(InputError, match="no body found"):
        lung_box(phantom64.volume.with_hu(np.full_like(hu, -1000.0)))
