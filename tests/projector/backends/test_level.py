"""Films square to the patient: the same sums as the general kernels, whatever the sizes; and which views are such."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from xrecon.geometry import ConeBeam
from xrecon.projector.backends.bundles import frame_bundles
from xrecon.projector.backends.compiled import project_bundles
from xrecon.projector.backends.level import STRIP, is_level, seen_slabs
from xrecon.projector.rays import ray_frame


def view(*, angle: float, size: tuple[int, int], field_mm: float = 300.0) -> ConeBeam:
    return ConeBeam(
        source_to_isocentre_mm=300.0,
        source_to_detector_mm=480.0,
        detector_shape=size,
        pixel_mm=(field_mm / size[0], field_mm / size[1]),
        angle_deg=angle,
        translation_mm=(3.0, -2.0, 4.0),
    )


@pytest.mark.parametrize("angle", [0.0, 90.0, 180.0, 270.0])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((20, 40, 2 * STRIP + 21), (23, 37)),
        ((20, 2 * STRIP + 21, 40), (23, 37)),
        ((37, 32, 33), (64, 90)),
        ((48, 50, 60), (7, 3)),
        ((48, 16, 60), (1, 40)),
    ],
    ids=["wide", "deep", "fine film", "pixels far apart", "one row"],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_equals_the_general_kernels(
    angle: float, shape: tuple[int, int, int], size: tuple[int, int], threads: int
) -> None:
    """A film wider than the volume: rays enter and leave through side faces, too."""
    beam, before = view(angle=angle, size=size), torch.get_num_threads()
    volume = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1))
    bundles = frame_bundles(
        ray_frame(beam), view=0, shape=shape, spacing_mm=(3.1, 2.3, 1.9), detector_shape=beam.detector_shape
    )
    assert [bundle.level for bundle in bundles] == [True]
    torch.set_num_threads(threads)
    try:
        got = project_bundles(volume, bundles, 1)
        expected = project_bundles(volume, [replace(bundle, level=False) for bundle in bundles], 1)
    finally:
        torch.set_num_threads(before)
    assert float(expected.max()) > 5
    torch.testing.assert_close(got, expected, rtol=0, atol=3e-6 * float(expected.max()))


@pytest.mark.parametrize("angle", [0.0, 90.0])
@pytest.mark.parametrize("height_mm", [73.6, -73.6])
def test_rows_that_see_only_the_outer_half_of_the_outermost_voxels(angle: float, height_mm: float) -> None:
    """Beyond the outermost centres the pair of slabs is (0, 1) or the last two, of which one weighs nothing."""
    shape, spacing = (48, 50, 60), (3.1, 2.3, 1.9)  # the outermost centres lie at 72.85 mm, the faces at 74.4
    beam = replace(view(angle=angle, size=(1, 40), field_mm=100.0), translation_mm=(0.0, 0.0, height_mm))
    bundles = frame_bundles(ray_frame(beam), view=0, shape=shape, spacing_mm=spacing, detector_shape=(1, 40))
    assert [bundle.level for bundle in bundles] == [True]
    volume = torch.rand(1, *shape, generator=torch.Generator().manual_seed(1))
    expected = project_bundles(volume, [replace(bundle, level=False) for bundle in bundles], 1)
    assert float(expected.min()) > 5
    for size in (1, 2, 48):
        # What a kernel takes from memory that it has not written would be not a number.
        del_me = [np.full(size * width * 16, np.nan, np.float32) for width in (24, 48, 8 * 48, 64 * 48)]
        del del_me
        got = project_bundles(volume, bundles, 1)
        torch.testing.assert_close(got, expected, rtol=0, atol=3e-6 * float(expected.max()))


@pytest.mark.parametrize("place", [-3.0, -0.3, 0.0, 4.4, 8.0, 8.4, 12.0])
def test_both_slabs_of_a_position_are_among_those_seen(place: float) -> None:
    u0, du = np.full((2, 16), place, np.float32), np.zeros((2, 16), np.float32)
    begin, end = seen_slabs(u0, du, (0, 2), (0, 20), 9)
    lower = min(int(min(max(place, 0.0), 8.0)), 7)
    assert 0 <= begin <= lower
    assert lower + 2 <= end <= 9


@pytest.mark.parametrize(
    ("change", "level"),
    [
        ({}, True), ({"angle_deg": 90.0}, True), ({"angle_deg": 0.05}, False), ({"tilt_deg": 1.0}, False),
        ({"roll_deg": 1.0}, False),
    ],
)  # fmt: skip
def test_only_views_square_to_the_voxels_are_level(change: dict[str, float], level: bool) -> None:
    beam = replace(view(angle=0.0, size=(16, 16), field_mm=100.0), **change)
    bundles = frame_bundles(
        ray_frame(beam), view=0, shape=(64, 64, 64), spacing_mm=(2.0, 2.0, 2.0), detector_shape=beam.detector_shape
    )
    assert [bundle.level for bundle in bundles] == [level]


def test_a_row_that_leaves_its_slab_is_not_level() -> None:
    values = np.zeros((7, 4, 16), np.float32)
    assert is_level(values, 64)
    values[1, 2, 5] = 1e-5  # 64 planes later it is 6e-4 voxel off
    assert not is_level(values, 64)
