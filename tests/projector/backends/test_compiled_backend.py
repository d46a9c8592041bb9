"""The compiled kernels compute what the plain torch path computes, in value and in every derivative."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from xrecon.geometry import ConeBeam
from xrecon.projector.backends.bundles import frame_bundles
from xrecon.projector.backends.compiled import refusal
from xrecon.projector.backends.lines import lines_of
from xrecon.projector.backends.reference import project_reference
from xrecon.projector.operator import backproject, project
from xrecon.projector.rays import ray_frame

SHAPE, SPACING = (29, 41, 53), (3.1, 2.3, 1.9)
"""No axis is a multiple of the vector length."""


def _view(*, angle: float = 0.0, tilt: float = 0.0, roll: float = 0.0, size: tuple[int, int] = (21, 37)) -> ConeBeam:
    field_mm = 170.0
    return ConeBeam(
        source_to_isocentre_mm=300.0,
        source_to_detector_mm=480.0,
        detector_shape=size,
        pixel_mm=(field_mm / size[0], field_mm / size[1]),
        angle_deg=angle,
        tilt_deg=tilt,
        roll_deg=roll,
        translation_mm=(3.0, -2.0, 4.0),
    )


def _random_views(count: int) -> dict[str, ConeBeam]:
    rng = np.random.default_rng(3)
    angles = rng.uniform((-180, -85, -180), (180, 85, 180), size=(count, 3))
    return {f"random{i}": _view(angle=a, tilt=t, roll=r) for i, (a, t, r) in enumerate(angles.tolist())}


VIEWS = {
    "frontal": _view(),
    "lateral": _view(angle=90.0),
    "axial": _view(tilt=89.9),
    "tilted frontal": _view(angle=7.0, tilt=-9.0, roll=11.0),
    "tilted lateral": _view(angle=97.0, tilt=-9.0, roll=11.0),
    "tilted axial": _view(angle=7.0, tilt=81.0, roll=11.0),
    "two dominant axes": _view(angle=45.0),
    "three dominant axes": _view(angle=45.0, tilt=35.26),
    "columns along the spine": _view(roll=90.0),
    "coarse detector": _view(angle=20.0, size=(5, 7)),
    "fine detector": _view(angle=-20.0, size=(40, 160)),
    "one wide row": replace(_view(angle=3.0), detector_shape=(1, 9), pixel_mm=(5.0, 60.0)),
    **_random_views(20),
}


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def _volume(*, batch: int = 1, seed: int = 0) -> Tensor:
    return 0.02 * torch.rand(batch, *SHAPE, generator=torch.Generator().manual_seed(seed))


def _reference(volume: Tensor, view: ConeBeam, pose: Tensor | None = None) -> Tensor:
    frame = ray_frame(view, pose=pose)
    return project_reference(volume.double(), SPACING, frame, view.detector_shape)[:, None]


@pytest.mark.parametrize("name", VIEWS)
def test_equals_the_plain_path(name: str, threads: int) -> None:
    volume, view = _volume(batch=2), VIEWS[name]
    assert refusal(volume) is None
    film = project(volume[:, None], SPACING, view)
    expected = _reference(volume, view)
    assert expected.max() > 0.1
    torch.testing.assert_close(film.double(), expected, rtol=0, atol=1e-5 * float(expected.max()))


@pytest.mark.parametrize("name", VIEWS)
def test_transpose(name: str, threads: int) -> None:
    view = VIEWS[name]
    volume = _volume(batch=2) - 0.01
    films = torch.rand(2, 1, *view.detector_shape, generator=torch.Generator().manual_seed(1)) - 0.5
    there = project(volume[:, None], SPACING, view)
    back = backproject(films, SHAPE, SPACING, view)
    scale = float(there.double().norm() * films.double().norm())
    difference = (there.double() * films).sum() - (back[:, 0].double() * volume).sum()
    assert abs(float(difference)) < 1e-6 * scale
    zero = torch.zeros(2, 1, *SHAPE, dtype=torch.float64, requires_grad=True)
    frame = ray_frame(view)
    plain = project_reference(zero[:, 0], SPACING, frame, view.detector_shape)
    (expected,) = torch.autograd.grad(plain, zero, films[:, 0].double())
    torch.testing.assert_close(back.double(), expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    view, volume = VIEWS["tilted lateral"], _volume()
    films = torch.rand(1, 1, *view.detector_shape, generator=torch.Generator().manual_seed(1))
    before, results = torch.get_num_threads(), []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        results.append((project(volume[:, None], SPACING, view), backproject(films, SHAPE, SPACING, view)))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("name", ["tilted frontal", "tilted lateral", "tilted axial", "two dominant axes", "random3"])
def test_pose_gradient(name: str) -> None:
    view, volume = VIEWS[name], _volume()
    weight = torch.rand(1, 1, *view.detector_shape, generator=torch.Generator().manual_seed(2))
    pose = torch.tensor([1.0, -2.0, 0.5, 2.0, 1.0, -3.0], dtype=torch.float64, requires_grad=True)
    (got,) = torch.autograd.grad((project(volume[:, None], SPACING, view, pose=pose) * weight).sum(), pose)
    (expected,) = torch.autograd.grad((_reference(volume, view, pose) * weight).sum(), pose)
    # Single samples jump where a ray crosses a voxel's edge, in float32 and in float64 not always alike.
    torch.testing.assert_close(got, expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max()))


def test_gradient_of_several_views_is_the_sum_of_each() -> None:
    views = [VIEWS["tilted frontal"], VIEWS["tilted lateral"], VIEWS["random1"]]
    volume = _volume()[:, None].requires_grad_()
    weight = torch.rand(1, 3, 21, 37, generator=torch.Generator().manual_seed(2))
    (together,) = torch.autograd.grad((project(volume, SPACING, views) * weight).sum(), volume)
    single = sum(backproject(weight[:, i : i + 1], SHAPE, SPACING, view) for i, view in enumerate(views))
    assert isinstance(single, Tensor)
    torch.testing.assert_close(together, single, rtol=0, atol=1e-5 * float(together.abs().max()))


def test_double_backward_in_the_volume() -> None:
    view = VIEWS["tilted lateral"]
    volume = _volume()[:, None].requires_grad_()
    direction = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(4))
    (gradient,) = torch.autograd.grad(project(volume, SPACING, view).square().sum(), volume, create_graph=True)
    (second,) = torch.autograd.grad((gradient * direction).sum(), volume)
    # The energy is |A x|^2, so its Hessian times d is 2 A^T A d.
    expected = 2 * backproject(project(direction, SPACING, view), SHAPE, SPACING, view)
    torch.testing.assert_close(second, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["tilted frontal", "tilted lateral"])
def test_double_backward_through_pose_and_volume(name: str) -> None:
    view, weight = VIEWS[name], torch.rand(1, 1, *VIEWS[name].detector_shape, dtype=torch.float64)

    def second(path: str) -> tuple[Tensor, ...]:
        volume = (_volume() if path == "fast" else _volume().double()).requires_grad_()
        pose = torch.tensor([1.0, -2.0, 0.5, 2.0, 1.0, -3.0], dtype=torch.float64, requires_grad=True)
        film = project(volume[:, None], SPACING, view, pose=pose)
        energy = (film.double().square() * weight).sum()
        by_volume, by_pose = torch.autograd.grad(energy, (volume, pose), create_graph=True)
        mixed = (by_volume.double() * torch.linspace(0, 1, by_volume.numel()).reshape(by_volume.shape)).sum()
        return torch.autograd.grad(mixed + by_pose.sum(), (volume, pose))

    for got, expected in zip(second("fast"), second("plain"), strict=True):
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=5e-3 * float(expected.abs().max()))


def test_strided_and_half_precision_input() -> None:
    view, volume = VIEWS["tilted axial"], _volume()
    strided = torch.empty(1, *SHAPE[::-1]).permute(0, 3, 2, 1).copy_(volume)
    assert not strided.is_contiguous()
    film = project(volume[:, None], SPACING, view)
    assert torch.equal(project(strided[:, None], SPACING, view), film)
    half = project(volume[:, None].bfloat16(), SPACING, view)
    assert half.dtype == torch.float32
    assert torch.equal(half, project(volume[:, None].bfloat16().float(), SPACING, view))


def test_rays_beside_the_volume_read_zero_and_get_no_gradient() -> None:
    view = replace(VIEWS["frontal"], detector_shift_mm=(900.0, 0.0))
    pose = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    volume = _volume()[:, None].requires_grad_()
    film = project(volume, SPACING, view, pose=pose)
    assert torch.count_nonzero(film) == 0
    by_volume, by_pose = torch.autograd.grad(film.sum(), (volume, pose))
    assert torch.count_nonzero(by_volume) == 0 and torch.count_nonzero(by_pose) == 0


def test_double_backward_where_no_ray_meets_the_volume() -> None:
    view = replace(VIEWS["frontal"], detector_shift_mm=(900.0, 0.0))
    pose = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    volume = _volume()[:, None].requires_grad_()
    film = project(volume, SPACING, view, pose=pose)
    by_volume, by_pose = torch.autograd.grad((film + 1).square().sum(), (volume, pose), create_graph=True)
    assert torch.count_nonzero(by_volume) == 0 and torch.count_nonzero(by_pose) == 0
    second = torch.autograd.grad(by_volume.sum() + by_pose.sum(), (volume, pose))
    assert all(torch.count_nonzero(gradient) == 0 for gradient in second)


def test_nominal_rays_are_kept_and_serve_gradients_after_inference_mode() -> None:
    view = _view(angle=1.23)
    with torch.inference_mode():
        project(_volume()[:, None], SPACING, view)
    volume = _volume()[:, None].requires_grad_()
    project(volume, SPACING, view).sum().backward()
    assert volume.grad is not None and volume.grad.abs().sum() > 0


def test_every_ray_belongs_to_exactly_one_dominant_axis() -> None:
    for view in VIEWS.values():
        groups = lines_of(ray_frame(view), SHAPE, SPACING, view.detector_shape)
        counts = torch.stack([group.chosen for group in groups]).sum(dim=0)
        assert bool((counts == 1).all())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_works_in_a_forked_process() -> None:
    script = """
import os, torch
from xrecon import ConeBeam, project
torch.set_num_threads(2)
view = ConeBeam.preset("chest", "pa", size=16).moved(tilt_deg=3.0)
volume = torch.ones(1, 1, 32, 32, 32)
film = project(volume, 4.0, view)
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(project(volume, 4.0, view), film) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=120).returncode == 0


def test_lines_made_in_parts_are_those_made_at_once() -> None:
    view = replace(VIEWS["three dominant axes"], detector_shape=(300, 140), pixel_mm=(1.3, 1.6))
    settings: dict[str, Any] = {"view": 0, "shape": SHAPE, "spacing_mm": SPACING, "detector_shape": view.detector_shape}
    with torch.no_grad():
        parts = frame_bundles(ray_frame(view), **settings)
    pose = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    whole = frame_bundles(ray_frame(view, pose=pose), **settings)
    assert [b.axis for b in parts] == [b.axis for b in whole] == [0, 1, 2]
    for part, bundle in zip(parts, whole, strict=True):
        assert torch.equal(part.blocks, bundle.blocks)
        torch.testing.assert_close(part.values, bundle.values.detach(), rtol=0, atol=1e-4)
