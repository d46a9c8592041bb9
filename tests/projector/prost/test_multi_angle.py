"""The multi-angle projection loss: same pose for both volumes, gradient to the first only, seeded poses."""

from __future__ import annotations

import pytest
import torch

from xrecon.errors import GeometryError
from xrecon.projector.prost.multi_angle import (
    NOMINAL_VIEWS,
    MultiAngleProjectionLoss,
    PoseOffset,
    random_pose,
)
from xrecon.projector.prost.projection import prost_project

OFFSET = PoseOffset((7.5, -4.0, 3.0), (5.0, -6.0, 3.5))
MODES = {"compatible": True, "corrected": False}


def _pair(dtype: torch.dtype = torch.float64, size: int = 8, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    fake, real = torch.rand(2, batch, 1, size, size, size, generator=generator, dtype=torch.float64).to(dtype)
    return fake, real


def _loss(mode: str, **options: object) -> MultiAngleProjectionLoss:
    return MultiAngleProjectionLoss(**{"compatible": MODES[mode], "detector_shape": (16, 16), **options})


@pytest.mark.parametrize("mode", MODES)
def test_value_is_the_mean_difference_of_the_films(mode: str) -> None:
    fake, real = _pair(batch=2)
    value = _loss(mode)(fake, real, spacing_mm=3.0, pose=OFFSET)
    by_view = []
    for nominal in NOMINAL_VIEWS.values():
        rotation = [a + b for a, b in zip(nominal, OFFSET.rotation_deg, strict=True)]
        first, second = (
            prost_project(
                volume,
                rotation_deg=rotation,
                translation_mm=OFFSET.translation_mm,
                compatible=MODES[mode],
                spacing_mm=3.0,
                detector_shape=(16, 16),
                scale="volume",
            )
            for volume in (fake, real)
        )
        by_view.append(float((first - second).abs().mean()))
    assert len(set(by_view)) == 3
    assert float(value) == pytest.approx(sum(by_view) / 3, rel=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_gradient_reaches_the_fake_volume_only(mode: str) -> None:
    fake, real = (volume.requires_grad_() for volume in _pair())
    _loss(mode)(fake, real, spacing_mm=3.0).backward()
    assert real.grad is None
    assert fake.grad is not None
    assert float(fake.grad.abs().sum()) > 0
    assert float(_loss(mode)(fake, fake, spacing_mm=3.0).detach()) == 0.0


@pytest.mark.parametrize("mode", MODES)
def test_a_step_down_the_gradient_lowers_the_loss(mode: str) -> None:
    fake, real = _pair(torch.float32)
    fake.requires_grad_()
    loss = _loss(mode)
    before = loss(fake, real, spacing_mm=3.0, pose=OFFSET)
    (gradient,) = torch.autograd.grad(before, fake)
    with torch.no_grad():
        after = loss(fake - 0.05 * gradient / gradient.norm(), real, spacing_mm=3.0, pose=OFFSET)
    assert float(after) < float(before.detach())


def test_seeded_generator_repeats_and_one_draw_serves_all_views() -> None:
    fake, real = _pair()
    loss = _loss("compatible")
    values = [float(loss(fake, real, generator=torch.Generator().manual_seed(s))) for s in (3, 3, 4)]
    assert values[0] == values[1] != values[2]
    generator = torch.Generator().manual_seed(3)
    pose = random_pose(generator)
    assert float(loss(fake, real, pose=pose)) == values[0]
    assert random_pose(generator) != pose
    assert values[0] != float(loss(fake, real))


def test_random_poses_have_the_published_spread() -> None:
    generator = torch.Generator().manual_seed(0)
    poses = [random_pose(generator) for _ in range(2000)]
    angles = torch.tensor([pose.rotation_deg for pose in poses])
    shifts = torch.tensor([pose.translation_mm for pose in poses])
    assert angles.shape == shifts.shape == (2000, 3)
    torch.testing.assert_close(angles.std(0), torch.full((3,), 10.0), rtol=0.05, atol=0)
    torch.testing.assert_close(shifts.std(0), torch.full((3,), 8.0), rtol=0.05, atol=0)
    assert float(angles.mean(0).abs().max()) < 0.6
    assert float(shifts.mean(0).abs().max()) < 0.5
    correlation = torch.corrcoef(torch.cat([angles, shifts], dim=1).T) - torch.eye(6)
    assert float(correlation.abs().max()) < 0.09


def test_films_for_pictures_follow_the_views() -> None:
    fake, _ = _pair(batch=2)
    all_views = _loss("corrected").project(fake, spacing_mm=3.0)
    assert all_views.shape == (2, 3, 16, 16)
    two = _loss("corrected", views=("coronal", "axial")).project(fake, spacing_mm=3.0)
    assert torch.equal(two, all_views[:, [2, 0]])


def test_default_mode_is_the_corrected_one_and_keeps_the_size_of_the_loss() -> None:
    fake, real = _pair()
    default = MultiAngleProjectionLoss(detector_shape=(16, 16))
    assert default.compatible is False
    with pytest.raises(GeometryError, match="spacing_mm"):
        default(fake, real)
    # A head-to-foot ramp as the error: the published weight 0.1 serves both modes.
    ramp = torch.linspace(0, 0.2, 32, dtype=torch.float64).view(1, 1, 32, 1, 1).expand(1, 1, 32, 32, 32)
    zero = torch.zeros_like(ramp)
    corrected, published = (float(_loss(mode)(ramp, zero, spacing_mm=12.0)) for mode in ("corrected", "compatible"))
    assert 1.0 < corrected / published < 1.3


def test_repr_tells_the_settings() -> None:
    text = repr(MultiAngleProjectionLoss(("axial",), scale=1.0))
    assert "axial" in text
    assert "compatible=False, scale=1.0" in text
    assert "compatible=True" in repr(MultiAngleProjectionLoss(compatible=True))


@pytest.mark.parametrize("views", [(), ("frontal",), "axial"])
def test_bad_views(views: object) -> None:
    with pytest.raises(GeometryError, match=r"views must be.*'axial', 'sagittal', 'coronal'"):
        MultiAngleProjectionLoss(views)


@pytest.mark.usefixtures("without_shape_checks")
def test_bad_input() -> None:
    fake, real = _pair()
    loss = _loss("compatible")
    with pytest.raises(GeometryError, match=r"same shape.*\(1, 1, 8, 8, 8\) and \(1, 1, 8, 8, 7\)"):
        loss(fake, real[..., :7])
    with pytest.raises(GeometryError, match="got both"):
        loss(fake, real, pose=OFFSET, generator=torch.Generator())
    for pose in ((1.0, 2.0, 3.0), ((1.0, 2.0), (0.0, 0.0, 0.0)), torch.zeros(6)):
        with pytest.raises(GeometryError, match="a pose is"):
            loss(fake, real, pose=pose)
    with pytest.raises(GeometryError, match="rotation_deg"):
        loss(fake, real, pose=PoseOffset((float("nan"), 0.0, 0.0), (0.0, 0.0, 0.0)))
