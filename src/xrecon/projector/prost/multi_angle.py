"""The multi-angle projection loss: predicted and true CT compared on films from three sides.

X-Recon (arXiv 2407.15356) trains with it, through the projector of ProST (Gao et al., MICCAI 2020); docs/prost.md holds
its settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xrecon.errors import GeometryError
from xrecon.projector.prost.projection import DETECTOR_SHAPE, Triple, prost_project

ViewName = Literal["axial", "sagittal", "coronal"]

NOMINAL_VIEWS: Mapping[ViewName, Triple] = MappingProxyType(
    {"axial": (0.0, 0.0, 90.0), "sagittal": (90.0, 270.0, 90.0), "coronal": (90.0, 180.0, 90.0)}
)
"""Euler angles (degrees) of the published views. Film rows and columns run along (+H, -W) for axial, (+D, +H) for
sagittal, laid out like a lateral film, and (+D, +W) for coronal, laid out like a PA film."""

ROTATION_SD_DEG = 10.0
"""Standard deviation of a random pose's angles."""

TRANSLATION_SD_MM = 8.0
"""Standard deviation of a random pose's translations, mm of the published 128 mm cube."""


class PoseOffset(NamedTuple):
    """What is added to the nominal pose of every view.

    Attributes:
        rotation_deg: three Euler angles.
        translation_mm: (x, y, z), mm of the published 128 mm cube (see `prost_project`).
    """

    rotation_deg: Triple
    translation_mm: Triple


NO_OFFSET = PoseOffset((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def random_pose(generator: torch.Generator) -> PoseOffset:
    """Draw one pose offset, N(0, 10 deg) per angle and N(0, 8 mm) per translation, for all views of a step.

    Args:
        generator: on the CPU, whatever device the volumes are on: a seed then gives the same poses everywhere.

    Raises:
        GeometryError: a generator of another device.

    Example:
        >>> pose = random_pose(torch.Generator().manual_seed(0))
    """
    if generator.device.type != "cpu":
        raise GeometryError(
            f"expected a CPU generator, got one on {generator.device}; poses are drawn on the CPU so that a seed gives "
            "the same poses on every device: use torch.Generator()"
        )
    draw = torch.randn(6, generator=generator, dtype=torch.float64)
    a, b, c = (ROTATION_SD_DEG * draw[:3]).tolist()
    x, y, z = (TRANSLATION_SD_MM * draw[3:]).tolist()
    return PoseOffset((a, b, c), (x, y, z))


class MultiAngleProjectionLoss(nn.Module):
    """L1 difference of the ProST films of two volumes, mean over the detector, averaged over the views.

    Both volumes are seen from the same pose. The gradient reaches the first volume only. Values are counts of unit
    samples in either mode (see `prost_project`), so the published weight 0.1 holds for both.

    Args:
        views: names of `NOMINAL_VIEWS`.
        compatible: the published projector with its slips (True), or true geometry (False, needs spacing_mm).
        detector_shape: pixels (rows, cols).
        scale: corrected mode: "volume" fits the rig to the volume, a number multiplies the published millimetres.

    Example:
        >>> loss = MultiAngleProjectionLoss()
        >>> loss(fake, real, spacing_mm=1.714, generator=torch.Generator().manual_seed(0)).backward()
    """

    def __init__(
        self,
        views: Sequence[ViewName] = get_args(ViewName),
        *,
        compatible: bool = False,
        detector_shape: tuple[int, int] = DETECTOR_SHAPE,
        scale: float | Literal["volume"] = "volume",
    ) -> None:
        super().__init__()
        unknown = [view for view in views if view not in NOMINAL_VIEWS]
        if unknown or len(views) == 0 or isinstance(views, str):
            raise GeometryError(f"views must be a sequence of names out of {tuple(NOMINAL_VIEWS)}, got {views!r}")
        self.views = tuple(views)
        self.compatible = compatible
        self.detector_shape = detector_shape
        self.scale = scale

    def forward(
        self,
        fake: Float[Tensor, "batch 1 depth height width"],
        real: Float[Tensor, "batch 1 depth height width"],
        *,
        spacing_mm: float | Sequence[float] | None = None,
        pose: PoseOffset | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """Loss of `fake` against `real`.

        Args:
            fake: [N, 1, D, H, W], network range [0, 1].
            real: the same shape; no gradient reaches it.
            spacing_mm: voxel pitch, one number or (D, H, W); only the corrected mode needs it.
            pose: offset to the nominal poses, shared by the views. Default: none.
            generator: draw the offset with `random_pose` instead.

        Returns:
            scalar, counts of unit samples.

        Raises:
            GeometryError: volumes of different shapes, pose and generator given together, and whatever `prost_project`
                raises.
        """
        if fake.shape != real.shape:
            raise GeometryError(
                "fake and real must have the same shape [N, 1, D, H, W], "
                f"got {tuple(fake.shape)} and {tuple(real.shape)}"
            )
        if pose is not None and generator is not None:
            raise GeometryError("give a pose or a generator to draw one from, got both")
        if generator is not None:
            pose = random_pose(generator)
        with torch.no_grad():
            target = self.project(real, spacing_mm=spacing_mm, pose=pose)
        return (self.project(fake, spacing_mm=spacing_mm, pose=pose) - target).abs().mean()

    def project(
        self,
        volume: Float[Tensor, "batch 1 depth height width"],
        *,
        spacing_mm: float | Sequence[float] | None = None,
        pose: PoseOffset | None = None,
    ) -> Float[Tensor, "batch views rows cols"]:
        """Films of a volume in the order of `views`: what the loss compares."""
        angles, shift = _checked(pose)
        films = [
            prost_project(
                volume,
                rotation_deg=[nominal + offset for nominal, offset in zip(NOMINAL_VIEWS[view], angles, strict=True)],
                translation_mm=shift,
                compatible=self.compatible,
                spacing_mm=spacing_mm,
                detector_shape=self.detector_shape,
                scale=self.scale,
            )
            for view in self.views
        ]
        return torch.cat(films, dim=1)

    def extra_repr(self) -> str:
        """Settings for `print`."""
        mode = "compatible=True" if self.compatible else f"compatible=False, scale={self.scale!r}"
        return f"views={self.views}, {mode}, detector_shape={tuple(self.detector_shape)}"


def _checked(pose: PoseOffset | None) -> PoseOffset:
    """The offset; any pair of three numbers each will do (`prost_project` checks that they are finite)."""
    try:
        angles, shift = NO_OFFSET if pose is None else pose
        (a, b, c), (x, y, z) = angles, shift
        return PoseOffset((float(a), float(b), float(c)), (float(x), float(y), float(z)))
    except (TypeError, ValueError) as error:
        raise GeometryError(f"a pose is (rotation_deg [3], translation_mm [3]), got {pose!r}") from error
