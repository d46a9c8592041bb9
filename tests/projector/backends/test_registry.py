"""A backend by name: what "auto" takes, that a forced one is taken, and what a refusal says."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import get_args

import pytest
import torch

from xrecon.errors import ConfigError, InputError
from xrecon.geometry import ConeBeam
from xrecon.projector import BACKENDS, backproject, project
from xrecon.projector.backends import aligned
from xrecon.projector.backends.registry import BackendName, backend_for
from xrecon.projector.scene import Scene

SHAPE, SPACING = (12, 14, 33), (9.0, 8.0, 4.0)
PA = ConeBeam.preset("x2ct", "pa", size=18, frame_mm=150.0)
LATERAL = ConeBeam.preset("x2ct", "lateral", size=18, frame_mm=150.0)
OBLIQUE = PA.moved(angle_deg=25.0, tilt_deg=8.0)
POSE = torch.tensor([1.0, 0.0, 0.0, 2.0, 0.0, 0.0])


def _volume(*, shape: tuple[int, int, int] = SHAPE, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype) * 0.02


def _films(views: int, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(2, views, 18, 18, generator=torch.Generator().manual_seed(1), dtype=dtype)


def test_names_of_the_table_are_those_of_the_signature() -> None:
    assert set(get_args(BackendName)) == {"auto", *BACKENDS}
    assert all(name == backend.name and backend.summary for name, backend in BACKENDS.items())
    for function in (project, backproject):
        assert inspect.signature(function).parameters["backend"].default == "auto"


@pytest.mark.parametrize(
    ("shape", "dtype", "view", "expected"),
    [
        (SHAPE, torch.float32, PA, "compiled"),
        (SHAPE, torch.float32, OBLIQUE, "compiled"),
        (SHAPE, torch.float64, PA, "reference"),
        ((12, 14, 31), torch.float32, PA, "aligned"),
        ((4, 14, 33), torch.float32, LATERAL, "aligned"),
        ((12, 14, 31), torch.float32, OBLIQUE, "reference"),
    ],
    ids=["square", "oblique", "float64", "narrow", "few slices", "narrow and oblique"],
)
def test_auto_is_the_fastest_that_can(
    shape: tuple[int, int, int], dtype: torch.dtype, view: ConeBeam, expected: str
) -> None:
    volume, films = _volume(shape=shape, dtype=dtype), _films(1, dtype=dtype)
    assert torch.equal(project(volume, SPACING, view), project(volume, SPACING, view, backend=expected))
    back = backproject(films, shape, SPACING, view)
    assert torch.equal(back, backproject(films, shape, SPACING, view, backend=expected))
    others = [
        name
        for name, backend in BACKENDS.items()
        if name != expected and backend.refusal(volume[:, 0], Scene.of(shape, SPACING, view)) is None
    ]
    for name in others:
        different = project(volume, SPACING, view, backend=name)
        assert not torch.equal(different, project(volume, SPACING, view)), f"{name} was not forced"
        torch.testing.assert_close(different, project(volume, SPACING, view), rtol=1e-4, atol=1e-5)


def test_auto_chooses_for_every_view_where_the_kernels_cannot() -> None:
    shape = (12, 14, 31)
    volume, views = _volume(shape=shape), [PA, OBLIQUE, LATERAL]
    single = [
        project(volume, SPACING, view, backend=name)
        for view, name in zip(views, ("aligned", "reference", "aligned"), strict=True)
    ]
    assert torch.equal(project(volume, SPACING, views), torch.cat(single, dim=1))
    posed = project(volume, SPACING, views, pose=POSE)
    assert torch.equal(posed, project(volume, SPACING, views, pose=POSE, backend="reference"))


@pytest.mark.parametrize("name", BACKENDS)
def test_several_views_by_a_forced_backend_are_its_single_films(name: str) -> None:
    volume, films = _volume(), _films(2)
    together = project(volume, SPACING, [PA, LATERAL], backend=name)
    for i, view in enumerate((PA, LATERAL)):
        assert torch.equal(together[:, i : i + 1], project(volume, SPACING, view, backend=name))
    back = backproject(films, SHAPE, SPACING, [PA, LATERAL], backend=name)
    gap = (together.double() * films).sum() - (back.double() * volume).sum()
    assert abs(float(gap)) < 1e-6 * float(together.double().norm() * films.double().norm())


@pytest.mark.parametrize("name", ["compiled", "reference"])
def test_pose_gradient_of_a_forced_backend(name: str) -> None:
    pose = POSE.double().requires_grad_()
    film = project(_volume(), SPACING, PA, pose=pose, backend=name)
    (gradient,) = torch.autograd.grad(film.sum(), pose)
    (expected,) = torch.autograd.grad(project(_volume().double(), SPACING, PA, pose=pose).sum(), pose)
    torch.testing.assert_close(gradient, expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("name", "volume", "view", "pose", "reason"),
    [
        ("compiled", _volume(dtype=torch.float64), PA, None, r"float32.*float64.*use 'auto' or 'reference'"),
        ("compiled", _volume(shape=(12, 14, 31)), PA, None, r"5 x 5 x 32 voxels.*got 12 x 14 x 31.*'aligned'"),
        ("compiled", _volume(shape=(4, 14, 33)), PA, None, r"got 4 x 14 x 33"),
        ("aligned", _volume(dtype=torch.float64), PA, None, r"float32.*float64"),
        ("aligned", _volume(), OBLIQUE, None, r"without tilt and roll.*use 'auto' or 'compiled' or 'reference'"),
        ("aligned", _volume(), PA, POSE, r"pose tensor"),
        ("aligned", _volume(), replace(PA, detector_shift_mm=(2000.0, 0.0)), None, r"along the beam"),
    ],
    ids=["float64", "narrow", "few slices", "aligned float64", "oblique", "pose", "steep"],
)
def test_a_backend_that_cannot_says_why(
    name: str, volume: torch.Tensor, view: ConeBeam, pose: torch.Tensor | None, reason: str
) -> None:
    with pytest.raises(InputError, match=f"backend '{name}'.*{reason}"):
        project(volume, SPACING, view, pose=pose, backend=name)
    shape = (volume.shape[2], volume.shape[3], volume.shape[4])
    with pytest.raises(InputError, match=f"backend '{name}'.*{reason}"):
        backproject(_films(1, dtype=volume.dtype), shape, SPACING, view, pose=pose, backend=name)


def test_kernels_refuse_another_device() -> None:
    elsewhere = torch.empty(1, *SHAPE, device="meta")
    with pytest.raises(InputError, match=r"runs on a CPU only, not on meta.*'aligned' or 'reference'"):
        backend_for("compiled", elsewhere, Scene.of(SHAPE, SPACING, PA))


def test_a_plan_that_would_be_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aligned, "LARGEST_ENTRIES", 100)
    with pytest.raises(InputError, match=r"interpolation weights.*more than 100"):
        project(_volume(), SPACING, PA, backend="aligned")


@pytest.mark.parametrize("name", ["fast", "", "Auto", None])
def test_an_unknown_backend_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown projector backend.*auto, compiled, aligned, reference"):
        project(_volume(), SPACING, PA, backend=name)
    with pytest.raises(ConfigError, match=r"unknown projector backend.*auto, compiled, aligned, reference"):
        backproject(_films(1), SHAPE, SPACING, PA, backend=name)
