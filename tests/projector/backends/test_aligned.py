"""The matrix-product path gives the film of the reference projector, and knows when it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from xrecon.geometry import PRESETS, VIEW_POSITIONS, ConeBeam
from xrecon.projector.backends import aligned
from xrecon.projector.backends.aligned import aligned_plan, project_aligned
from xrecon.projector.backends.reference import project_reference
from xrecon.projector.rays import ray_frame

GRIDS = {
    "cubic": ((10, 10, 10), (9.0, 9.0, 9.0)),
    "anisotropic": ((7, 31, 40), (15.0, 2.5, 2.0)),
    "thin": ((9, 1, 1), (10.0, 60.0, 70.0)),
    "one-slice": ((1, 16, 12), (30.0, 5.0, 6.0)),
}


def _films(
    geometry: ConeBeam, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Films [2, rows, cols] by plan and by reference, float32 and float64."""
    volume = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.02
    plan = aligned_plan(shape, spacing, geometry)
    assert plan is not None
    reference = project_reference(volume, spacing, ray_frame(geometry), geometry.detector_shape)
    return project_aligned(volume.float(), plan), reference


def _assert_same(by_plan: torch.Tensor, reference: torch.Tensor) -> None:
    assert float(reference.max()) > 0 and by_plan.shape == reference.shape
    torch.testing.assert_close(by_plan.double(), reference, rtol=0, atol=2e-6 * float(reference.max()))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("view", VIEW_POSITIONS)
@pytest.mark.parametrize("preset", PRESETS)
def test_equals_the_reference(preset: str, view: str, grid: str) -> None:
    shape, spacing = GRIDS[grid]
    geometry = ConeBeam.preset(preset, view, size=26)
    pitch = 4.6 * geometry.magnification  # 120 mm at the isocentre
    geometry = replace(geometry, detector_shape=(26, 23), pixel_mm=(pitch, pitch))
    if grid == "thin" and aligned_plan(shape, spacing, geometry) is None:
        assert preset == "prost", "only its wide beam crosses the short axis of these voxels faster"
        return
    _assert_same(*_films(geometry, shape, spacing))


@pytest.mark.parametrize("view", VIEW_POSITIONS)
@pytest.mark.parametrize(
    "change",
    [
        {"translation_mm": (13.0, -8.0, 21.0), "detector_shift_mm": (14.0, -9.0)},
        {"source_to_detector_mm": 520.0},  # the detector inside the volume
    ],
    ids=["moved", "detector-inside"],
)
def test_equals_the_reference_in_odd_places(change: dict[str, object], view: str) -> None:
    angle, mirrored = VIEW_POSITIONS[view]
    base = ConeBeam(500.0, 900.0, (21, 24), (7.0, 6.0), angle_deg=angle, mirrored=mirrored)
    _assert_same(*_films(replace(base, **change), (9, 12, 14), (10.0, 9.0, 8.0)))


@pytest.mark.parametrize("view", VIEW_POSITIONS)
def test_equals_the_reference_for_a_source_beside_the_volume(view: str) -> None:
    angle, mirrored = VIEW_POSITIONS[view]
    aside = (-75.0, 0.0, 0.0) if view in ("pa", "ap") else (0.0, -75.0, 0.0)
    beside = ConeBeam(30.0, 400.0, (21, 24), (7.0, 6.0), angle, mirrored=mirrored, translation_mm=aside)
    _assert_same(*_films(replace(beside, detector_shift_mm=(0.0, 200.0)), (9, 12, 14), (10.0, 9.0, 8.0)))


def test_gradient_equals_the_reference() -> None:
    shape, spacing = GRIDS["anisotropic"]
    geometry = ConeBeam.preset("x2ct", "lateral", size=20, frame_mm=110.0)
    plan = aligned_plan(shape, spacing, geometry)
    assert plan is not None
    volume = torch.zeros(1, *shape, requires_grad=True)
    weights = torch.rand(1, 20, 20, generator=torch.Generator().manual_seed(2))
    (by_plan,) = torch.autograd.grad(project_aligned(volume, plan), volume, weights)
    film = project_reference(volume, spacing, ray_frame(geometry), (20, 20))
    (reference,) = torch.autograd.grad(film, volume, weights)
    torch.testing.assert_close(by_plan, reference, rtol=1e-4, atol=1e-4)


def test_no_plan_where_the_method_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, spacing = GRIDS["cubic"]
    plain = ConeBeam(500.0, 900.0, (8, 8), (10.0, 10.0))
    assert aligned_plan(shape, spacing, plain) is not None
    assert aligned_plan(shape, spacing, plain.moved(tilt_deg=1e-3)) is None
    assert aligned_plan(shape, spacing, plain.moved(angle_deg=1e-3)) is None
    assert aligned_plan(shape, spacing, replace(plain, detector_shift_mm=(1000.0, 0.0))) is None, "steeper than 45"
    assert aligned_plan(shape, (0.2, 9.0, 9.0), plain) is None, "thin slices are crossed faster"
    monkeypatch.setattr(aligned, "LARGEST_ENTRIES", 10)
    assert aligned_plan(shape, spacing, plain) is None, "too large to keep"


def test_plan_is_kept_and_serves_gradients_after_inference_mode() -> None:
    shape, spacing = GRIDS["cubic"]
    geometry = ConeBeam(500.0, 900.0, (8, 8), (17.0, 19.0), name="met first in inference mode")
    with torch.inference_mode():
        plan = aligned_plan(shape, spacing, geometry)
    assert plan is not None and aligned_plan(shape, spacing, geometry) is plan
    volume = torch.ones(1, *shape, requires_grad=True)
    project_aligned(volume, plan).sum().backward()
    assert volume.grad is not None and float(volume.grad.sum()) > 0
