"""Loss terms of the generator and of the discriminator, each a function of tensors, and the generator's weighted sum.

Volumes are [N, 1, D, H, W] in the network range, (HU + 1024) / 2500 in 0..1. The published terms and weights are in
docs/explanation/published-system.md (X-Recon, arXiv 2407.15356).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from xrecon.models.config import HU_OFFSET, HU_SCALE
from xrecon.projector import MultiAngleProjectionLoss
from xrecon.training.run_config import GanForm, Losses

SSIM_WINDOW = 7
GRADIENT_SCALES = 3
LUNG_THRESHOLD_HU, LUNG_SLOPE_HU = -400.0, 60.0
AIR_THRESHOLD_HU, AIR_SLOPE_HU = -930.0, 15.0
"""Soft thresholds of the anatomy terms: the HU of half weight, and the width of the sigmoid there."""

Scores = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Batch:
    """Training cases of one step as tensors, on the device of the networks.

    Attributes:
        pa, lateral: [N, 1, S, S], 0..1.
        ct: [N, 1, S, S, S], network range.
        sides: [N, 1, S, S, S], 0 outside, 1 right, 2 left hemithorax (uint8).
        air: the same shape, 1 in free pleural air (uint8).
        measured: the same shape, whether the scanner covered the voxel (bool).
    """

    pa: Tensor
    lateral: Tensor
    ct: Tensor
    sides: Tensor
    air: Tensor
    measured: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(**{name: value.to(device) for name, value in vars(self).items()})


def generator_adversarial_loss(scores: Scores, form: GanForm) -> Tensor:
    """Loss of the generator by the discriminator's scores of its volume; mean over patches and scales."""
    maps = _maps(scores)
    if form == "lsgan":
        return _mean([(patches - 1).square().mean() for patches in maps])
    if form == "hinge":
        return _mean([-patches.mean() for patches in maps])
    return _mean([functional.softplus(-patches).mean() for patches in maps])


def discriminator_loss(scores: Scores, form: GanForm, *, real: bool) -> Tensor:
    """Loss of the discriminator by its scores of a real or of a synthetic volume; mean over patches and scales."""
    maps = _maps(scores)
    if form == "lsgan":
        return _mean([(patches - float(real)).square().mean() for patches in maps])
    sign = -1.0 if real else 1.0
    if form == "hinge":
        return _mean([functional.relu(1 + sign * patches).mean() for patches in maps])
    return _mean([functional.softplus(sign * patches).mean() for patches in maps])


def voxel_error(fake: Tensor, batch: Batch, losses: Losses) -> Tensor:
    """Weighted mean of the voxel errors over what the scanner covered; 0 where it covered nothing."""
    error = (fake - batch.ct).square() if losses.voxel_form == "squared" else (fake - batch.ct).abs()
    weight = batch.measured.to(error.dtype)
    if losses.lung_weight != 1.0:
        weight = weight * torch.where(batch.sides > 0, losses.lung_weight, 1.0)
    if losses.air_weight != 1.0:
        weight = weight * torch.where(batch.air > 0, losses.air_weight, 1.0)
    return (error * weight).sum() / weight.sum().clamp_min(1.0)


def axis_means(fake: Tensor, real: Tensor) -> Tensor:
    """L1 of the mean projections along D, H and W, averaged: the projection loss of X2CT-GAN."""
    return _mean([(fake.mean(dim=axis) - real.mean(dim=axis)).abs().mean() for axis in (2, 3, 4)])


def feature_distance(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """L1 of the discriminator's inner maps, averaged over layers and scales; no gradient into the real ones."""
    pairs = [pair for scales in zip(fake, real, strict=True) for pair in zip(*scales, strict=True)]
    return _mean([(a - b.detach()).abs().mean() for a, b in pairs])


def ssim(fake: Tensor, real: Tensor) -> Tensor:
    """Mean SSIM of two volumes in 3D: uniform window of 7 voxels, data range 1 (Wang et al., IEEE TIP 13:600, 2004)."""
    c1, c2 = 0.01**2, 0.03**2
    a, b, aa, bb, ab = (functional.avg_pool3d(x, SSIM_WINDOW, 1) for x in (fake, real, fake**2, real**2, fake * real))
    variance_a, variance_b, covariance = aa - a * a, bb - b * b, ab - a * b
    above = (2 * a * b + c1) * (2 * covariance + c2)
    below = (a * a + b * b + c1) * (variance_a + variance_b + c2)
    return (above / below).mean()


def gradient_error(fake: Tensor, real: Tensor) -> Tensor:
    """L1 of the differences of neighbouring voxels along each axis, at full, half and quarter resolution, averaged."""
    terms = []
    for scale in range(GRADIENT_SCALES):
        if scale:
            fake, real = functional.avg_pool3d(fake, 2), functional.avg_pool3d(real, 2)
        terms += [(fake.diff(dim=axis) - real.diff(dim=axis)).abs().mean() for axis in (2, 3, 4)]
    return _mean(terms)


def anatomy_error(fake: Tensor, region: Tensor, *, within: Tensor, threshold_hu: float, slope_hu: float) -> Tensor:
    """1 - Dice between the voxels below an HU threshold (soft, so that it has a gradient) and the true region.

    The networks give HU and no labels: this pulls the HU inside the region below the threshold, those outside above it.

    Args:
        fake: the generated volume, network range.
        region: the true region (bool).
        within: mask in which both are counted (bool).
        threshold_hu: HU at which a voxel counts half.
        slope_hu: width of the sigmoid, HU.
    """
    soft = torch.sigmoid((threshold_hu + HU_OFFSET - fake * HU_SCALE) / slope_hu) * within
    truth = (region & within).to(soft.dtype)
    return 1 - (2 * (soft * truth).sum() + 1) / (soft.sum() + truth.sum() + 1)


class GeneratorLoss:
    """The generator's loss: its terms one by one, and their weighted sum.

    Args:
        losses: weights and forms.
        spacing_mm: voxel pitch, for the corrected projections.
    """

    def __init__(self, losses: Losses, *, spacing_mm: float) -> None:
        self.losses, self.spacing_mm = losses, spacing_mm
        pixels = losses.projection_pixels
        self.projections = MultiAngleProjectionLoss(
            compatible=losses.projection_compatible, detector_shape=(pixels, pixels)
        )

    def terms(self, fake: Tensor, batch: Batch, *, poses: torch.Generator) -> dict[str, Tensor]:
        """Every term of nonzero weight that needs no discriminator, by name, unweighted; float32 scalars.

        Args:
            fake: the generated volume.
            batch: its truth.
            poses: random numbers of the projections' pose.
        """
        weights, fake = self.losses, fake.float()
        terms: dict[str, Tensor] = {}
        if weights.voxel:
            terms["voxel"] = voxel_error(fake, batch, weights)
        if weights.projection:
            spacing = None if weights.projection_compatible else self.spacing_mm
            terms["projection"] = self.projections(
                fake, batch.ct, spacing_mm=spacing, generator=poses if weights.random_pose else None
            )
        if weights.axis_means:
            terms["axis_means"] = axis_means(fake, batch.ct)
        if weights.ssim:
            terms["ssim"] = 1 - ssim(fake, batch.ct)
        if weights.gradient:
            terms["gradient"] = gradient_error(fake, batch.ct)
        inside = batch.sides > 0
        if weights.hemithorax:
            near = functional.max_pool3d(inside.to(fake.dtype), 5, 1, 2) > 0
            terms["hemithorax"] = anatomy_error(
                fake, inside, within=near, threshold_hu=LUNG_THRESHOLD_HU, slope_hu=LUNG_SLOPE_HU
            )
        if weights.air:
            terms["air"] = anatomy_error(
                fake, batch.air > 0, within=inside, threshold_hu=AIR_THRESHOLD_HU, slope_hu=AIR_SLOPE_HU
            )
        return terms

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the terms; scalar."""
        return torch.stack([getattr(self.losses, name) * value for name, value in terms.items()]).sum()


def _maps(scores: Scores) -> list[Tensor]:
    """The score maps of every scale, as float32."""
    return [patches.float() for patches in (scores if isinstance(scores, tuple) else (scores,))]


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()
