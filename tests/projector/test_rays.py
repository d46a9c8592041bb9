"""Positions of source and detector in the tensor's own axes (d, h, w), worked out by hand."""

from __future__ import annotations

import pytest
import torch

from xrecon.errors import GeometryError
from xrecon.geometry import ConeBeam
from xrecon.projector.rays import check_source_outside, ray_frame


def _numbers(vector: torch.Tensor) -> list[float]:
    return [round(float(v), 9) + 0.0 for v in vector]


# d points to the feet, h to the back, w to the patient's left.
@pytest.mark.parametrize(
    ("angle", "mirrored", "source", "centre", "col_step"),
    [
        (0.0, False, [0, 500, 0], [0, -300, 0], [0, 0, 2]),  # PA: source behind, columns to the left
        (180.0, True, [0, -500, 0], [0, 300, 0], [0, 0, 2]),  # AP hung like PA
        (180.0, False, [0, -500, 0], [0, 300, 0], [0, 0, -2]),
        (90.0, False, [0, 0, -500], [0, 0, 300], [0, 2, 0]),  # left lateral: source at the right, columns to the back
        (-90.0, True, [0, 0, 500], [0, 0, -300], [0, 2, 0]),  # right lateral hung like the left one
    ],
)
def test_cardinal_views(
    angle: float, mirrored: bool, source: list[float], centre: list[float], col_step: list[float]
) -> None:
    frame = ray_frame(ConeBeam(500.0, 800.0, (4, 6), (3.0, 2.0), angle_deg=angle, mirrored=mirrored))
    assert _numbers(frame.source) == source
    assert _numbers(frame.pixels(4, 6).mean(dim=(0, 1))) == centre
    assert _numbers(frame.row_step) == [3, 0, 0]
    assert _numbers(frame.col_step) == col_step


def test_pixel_centres_and_shift() -> None:
    pixels = ray_frame(ConeBeam(500.0, 800.0, (4, 6), (3.0, 2.0))).pixels(4, 6)
    assert pixels.shape == (4, 6, 3)
    assert _numbers(pixels[0, 0]) == [-4.5, -300, -5]
    assert _numbers(pixels[3, 5]) == [4.5, -300, 5]
    shifted = ray_frame(ConeBeam(500.0, 800.0, (4, 6), (3.0, 2.0), detector_shift_mm=(10.0, -7.0))).pixels(4, 6)
    assert _numbers((shifted - pixels)[2, 3]) == [10, 0, -7]


def test_translation_moves_everything() -> None:
    base = ConeBeam(500.0, 800.0, (4, 6), (3.0, 2.0), angle_deg=33.0, tilt_deg=7.0)
    still, moved = ray_frame(base), ray_frame(base.moved(translation_mm=(1.0, 2.0, 3.0)))
    assert _numbers(moved.source - still.source) == [-3, 2, 1]  # z up is d down
    assert _numbers(moved.corner - still.corner) == [-3, 2, 1]


def test_tilt_raises_the_source_and_roll_keeps_it() -> None:
    base = ConeBeam(500.0, 800.0, (4, 6), (3.0, 2.0))
    assert _numbers(ray_frame(base.moved(tilt_deg=30.0)).source) == [-250, pytest.approx(433.0127019), 0]
    assert _numbers(ray_frame(base.moved(roll_deg=30.0)).source) == [0, 500, 0]
    assert _numbers(ray_frame(base.moved(roll_deg=90.0)).col_step) == [2, 0, 0]


def test_pose_tensor_adds_to_the_geometry() -> None:
    base = ConeBeam(500.0, 800.0, (4, 6), (3.0, 2.0), angle_deg=20.0, translation_mm=(5.0, 0.0, 0.0))
    pose = torch.tensor([3.0, -4.0, 5.0, 1.0, 2.0, -3.0], dtype=torch.float64, requires_grad=True)
    by_pose = ray_frame(base, pose=pose)
    by_value = ray_frame(base.moved(angle_deg=3.0, tilt_deg=-4.0, roll_deg=5.0, translation_mm=(1.0, 2.0, -3.0)))
    for name in ("source", "corner", "row_step", "col_step"):
        torch.testing.assert_close(getattr(by_pose, name), getattr(by_value, name))
    (gradient,) = torch.autograd.grad(by_pose.source.sum(), pose)
    assert _numbers(gradient[3:]) == [1, 1, -1]


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("pose", [torch.zeros(5), torch.zeros(1, 6), torch.tensor([0.0, 0, 0, 0, float("inf"), 0])])
def test_bad_pose(pose: torch.Tensor) -> None:
    with pytest.raises(GeometryError, match="pose"):
        ray_frame(ConeBeam(500.0, 800.0, (4, 6), (3.0, 2.0)), pose=pose)


@pytest.mark.parametrize(("spacing", "inside"), [(9.0, False), (10.0, False), (10.1, True)])
def test_source_inside_the_volume(spacing: float, inside: bool) -> None:
    frame = ray_frame(ConeBeam(50.0, 800.0, (4, 6), (3.0, 2.0)))  # 50 mm: on the face of 10 voxels of 10 mm
    if not inside:
        check_source_outside(frame, (10, 10, 10), (spacing,) * 3)
        return
    with pytest.raises(GeometryError, match=r"source lies inside the volume.*50\.0.*50\.5.*source_to_isocentre_mm"):
        check_source_outside(frame, (10, 10, 10), (spacing,) * 3)


def test_precision_is_the_callers() -> None:
    frame = ray_frame(ConeBeam(500.0, 800.0, (4, 6), (3.0, 2.0)), dtype=torch.float32)
    assert frame.source.dtype == frame.pixels(4, 6).dtype == torch.float32
