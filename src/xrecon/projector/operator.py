"""The projector's public front: `project` and its exact transpose `backproject`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from xrecon.errors import GeometryError
from xrecon.geometry import ConeBeam
from xrecon.projector.backends.bundles import frame_bundles
from xrecon.projector.backends.compiled import project_bundles, refusal
from xrecon.projector.backends.reference import project_reference
from xrecon.projector.backends.registry import BackendName, backend_for
from xrecon.projector.rays import RayFrame, check_source_outside
from xrecon.projector.scene import Scene


def project(
    volume_mu: Float[Tensor, "batch 1 depth height width"],
    spacing_mm: float | Sequence[float],
    geometry: ConeBeam | Sequence[ConeBeam],
    *,
    pose: Float[Tensor, "*views 6"] | None = None,
    backend: BackendName = "auto",
) -> Float[Tensor, "batch views rows cols"]:
    """Cone-beam line integrals of a volume whose centre is the isocentre (moved by the geometry's translation).

    Exact entry to exit of the voxel box, Joseph sampling; differentiable in the volume and in `pose`, also twice.

    Args:
        volume_mu: [N, 1, D, H, W], linear attenuation in 1/mm; D to the feet, H to the back, W to the left.
        spacing_mm: voxel pitch in mm, one number or (D, H, W).
        geometry: one view, or several with the same detector shape.
        pose: [6] or [V, 6] pose differences (angle, tilt, roll in degrees; x, y, z in mm LPS) to the geometry.
        backend: how the integrals are computed; all agree to 1e-4. "auto" takes the fastest that can do the job:
            "compiled" (kernels, for float32 on a CPU), else for each view "aligned" (matrix products, for a view square
            to the patient) or "reference" (plain torch, for everything). A name forces one of them.

    Returns:
        [N, V, rows, cols] line integrals, dimensionless; rays that miss the volume give 0. A ray runs from the source
        to its detector pixel: what lies behind the detector is not seen. float64 stays float64; half precision, also
        under autocast, is computed and returned as float32.

    Raises:
        GeometryError: wrong shapes or dtypes, a spacing that is not positive, a source inside the volume, a pose that
            is not finite.
        ConfigError: an unknown backend.
        InputError: a forced backend that cannot do this projection.

    Example:
        >>> film = xrecon.project(mu[None, None], 1.6, xrecon.ConeBeam.preset("chest", "pa", size=128))
    """
    if volume_mu.ndim != 5 or volume_mu.shape[1] != 1 or min(volume_mu.shape) < 1 or not volume_mu.is_floating_point():
        raise GeometryError(
            "expected a floating-point volume [N, 1, D, H, W] without empty axes, "
            f"got {tuple(volume_mu.shape)} {volume_mu.dtype}"
        )
    scene = Scene.of(_grid(volume_mu), spacing_mm, geometry, pose=pose)
    # Sums over hundreds of voxels in half precision would lose the lung's contrast: leave autocast, compute in float.
    with torch.autocast(volume_mu.device.type, enabled=False):
        volume = _at_least_float32(volume_mu.squeeze(1))  # not [:, 0], whose gradient is a second volume
        return backend_for(backend, volume, scene).project(volume, scene)


def backproject(
    films: Float[Tensor, "batch views rows cols"],
    shape: tuple[int, int, int],
    spacing_mm: float | Sequence[float],
    geometry: ConeBeam | Sequence[ConeBeam],
    *,
    pose: Float[Tensor, "*views 6"] | None = None,
    backend: BackendName = "auto",
) -> Float[Tensor, "batch 1 depth height width"]:
    """The exact transpose of `project`: films [N, V, rows, cols] to a volume [N, 1, D, H, W] of `shape` (D, H, W).

    Differentiable in the films, and in `pose` where the backend is "compiled"; usable under `no_grad` and
    `inference_mode`. `spacing_mm`, `geometry`, `pose` and `backend` are those of `project`.

    Raises:
        GeometryError: films that do not fit the geometry, and whatever `project` raises.
        ConfigError: an unknown backend.
        InputError: a forced backend that cannot do this projection.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise GeometryError(f"shape must be three positive integers (D, H, W), got {tuple(shape)}")
    scene = Scene.of(shape, spacing_mm, geometry, pose=pose)
    expected = (len(scene.views), *scene.detector_shape)
    if films.ndim != 4 or tuple(films.shape[1:]) != expected or not films.is_floating_point():
        raise GeometryError(
            f"expected floating-point films [N, {expected[0]}, {expected[1]}, {expected[2]}], "
            f"got {tuple(films.shape)} {films.dtype}"
        )
    films = _at_least_float32(films)
    with torch.autocast(films.device.type, enabled=False):
        # An empty view of the right shape tells which backend applies without a volume of memory.
        like = films.new_zeros(()).expand(films.shape[0], *shape)
        return backend_for(backend, like, scene).backproject(films, scene)[:, None]


def project_frames(
    volume: Float[Tensor, "batch depth height width"],
    spacing_mm: tuple[float, float, float],
    frames: Sequence[RayFrame],
    detector_shape: tuple[int, int],
) -> Float[Tensor, "batch views rows cols"]:
    """Line integrals of a volume along rays that no ConeBeam describes.

    For set-ups with conventions of their own; the same sampling, paths and derivatives as `project`.

    Raises:
        GeometryError: a source inside the volume.
    """
    shape = volume.shape[1], volume.shape[2], volume.shape[3]
    for frame in frames:
        check_source_outside(frame, shape, spacing_mm)
    if refusal(volume) is not None:
        return torch.stack([project_reference(volume, spacing_mm, f, detector_shape) for f in frames], dim=1)
    bundles = []
    for v, frame in enumerate(frames):
        bundles += frame_bundles(frame, view=v, shape=shape, spacing_mm=spacing_mm, detector_shape=detector_shape)
    return project_bundles(volume, bundles, len(frames))


def _grid(volume: Tensor) -> tuple[int, int, int]:
    return volume.shape[-3], volume.shape[-2], volume.shape[-1]


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
