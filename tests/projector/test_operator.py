"""The public front of the projector: what it accepts, refuses and guarantees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from xrecon.errors import GeometryError
from xrecon.geometry import ConeBeam
from xrecon.projector import backproject, project

SHAPE, SPACING = (9, 11, 10), (12.0, 9.0, 10.0)
PA = ConeBeam.preset("x2ct", "pa", size=20, frame_mm=130.0)
LATERAL = ConeBeam.preset("x2ct", "lateral", size=20, frame_mm=130.0)
OBLIQUE = PA.moved(angle_deg=25.0, tilt_deg=8.0, roll_deg=-5.0, translation_mm=(3.0, -4.0, 6.0))
BOTH = pytest.mark.parametrize("geometry", [PA, OBLIQUE], ids=["aligned", "oblique"])


def _volume(batch: int = 1, *, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 1, *SHAPE, generator=torch.Generator().manual_seed(seed)) * 0.02


def _films(batch: int = 1, views: int = 1) -> torch.Tensor:
    return torch.rand(batch, views, 20, 20, generator=torch.Generator().manual_seed(1))


def test_views_of_one_call_are_the_single_films() -> None:
    volume, views = _volume(2), [PA, OBLIQUE, LATERAL]
    films = project(volume, SPACING, views)
    assert films.shape == (2, 3, 20, 20)
    for i, view in enumerate(views):
        assert torch.equal(films[:, i : i + 1], project(volume, SPACING, view))


def test_backprojection_of_views_is_their_sum() -> None:
    films = _films(2, 3)
    views = [PA, OBLIQUE, LATERAL]
    together = backproject(films, SHAPE, SPACING, views)
    apart = sum(backproject(films[:, i : i + 1], SHAPE, SPACING, view) for i, view in enumerate(views))
    torch.testing.assert_close(together, apart)


@BOTH
def test_cases_of_a_batch_do_not_meet(geometry: ConeBeam) -> None:
    volumes = torch.cat([_volume(seed=1), _volume(seed=2) * 1000, _volume(seed=3)])
    films = project(volumes, SPACING, geometry)
    for i in range(3):
        torch.testing.assert_close(
            films[i : i + 1], project(volumes[i : i + 1], SPACING, geometry), rtol=1e-5, atol=1e-6
        )
    back = backproject(films, SHAPE, SPACING, geometry)
    torch.testing.assert_close(back[2:], backproject(films[2:], SHAPE, SPACING, geometry), rtol=1e-4, atol=1e-3)


@BOTH
def test_same_call_same_bits(geometry: ConeBeam) -> None:
    assert torch.equal(project(_volume(2), SPACING, geometry), project(_volume(2), SPACING, geometry))
    back = backproject(_films(), SHAPE, SPACING, geometry)
    assert torch.equal(back, backproject(_films(), SHAPE, SPACING, geometry))


@BOTH
def test_strides_do_not_matter(geometry: ConeBeam) -> None:
    volume = _volume(2)
    strided = volume.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0)
    assert not strided.is_contiguous()
    torch.testing.assert_close(project(strided, SPACING, geometry), project(volume, SPACING, geometry))
    films = _films()
    turned = films.transpose(2, 3).contiguous().transpose(2, 3)
    torch.testing.assert_close(
        backproject(turned, SHAPE, SPACING, geometry), backproject(films, SHAPE, SPACING, geometry)
    )


@BOTH
def test_float64_stays_and_agrees_with_float32(geometry: ConeBeam) -> None:
    single, double = project(_volume(), SPACING, geometry), project(_volume().double(), SPACING, geometry)
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-6)


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(geometry: ConeBeam, dtype: torch.dtype) -> None:
    volume = _volume().to(dtype).requires_grad_()
    film = project(volume, SPACING, geometry)
    assert film.dtype == torch.float32
    torch.testing.assert_close(film, project(volume.float(), SPACING, geometry))
    film.sum().backward()
    assert volume.grad is not None and volume.grad.dtype == dtype
    assert backproject(_films().to(dtype), SHAPE, SPACING, geometry).dtype == torch.float32


@BOTH
def test_autocast_does_not_cost_precision(geometry: ConeBeam) -> None:
    film, back = project(_volume(), SPACING, geometry), backproject(_films(), SHAPE, SPACING, geometry)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(project(_volume(), SPACING, geometry), film)
        assert torch.equal(backproject(_films(), SHAPE, SPACING, geometry), back)


@BOTH
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_backprojection_without_gradients(geometry: ConeBeam, mode: Any) -> None:
    expected = backproject(_films(), SHAPE, SPACING, geometry)
    with mode():
        films = _films()
        assert torch.equal(backproject(films, SHAPE, SPACING, geometry), expected)
        assert (
            torch.equal(backproject(films, SHAPE, SPACING, geometry, pose=torch.zeros(6)), expected) or geometry is PA
        )


@BOTH
def test_backprojection_is_differentiable_in_the_films(geometry: ConeBeam) -> None:
    films, volume = _films().requires_grad_(), _volume()
    (gradient,) = torch.autograd.grad(backproject(films, SHAPE, SPACING, geometry), films, volume)
    torch.testing.assert_close(gradient, project(volume, SPACING, geometry), rtol=1e-4, atol=1e-5)


@BOTH
def test_pose_tensor_equals_the_moved_geometry(geometry: ConeBeam) -> None:
    pose = torch.tensor([4.0, -3.0, 2.0, 5.0, -6.0, 7.0])
    moved = geometry.moved(angle_deg=4.0, tilt_deg=-3.0, roll_deg=2.0, translation_mm=(5.0, -6.0, 7.0))
    torch.testing.assert_close(project(_volume(), SPACING, geometry, pose=pose), project(_volume(), SPACING, moved))
    torch.testing.assert_close(
        backproject(_films(), SHAPE, SPACING, geometry, pose=pose), backproject(_films(), SHAPE, SPACING, moved)
    )


def test_one_pose_for_all_views_or_one_each() -> None:
    shared = torch.tensor([1.0, 2.0, 3.0, 0.0, 5.0, 0.0])
    each = torch.stack([shared, -shared])
    together = project(_volume(), SPACING, [PA, LATERAL], pose=shared)
    assert torch.equal(together[:, 1:], project(_volume(), SPACING, LATERAL, pose=shared))
    apart = project(_volume(), SPACING, [PA, LATERAL], pose=each)
    assert torch.equal(apart[:, :1], together[:, :1])
    assert torch.equal(apart[:, 1:], project(_volume(), SPACING, LATERAL, pose=-shared))


def test_a_pose_is_recovered_by_descent() -> None:
    d, h, w = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    blob = torch.from_numpy(np.exp(-3 * ((d - 0.2) ** 2 + (h + 0.1) ** 2 + 2 * (w - 0.3) ** 2)))[None, None] * 0.02
    truth = torch.tensor([0.0, 0.0, 0.0, 4.0, 0.0, -3.0], dtype=torch.float64)
    beam = PA.with_detector((10, 10))
    film = project(blob, SPACING, beam, pose=truth)
    pose = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([pose], lr=0.6)
    for _ in range(40):
        optimiser.zero_grad()
        ((project(blob, SPACING, beam, pose=pose * torch.tensor([0, 0, 0, 1, 0, 1])) - film) ** 2).mean().backward()
        optimiser.step()
    assert float((pose.detach() - truth)[[3, 5]].abs().max()) < 0.3


@pytest.mark.parametrize(
    "spacing", [10.0, 10, np.float32(10), (10.0, 10.0, 10.0), np.full(3, 10.0), torch.tensor([10.0] * 3)]
)
def test_spacings_in_many_forms(spacing: Any) -> None:
    assert torch.equal(project(_volume(), spacing, PA), project(_volume(), (10.0, 10.0, 10.0), PA))


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan"), (1.0, 2.0), (1.0, 1.0, float("inf")), "thin", None])
def test_bad_spacing_is_named(spacing: Any) -> None:
    with pytest.raises(GeometryError, match=f"spacing_mm.*{str(spacing)[:4].replace('(', '.')}"):
        project(_volume(), spacing, PA)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("volume", "named"),
    [
        (torch.zeros(9, 11, 10), r"\(9, 11, 10\)"),
        (torch.zeros(1, 2, 9, 11, 10), r"\(1, 2, 9, 11, 10\)"),
        (torch.zeros(1, 1, 0, 11, 10), r"\(1, 1, 0, 11, 10\)"),
        (torch.zeros(0, 1, 9, 11, 10), r"\(0, 1, 9, 11, 10\)"),
        (torch.zeros(1, 1, 9, 11, 10, dtype=torch.int16), "int16"),
        (torch.zeros(1, 1, 9, 11, 10, dtype=torch.complex64), "complex64"),
    ],
)
def test_bad_volume_is_named(volume: torch.Tensor, named: str) -> None:
    with pytest.raises(GeometryError, match=named):
        project(volume, SPACING, PA)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("films", "shape", "named"),
    [
        (torch.zeros(1, 2, 20, 20), SHAPE, r"\(1, 2, 20, 20\)"),
        (torch.zeros(1, 20, 20), SHAPE, r"\(1, 20, 20\)"),
        (torch.zeros(1, 1, 20, 19), SHAPE, r"20, 20\].*\(1, 1, 20, 19\)"),
        (torch.zeros(1, 1, 20, 20, dtype=torch.int32), SHAPE, "int32"),
        (torch.zeros(1, 1, 20, 20), (9, 11), r"\(9, 11\)"),
        (torch.zeros(1, 1, 20, 20), (9, 11, -1), r"\(9, 11, -1\)"),
    ],
)
def test_bad_films_are_named(films: torch.Tensor, shape: Any, named: str) -> None:
    with pytest.raises(GeometryError, match=named):
        backproject(films, shape, SPACING, PA)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("pose", "named"),
    [(torch.zeros(5), r"\(5,\)"), (torch.zeros(2, 6), r"\(2, 6\)"), (torch.full((6,), float("nan")), "nan")],
)
def test_bad_pose_is_named(pose: torch.Tensor, named: str) -> None:
    with pytest.raises(GeometryError, match=named):
        project(_volume(), SPACING, PA, pose=pose)


def test_source_inside_the_volume() -> None:
    with pytest.raises(GeometryError, match="source lies inside the volume"):
        project(_volume(), 200.0, PA)
    with pytest.raises(GeometryError, match="source lies inside the volume"):
        project(_volume(), SPACING, PA, pose=torch.tensor([0.0, 0, 0, 0, -541.0, 0]))
    with pytest.raises(GeometryError, match="source lies inside the volume"):
        backproject(_films(), SHAPE, 200.0, PA)


def test_no_views_or_unlike_detectors() -> None:
    with pytest.raises(GeometryError, match="at least one view"):
        project(_volume(), SPACING, [])
    with pytest.raises(GeometryError, match=r"same detector shape.*\(10, 10\).*\(20, 20\)"):
        project(_volume(), SPACING, [PA, LATERAL.with_detector((10, 10))])
