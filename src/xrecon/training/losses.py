"""The terms that a generator learns from, each a function of tensors, and their weighted sum (SPEC 2.4).

Volumes are [N, 1, D, H, W] in the network range, (HU + 1024) / 2500 in 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from xrecon.models.config import HU_OFFSET, HU_SCALE
from xrecon.projector import MultiAngleProjectionLoss
from xrecon.training.config import GanForm, Losses

SSIM_WINDOW = 7
GRADIENT_SCALES = 3
LUNG_HU, LUNG_WIDTH_HU = -400.0, 60.0
AIR_HU, AIR_WIDTH_HU = -930.0, 15.0
"""Soft thresholds of the anatomy terms: half the weight there, and how wide the slope is."""

Scores = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Batch:
    """What one step learns from, on the device of the networks.

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


def generator_game(scores: Scores, form: GanForm) -> Tensor:
    """What the generator pays for the scores of its volume; mean over patches and scales."""
    maps = _maps(scores)
    if form == "lsgan":
        return _mean([(one - 1).square().mean() for one in maps])
    if form == "hinge":
        return _mean([-one.mean() for one in maps])
    return _mean([functional.softplus(-one).mean() for one in maps])


def discriminator_game(scores: Scores, form: GanForm, *, real: bool) -> Tensor:
    """What the discriminator pays for the scores of a real or of a synthetic volume."""
    maps = _maps(scores)
    if form == "lsgan":
        return _mean([(one - float(real)).square().mean() for one in maps])
    sign = -1.0 if real else 1.0
    if form == "hinge":
        return _mean([functional.relu(1 + sign * one).mean() for one in maps])
    return _mean([functional.softplus(sign * one).mean() for one in maps])


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
    pairs = [(a, b) for ours, theirs in zip(fake, real, strict=True) for a, b in zip(ours, theirs, strict=True)]
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


def anatomy_error(fake: Tensor, wanted: Tensor, *, within: Tensor, level_hu: float, width_hu: float) -> Tensor:
    """1 - Dice of what lies softly below a level of HU with a region, both counted `within` a mask.

    The networks give HU and no labels: this pulls the HU towards the side of the threshold where the region needs them.
    """
    soft = torch.sigmoid((level_hu + HU_OFFSET - fake * HU_SCALE) / width_hu) * within
    region = (wanted & within).to(soft.dtype)
    return 1 - (2 * (soft * region).sum() + 1) / (soft.sum() + region.sum() + 1)


class GeneratorLoss:
    """The weighted sum of the terms, each also by itself.

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
        """Every term with a weight that needs no discriminator, unweighted; scalars in float32."""
        w, fake = self.losses, fake.float()
        found: dict[str, Tensor] = {}
        if w.voxel:
            found["voxel"] = voxel_error(fake, batch, w)
        if w.projection:
            spacing = None if w.projection_compatible else self.spacing_mm
            found["projection"] = self.projections(
                fake, batch.ct, spacing_mm=spacing, generator=poses if w.random_pose else None
            )
        if w.axis_means:
            found["axis_means"] = axis_means(fake, batch.ct)
        if w.ssim:
            found["ssim"] = 1 - ssim(fake, batch.ct)
        if w.gradient:
            found["gradient"] = gradient_error(fake, batch.ct)
        inside = batch.sides > 0
        if w.hemithorax:
            near = functional.max_pool3d(inside.to(fake.dtype), 5, 1, 2) > 0
            found["hemithorax"] = anatomy_error(fake, inside, within=near, level_hu=LUNG_HU, width_hu=LUNG_WIDTH_HU)
        if w.air:
            found["air"] = anatomy_error(fake, batch.air > 0, within=inside, level_hu=AIR_HU, width_hu=AIR_WIDTH_HU)
        return found

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return torch.stack([getattr(self.losses, name) * value for name, value in terms.items()]).sum()


def _maps(scores: Scores) -> list[Tensor]:
    return [one.float() for one in (scores if isinstance(scores, tuple) else (scores,))]


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()
