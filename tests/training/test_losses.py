"""Every loss against values computed by hand, and what their gradients reach."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from xrecon.config import load_config
from xrecon.errors import ConfigError
from xrecon.training.losses import (
    Batch,
    GeneratorLoss,
    anatomy_error,
    axis_means,
    discriminator_loss,
    feature_distance,
    generator_adversarial_loss,
    gradient_error,
    ssim,
    voxel_error,
)
from xrecon.training.run_config import Losses, Training


def _batch(ct: Tensor, **changed: Tensor) -> Batch:
    film = torch.zeros(1, 1, ct.shape[-1], ct.shape[-1])
    labels = torch.zeros_like(ct, dtype=torch.uint8)
    values = {"pa": film, "lateral": film, "ct": ct, "sides": labels, "air": labels, "measured": labels == 0}
    return Batch(**{**values, **changed})


SCORES = torch.tensor([[[[[0.0, 2.0], [-1.0, 0.5]]]]])


@pytest.mark.parametrize(
    ("form", "generator", "real", "fake"),
    [
        ("lsgan", (1 + 1 + 4 + 0.25) / 4, (1 + 1 + 4 + 0.25) / 4, (0 + 4 + 1 + 0.25) / 4),
        ("hinge", -1.5 / 4, (1 + 0 + 2 + 0.5) / 4, (1 + 3 + 0 + 1.5) / 4),
        (
            "non-saturating",
            sum(math.log1p(math.exp(-s)) for s in (0, 2, -1, 0.5)) / 4,
            sum(math.log1p(math.exp(-s)) for s in (0, 2, -1, 0.5)) / 4,
            sum(math.log1p(math.exp(s)) for s in (0, 2, -1, 0.5)) / 4,
        ),
    ],
)
def test_games(form, generator: float, real: float, fake: float) -> None:  # type: ignore[no-untyped-def]
    assert float(generator_adversarial_loss(SCORES, form)) == pytest.approx(generator)
    assert float(discriminator_loss(SCORES, form, real=True)) == pytest.approx(real)
    assert float(discriminator_loss(SCORES, form, real=False)) == pytest.approx(fake)
    # The mean over several scales.
    assert float(generator_adversarial_loss((SCORES, SCORES), form)) == pytest.approx(generator)


def test_voxel_error_counts_what_was_scanned_and_weights_lung_and_air() -> None:
    ct, fake = torch.zeros(1, 1, 2, 2, 2), torch.full((1, 1, 2, 2, 2), 0.5)
    measured = torch.ones_like(ct, dtype=torch.bool)
    measured[..., 1] = False
    fake[..., 1] = 100.0  # outside the scan: must not count
    fake[0, 0, 0, 0, 0] = 1.0
    sides = torch.zeros_like(ct, dtype=torch.uint8)
    sides[0, 0, 0, 0, 0] = 1
    batch = _batch(ct, measured=measured, sides=sides, air=sides)
    assert float(voxel_error(fake, batch, Losses())) == pytest.approx((1 + 3 * 0.25) / 4)
    assert float(voxel_error(fake, batch, Losses(voxel_form="absolute"))) == pytest.approx((1 + 3 * 0.5) / 4)
    weighted = Losses(lung_weight=2.0, air_weight=3.0)
    assert float(voxel_error(fake, batch, weighted)) == pytest.approx((6 * 1 + 3 * 0.25) / 9)
    nothing = _batch(ct, measured=torch.zeros_like(measured))
    assert float(voxel_error(fake, nothing, Losses())) == 0.0


def test_axis_means_by_hand() -> None:
    real, fake = torch.zeros(1, 1, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2)
    fake[0, 0, 0, 0, 0] = 1.0
    # Each of three projections has one pixel of 1/2 among four.
    assert float(axis_means(fake, real)) == pytest.approx(0.125)


def test_gradient_error_by_hand() -> None:
    real = torch.zeros(1, 1, 8, 8, 8)
    ramp = torch.arange(8.0)[None, None, :, None, None].expand(1, 1, 8, 8, 8)
    # Slopes along D: 1, then 2 and 4 voxels per halving; the other two axes are flat.
    assert float(gradient_error(ramp, real)) == pytest.approx((1 + 2 + 4) / 9)


def test_ssim_is_that_of_scikit_image() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 12, 13, 14))
    full = structural_similarity(a, b, win_size=7, data_range=1.0, use_sample_covariance=False, full=True)[1]
    inner = full[3:-3, 3:-3, 3:-3].mean()
    ours = ssim(*(torch.from_numpy(x)[None, None] for x in (a, b)))
    assert float(ours) == pytest.approx(inner, abs=1e-6)


def test_anatomy_error_pulls_hu_to_the_right_side_of_the_threshold() -> None:
    region = torch.zeros(1, 1, 4, 4, 4, dtype=torch.bool)
    region[:, :, :2] = True
    within = torch.ones_like(region)
    perfect = torch.where(region, 0.0, 1.0)
    args = {"within": within, "threshold_hu": -400.0, "slope_hu": 60.0}
    assert float(anatomy_error(perfect, region, **args)) < 0.01
    assert float(anatomy_error(1 - perfect, region, **args)) > 0.95
    fake = torch.full((1, 1, 4, 4, 4), 0.25, requires_grad=True)
    anatomy_error(fake, region, **args).backward()
    assert (fake.grad[region] > 0).all()  # less HU where there should be lung
    assert (fake.grad[~region] < 0).all()


def test_feature_distance_by_hand() -> None:
    ours = [[torch.ones(2, 3), torch.full((4,), 3.0)]]
    theirs = [[torch.zeros(2, 3), torch.zeros(4, requires_grad=True)]]
    assert float(feature_distance(ours, theirs)) == pytest.approx(2.0)


def test_total_is_the_weighted_sum_and_reaches_the_volume_through_every_term() -> None:
    losses = Losses(axis_means=2.0, ssim=0.5, gradient=0.25, hemithorax=0.3, air=0.7, projection_pixels=16)
    loss = GeneratorLoss(losses, spacing_mm=6.0)
    draw = torch.Generator().manual_seed(0)
    ct = torch.rand(1, 1, 16, 16, 16, generator=draw)
    sides = torch.zeros_like(ct, dtype=torch.uint8)
    sides[:, :, 4:12, 4:12, 4:8] = 1
    air = (sides > 0) & (ct < 0.3)
    fake = torch.rand(1, 1, 16, 16, 16, generator=draw).mul(0.2).requires_grad_()
    terms = loss.terms(fake, _batch(ct, sides=sides, air=air.to(torch.uint8)), poses=torch.Generator().manual_seed(1))
    assert set(terms) == {"voxel", "projection", "axis_means", "ssim", "gradient", "hemithorax", "air"}
    for name, value in terms.items():
        (slope,) = torch.autograd.grad(value, fake, retain_graph=True)
        assert float(slope.abs().sum()) > 0, name
    expected = sum(getattr(losses, name) * float(value.detach()) for name, value in terms.items())
    assert float(loss.total(terms).detach()) == pytest.approx(expected, rel=1e-6)


def test_poses_come_from_the_generator_given() -> None:
    loss = GeneratorLoss(Losses(projection_pixels=16), spacing_mm=6.0)
    ct, fake = torch.rand(2, 1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    values = [
        float(loss.terms(fake, _batch(ct), poses=torch.Generator().manual_seed(seed))["projection"])
        for seed in (1, 1, 2)
    ]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("losses.voxl=1", "did you mean 'losses.voxel'"),
        ("losses.voxel=-1", "losses.voxel"),
        ("run.epochs=3", "exactly one of steps and epochs"),
        ("data.augment.elastc={}", "unknown key"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, override: str, message: str) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "run.yaml"
    file.write_text("name: a\ndata: {path: b}\nrun: {steps: 3}\n")
    with pytest.raises(ConfigError, match=message):
        load_config(Training, file, [override])


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to learn from"):
        Losses(adversarial=0, voxel=0, projection=0)
    with pytest.raises(ValueError, match="needs the discriminator"):
        Losses(adversarial=0, feature_matching=1)
