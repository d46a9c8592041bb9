"""The multi-angle projection of ProST, as the published training step uses it, and the same set-up done right.

ProST (Gao et al., MICCAI 2020) sums trilinear samples along the rays of a cone beam whose source stands on the +z axis
of a rig and whose detector lies on the -z side. The rig sees the volume from any side: a point p of the rig lies at
R p + t in the volume, with x along W, y along H and z along D. docs/prost.md describes both modes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xrecon.errors import GeometryError
from xrecon.geometry import ConeBeam
from xrecon.projector.operator import project_frames
from xrecon.projector.rays import RayFrame

DETECTOR_SHAPE = (128, 128)
"""Published detector, pixels (rows, cols); other shapes sample the same 373.76 mm."""

HALF_EDGE_MM = 64.0
"""Half edge of the published volume: a 128 mm cube. The published code divides every length by it."""

STEP_MM = 1.75
"""Distance between the published samples of a ray."""

_RAYS_PER_CHUNK = {"cpu": 1024}  # on a CPU a chunk of about 75,000 samples stays in the cache
_RAYS_PER_CHUNK_ELSEWHERE = 16384

Triple = tuple[float, float, float]
Volumes = Float[Tensor, "batch depth height width"]
FlatVolumes = Float[Tensor, "batch voxels"]
FlatFilms = Float[Tensor, "batch rays"]


def prost_project(
    volume: Float[Tensor, "batch 1 depth height width"],
    *,
    rotation_deg: Sequence[float] | Tensor,
    translation_mm: Sequence[float] | Tensor = (0.0, 0.0, 0.0),
    compatible: bool = True,
    spacing_mm: float | Sequence[float] | None = None,
    detector_shape: tuple[int, int] = DETECTOR_SHAPE,
    scale: float | Literal["volume"] = 1.0,
) -> Float[Tensor, "batch 1 rows cols"]:
    """Project a volume with the cone beam of ProST; differentiable in the volume, not in the pose.

    The compatible mode is the published function to rounding, slips included: the tensor fills a 128 mm cube whatever
    its size and spacing; the samples of all rays start one step before the nearest corner's distance, which leaves out
    the near cap of the volume on central rays; that distance is taken with the rotation where its transpose belongs;
    voxel i is sampled at i/size of the edge, half a voxel off its centre; a sample without eight neighbours is zero.
    Its value is the sum of the samples, one every 1.75 mm (0.02734 half edges).

    The corrected mode is the exact line integral from entry to exit of the voxel box, voxels and pixels centred. It is
    divided by the step that the published sum would have taken, 1.75 mm times `scale`, so the value is again a count of
    samples: a uniform cube of ones reads 2/0.02734 = 73.1 on the central ray (compatible mode: 65), and the published
    loss weight (0.1) keeps its meaning.

    Args:
        volume: [N, 1, D, H, W], network range [0, 1] (any range works: both modes are linear). Half precision is
            computed as float32, also under autocast.
        rotation_deg: absolute Euler angles (a, b, c) of R = Rx(a) Ry(b) Rz(c), right-handed.
        translation_mm: (x, y, z) of the rig's isocentre in the volume, in mm of the published 128 mm cube; like all
            lengths of the rig it is multiplied by `scale` in the corrected mode.
        compatible: published function (True) or true geometry (False).
        spacing_mm: voxel pitch, one number or (D, H, W). The corrected mode needs it, the compatible mode ignores it.
        detector_shape: pixels (rows, cols) on the detector of 373.76 mm.
        scale: corrected mode only: factor on all lengths of the rig. 1.0 keeps the published millimetres; "volume"
            takes (largest edge)/(128 mm), so that any volume is seen whole, as in the published setting (what
            `MultiAngleProjectionLoss` does).

    Returns:
        [N, 1, rows, cols] counts of unit samples; float64 for a float64 volume, otherwise float32. Rays that miss the
        volume read 0.

    Raises:
        GeometryError: wrong shape or dtype, a pose that is not three finite numbers each, a spacing or scale that is
            missing or not positive, a source inside the volume.

    Example:
        >>> lateral = prost_project(ct, rotation_deg=(90, 270, 90))
        >>> lateral = prost_project(ct, rotation_deg=(90, 270, 90), compatible=False, spacing_mm=1.714)
    """
    _check_volume(volume)
    rotation = _rotation(_numbers("rotation_deg", rotation_deg))
    translation = _numbers("translation_mm", translation_mm)
    rig = ConeBeam.preset("prost").with_detector(detector_shape)
    with torch.autocast(volume.device.type, enabled=False):
        voxels = volume if volume.dtype == torch.float64 else volume.float()
        voxels = voxels.squeeze(1)  # not [:, 0], whose gradient is a second volume
        if compatible:
            return _project_compatible(voxels, rig, rotation, translation)
        if spacing_mm is None:
            raise GeometryError("the corrected mode (compatible=False) needs spacing_mm: one number or (D, H, W) in mm")
        spacing = _numbers("spacing_mm", spacing_mm if isinstance(spacing_mm, Iterable) else (spacing_mm,) * 3)
        return _project_corrected(voxels, rig, rotation, translation, spacing=spacing, scale=scale)


def _project_corrected(
    voxels: Volumes,
    rig: ConeBeam,
    rotation: Float[Tensor, "3 3"],
    translation: Triple,
    *,
    spacing: Triple,
    scale: float | str,
) -> Float[Tensor, "batch 1 rows cols"]:
    if min(spacing) <= 0:
        raise GeometryError(f"spacing_mm must be positive, got {spacing}")
    depth, height, width = (n * s for n, s in zip(voxels.shape[1:], spacing, strict=True))
    factor = max(depth, height, width) / (2 * HALF_EDGE_MM) if scale == "volume" else _positive_scale(scale)
    rows, cols = rig.detector_shape
    row_mm, col_mm = (factor * pitch for pitch in rig.pixel_mm)
    source, far = _source_and_far_mm(rig)
    shift = torch.tensor(translation, dtype=torch.float64) * factor
    points = torch.tensor(
        [
            [0.0, 0.0, factor * source],
            [-(rows - 1) / 2 * row_mm, -(cols - 1) / 2 * col_mm, -factor * far],
        ],
        dtype=torch.float64,
    )
    points = points @ rotation.T + shift
    _check_source(points[0], (width / 2, height / 2, depth / 2))
    # (x, y, z) of the volume run along (W, H, D): the ray frame wants them the other way round.
    vectors = torch.cat([points, row_mm * rotation[:, 0:1].T, col_mm * rotation[:, 1:2].T]).flip(1)
    vectors = vectors.to(device=voxels.device, dtype=_precision(voxels.device))
    line_mm = project_frames(voxels, spacing, [RayFrame(*vectors.unbind(0))], rig.detector_shape)
    return line_mm / (STEP_MM * factor)


def _project_compatible(
    voxels: Volumes, rig: ConeBeam, rotation: Float[Tensor, "3 3"], translation: Triple
) -> Float[Tensor, "batch 1 rows cols"]:
    if min(voxels.shape[1:]) < 2:
        raise GeometryError(
            "the compatible mode interpolates between neighbours: expected at least 2 voxels along D, H and W, "
            f"got {tuple(voxels.shape[1:])}; use compatible=False for a single slice"
        )
    rays = _published_rays(voxels, rig, rotation, torch.tensor(translation, dtype=torch.float64) / HALF_EDGE_MM)
    flat = voxels.reshape(voxels.shape[0], -1)
    films: Tensor = _SampleSum.apply(flat, rays)  # type: ignore[no-untyped-call]
    return films.reshape(-1, 1, *rig.detector_shape)


def _published_rays(
    voxels: Volumes, rig: ConeBeam, rotation: Float[Tensor, "3 3"], shift: Float[Tensor, " 3"]
) -> _SampledRays:
    """The published sample positions; lengths here are in half edges (64 mm)."""
    source_mm, far_mm = _source_and_far_mm(rig)
    source = torch.tensor([0.0, 0.0, source_mm / HALF_EDGE_MM], dtype=torch.float64)
    origin = rotation @ source + shift
    _check_source(HALF_EDGE_MM * origin, (HALF_EDGE_MM,) * 3)
    corners = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)), dtype=torch.float64)
    # Published slip: the corners belong into the rig by the transpose. Up to 2 % of the maximum at tilted poses.
    distances = ((corners - shift) @ rotation.T - source).norm(dim=1)
    nearest, farthest = float(distances.min()), float(distances.max())
    step = STEP_MM / HALF_EDGE_MM
    count = math.floor((farthest - nearest) / step + 2) + 1
    distance = nearest + step * torch.arange(-1, count - 1, dtype=torch.float64)

    rows, cols = rig.detector_shape
    # Pixel n/2 lies on the axis, not the middle between n/2 - 1 and n/2.
    along_rows = (torch.arange(rows, dtype=torch.float64) - rows / 2) * (rig.pixel_mm[0] / HALF_EDGE_MM)
    along_cols = (torch.arange(cols, dtype=torch.float64) - cols / 2) * (rig.pixel_mm[1] / HALF_EDGE_MM)
    down, along = torch.meshgrid(along_rows, along_cols, indexing="ij")
    plane = torch.full_like(down, -far_mm / HALF_EDGE_MM)
    beam = torch.stack([down, along, plane], dim=-1).reshape(-1, 3) - source
    direction = (beam / beam.norm(dim=1, keepdim=True)) @ rotation.T

    # index = size (p/2 + 1/2) along each axis of the tensor, which runs against (x, y, z).
    shape = (voxels.shape[1], voxels.shape[2], voxels.shape[3])
    half = torch.tensor(shape, dtype=torch.float64) / 2
    precision = _precision(voxels.device)
    return _SampledRays(
        shape=shape,
        start=tuple((half * (origin.flip(0) + 1)).tolist()),
        slope=(half * direction.flip(1)).to(device=voxels.device, dtype=precision),
        distance=distance.to(device=voxels.device, dtype=precision),
    )


class _Samples(NamedTuple):
    """Samples of some rays.

    Attributes:
        voxel: flat index of the lower neighbour.
        counts: whether all eight neighbours lie in the volume.
        on_d: weight of the upper neighbour along D.
        on_h: the same along H.
        on_w: the same along W.
    """

    voxel: Int[Tensor, " all_samples"]
    counts: Bool[Tensor, "rays samples"]
    on_d: Float[Tensor, "rays samples"]
    on_h: Float[Tensor, "rays samples"]
    on_w: Float[Tensor, "rays samples"]


@dataclass(frozen=True)
class _SampledRays:
    """Samples at the same distances on every ray; sample k of ray r has index `start + slope[r] * distance[k]`.

    Attributes:
        shape: (D, H, W) of the volume.
        start: index of the source along (D, H, W).
        slope: index along (D, H, W) per unit of distance.
        distance: of every sample from the source.
    """

    shape: tuple[int, int, int]
    start: tuple[float, ...]
    slope: Float[Tensor, "rays 3"]
    distance: Float[Tensor, " samples"]

    @property
    def strides(self) -> tuple[int, int, int]:
        return self.shape[1] * self.shape[2], self.shape[2], 1

    def chunks(self) -> Iterator[slice]:
        rays = self.slope.shape[0]
        size = _RAYS_PER_CHUNK.get(self.slope.device.type, _RAYS_PER_CHUNK_ELSEWHERE)
        return (slice(first, min(first + size, rays)) for first in range(0, rays, size))

    def positions(self, rays: slice, dtype: torch.dtype) -> _Samples:
        """Where the samples of some rays lie; weights of a dtype."""
        slope = self.slope[rays]
        voxel = torch.zeros(slope.shape[0], self.distance.shape[0], dtype=torch.int64, device=slope.device)
        counts = torch.ones_like(voxel, dtype=torch.bool)
        weights = []
        for axis, (size, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            index = torch.outer(slope[:, axis], self.distance).add_(self.start[axis])
            counts &= (index >= 0) & (index <= size - 1)
            lower = index.floor().clamp_(0, size - 2)  # samples that do not count stay inside memory
            weights.append((index - lower).to(dtype))
            voxel += lower.long() * stride
        return _Samples(voxel.flatten(), counts, *weights)

    def sum(self, flat: FlatVolumes) -> FlatFilms:
        """Sums of trilinear samples along every ray."""
        films = flat.new_empty(flat.shape[0], self.slope.shape[0])
        down, back, left = self.strides
        for rays in self.chunks():
            voxel, counts, on_d, on_h, on_w = self.positions(rays, flat.dtype)
            for volume, film in zip(flat, films, strict=True):
                pairs = []
                for offset in (0, back, down, down + back):
                    near, far = (volume[o:].index_select(0, voxel).view_as(counts) for o in (offset, offset + left))
                    pairs.append(near.add_((far - near).mul_(on_w)))
                top, bottom = (torch.lerp(pairs[i], pairs[i + 1], on_h) for i in (0, 2))
                film[rays] = torch.lerp(top, bottom, on_d).mul_(counts).sum(dim=1)
        return films

    def spread(self, films: FlatFilms) -> FlatVolumes:
        """The exact transpose of `sum`."""
        flat = films.new_zeros(films.shape[0], math.prod(self.shape))
        down, back, left = self.strides
        for rays in self.chunks():
            voxel, counts, on_d, on_h, on_w = self.positions(rays, films.dtype)
            for volume, film in zip(flat, films, strict=True):
                value = counts * film[rays, None]
                below = value * on_d
                for plane, share in ((0, value - below), (down, below)):
                    behind = share * on_h
                    for line, rest in ((0, share - behind), (back, behind)):
                        far = rest * on_w
                        volume[plane + line :].index_add_(0, voxel, (rest - far).flatten())
                        volume[plane + line + left :].index_add_(0, voxel, far.flatten())
        return flat


class _SampleSum(torch.autograd.Function):
    """`_SampledRays.sum` with its transpose as gradient: nothing but the rays is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, flat: FlatVolumes, rays: _SampledRays) -> FlatFilms:
        ctx.rays = rays
        return rays.sum(flat)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _SampleSpread.apply(gradient, ctx.rays), None  # type: ignore[no-untyped-call]


class _SampleSpread(torch.autograd.Function):
    """`_SampledRays.spread`, itself differentiable, so that gradients of any order exist."""

    @staticmethod
    def forward(ctx: Any, films: FlatFilms, rays: _SampledRays) -> FlatVolumes:
        ctx.rays = rays
        return rays.spread(films)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _SampleSum.apply(gradient, ctx.rays), None  # type: ignore[no-untyped-call]


def _rotation(angles_deg: Triple) -> Float[Tensor, "3 3"]:
    """Rx(a) Ry(b) Rz(c) on column vectors (x, y, z)."""
    (ca, sa), (cb, sb), (cc, sc) = ((math.cos(math.radians(v)), math.sin(math.radians(v))) for v in angles_deg)
    about_x = torch.tensor([[1, 0, 0], [0, ca, -sa], [0, sa, ca]], dtype=torch.float64)
    about_y = torch.tensor([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]], dtype=torch.float64)
    about_z = torch.tensor([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]], dtype=torch.float64)
    return about_x @ about_y @ about_z


def _source_and_far_mm(rig: ConeBeam) -> tuple[float, float]:
    """Distances of source and detector from the isocentre."""
    return rig.source_to_isocentre_mm, rig.source_to_detector_mm - rig.source_to_isocentre_mm


def _precision(device: torch.device) -> torch.dtype:
    # MPS has no float64; positions in float32 are good to a thousandth of a voxel there.
    return torch.float32 if device.type == "mps" else torch.float64


def _check_source(source_mm: Float[Tensor, " 3"], half_edges_mm: Triple) -> None:
    """Raise GeometryError where the source (x, y, z) lies in the box of half edges (x, y, z)."""
    if all(abs(v) < half for v, half in zip(source_mm.tolist(), half_edges_mm, strict=True)):
        raise GeometryError(
            f"the source lies inside the volume: at (x, y, z) = {tuple(round(v, 1) for v in source_mm.tolist())} mm "
            f"from its centre, half edges {tuple(round(v, 1) for v in half_edges_mm)} mm; use a smaller translation_mm "
            'or, in the corrected mode, a larger scale ("volume" fits the rig to the volume)'
        )


def _check_volume(volume: Tensor) -> None:
    if volume.ndim != 5 or volume.shape[1] != 1 or min(volume.shape) < 1 or not volume.is_floating_point():
        raise GeometryError(
            "expected a floating-point volume [N, 1, D, H, W] without empty axes, "
            f"got {tuple(volume.shape)} {volume.dtype}"
        )


def _positive_scale(scale: float | str) -> float:
    if isinstance(scale, str) or not (math.isfinite(scale) and scale > 0):
        raise GeometryError(f'scale must be a positive number or "volume", got {scale!r}')
    return float(scale)


def _numbers(key: str, values: object) -> Triple:
    try:
        numbers = [float(v) for v in values] if isinstance(values, Iterable) else []
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 3 or not all(math.isfinite(v) for v in numbers):
        raise GeometryError(f"{key} must be three finite numbers, got {values!r}")
    return numbers[0], numbers[1], numbers[2]
