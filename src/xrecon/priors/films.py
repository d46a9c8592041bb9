"""The two films at any resolution, as the priors use them, and the voxels that must be air by the films."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as functional
from torch import Tensor

from xrecon.errors import InputError
from xrecon.geometry import FRAME_MM, ConeBeam
from xrecon.projector.operator import project
from xrecon.projector.rays import ray_frame
from xrecon.radiograph import VIEWS, Radiograph
from xrecon.warp import Grid

EMPTY_LINE_INTEGRAL = 0.08
"""A ray below this has crossed less than 4 mm of tissue (mu of water at 60 keV is 0.0206/mm)."""
_MISFIT_FLOOR, _MISFIT_SHARE = 0.15, 0.10
"""Standard deviation of what no smooth deformation explains in a line integral y: 0.15 + 0.10 y."""


@dataclass(frozen=True)
class FilmPair:
    """PA and lateral film on detectors that cover the frame, at any resolution.

    Attributes:
        films: the radiographs as given.
        gain: per film; line integral = gain * pixel value + offset.
        offset: per film.
    """

    films: tuple[Radiograph, Radiograph]
    gain: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for film, view in zip(self.films, VIEWS, strict=True):
            if film.view != view:
                raise InputError(f"expected a {view} film, got a {film.view} film: give PA first, lateral second")

    @property
    def quantitative(self) -> bool:
        """Whether both films hold line integrals, so that gain and offset are known."""
        return all(film.is_quantitative for film in self.films)

    def views(self, size: int) -> tuple[ConeBeam, ConeBeam]:
        """Geometry of both films on `size` x `size` detectors that cover the 384 mm frame at the isocentre."""
        return _frame_view(self.films[0].geometry, size), _frame_view(self.films[1].geometry, size)

    def radiographs(self, size: int) -> tuple[Radiograph, Radiograph]:
        """The films on those detectors, calibrated to line integrals."""
        calibrated = []
        for film, view, gain, offset in zip(self.films, self.views(size), self.gain, self.offset, strict=True):
            image = film.resampled(view).image * gain + offset
            calibrated.append(replace(film, image=image, geometry=view))
        return calibrated[0], calibrated[1]

    def values(self, size: int, device: torch.device) -> Tensor:
        """Line integrals [2, size, size], dimensionless; beyond a film its edge continues."""
        images = [torch.from_numpy(film.image.copy()) for film in self.radiographs(size)]
        return torch.stack(images).to(device)

    def covered(self, size: int, device: torch.device) -> Tensor:
        """[2, size, size]: 1 where a film as given has measured, 0 where `values` only continues its edge."""
        masks = []
        for film, view in zip(self.films, self.views(size), strict=True):
            axes = []
            for pixels, pitch, view_pitch in zip(film.image.shape, film.geometry.pixel_mm, view.pixel_mm, strict=True):
                centres = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) * view_pitch
                axes.append(centres.abs() <= pixels * pitch / 2 * (1 + 1e-9))
            masks.append(axes[0][:, None] & axes[1][None, :])
        return torch.stack(masks).to(device=device, dtype=torch.float32)

    def calibrated(self, expected: Tensor) -> FilmPair:
        """Gain and offset fitted to expected line integrals [2, size, size]; quantitative films stay as they are."""
        gains, offsets = [], []
        covered = self.covered(expected.shape[-1], torch.device("cpu")) > 0
        for k, film in enumerate(self.films):
            if film.is_quantitative:
                gains.append(1.0)
                offsets.append(0.0)
                continue
            size = expected.shape[-1]
            pixels = torch.from_numpy(film.resampled(self.views(size)[k]).image.copy())
            gain, offset = _robust_line(pixels[covered[k]], expected[k].cpu()[covered[k]])
            gains.append(gain)
            offsets.append(offset)
        return replace(self, gain=(gains[0], gains[1]), offset=(offsets[0], offsets[1]))


def _frame_view(geometry: ConeBeam, size: int) -> ConeBeam:
    # The detector's shift stays: Radiograph.resampled keeps the film's centre.
    pixel = FRAME_MM * geometry.magnification / size
    return replace(geometry, detector_shape=(size, size), pixel_mm=(pixel, pixel))


def _robust_line(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Gain and offset with y = gain x + offset from matched quantiles: needs no pixel-to-pixel agreement."""
    levels = torch.linspace(0.05, 0.95, 19)
    qx, qy = torch.quantile(x.double(), levels.double()), torch.quantile(y.double(), levels.double())
    spread = (qx - qx.mean()).square().sum()
    if float(spread) <= 0:
        raise InputError("a film has no contrast between its 5 % and 95 % quantiles: an empty or saturated image?")
    gain = float(((qx - qx.mean()) * (qy - qy.mean())).sum() / spread)
    return gain, float(qy.mean() - gain * qx.mean())


def misfit_deviation(values: Tensor) -> Tensor:
    """Standard deviation of the misfit to expect at line integrals `values` (any shape)."""
    return _MISFIT_FLOOR + _MISFIT_SHARE * values.abs()


def line_integrals(mu: Tensor, grid: Grid, views: Sequence[ConeBeam]) -> Tensor:
    """Films [2, rows, cols] of one volume [D, H, W] (1/mm) on `grid`."""
    return project(mu[None, None], grid.spacing_mm, views)[0]


def visual_hull(pair: FilmPair, grid: Grid, *, size: int = 128, device: torch.device) -> Tensor:
    """Share of tissue that the films allow in each voxel, [D, H, W], 0..1.

    A voxel seen by a ray that crossed (almost) nothing must be air: this carves the body's outline and the ends of
    the scanned range. Films of unknown gain exclude nothing, and neither do rays that miss the film.
    """
    allowed = torch.ones(grid.shape, device=device)
    if not pair.quantitative:
        return allowed
    share = (pair.values(size, device) / EMPTY_LINE_INTEGRAL).clamp(0.0, 1.0)
    share = torch.where(pair.covered(size, device) > 0, share, torch.ones_like(share))
    positions = grid.positions_mm().to(device)
    for image, view in zip(share, pair.views(size), strict=True):
        pixel = detector_pixels(positions, view)
        lattice = (pixel.flip(-1) + 0.5) * (2.0 / size) - 1.0
        seen = functional.grid_sample(
            image[None, None],
            lattice.reshape(1, -1, 1, 2),
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        ).reshape(grid.shape)
        on_film = (lattice.abs() <= 1).all(dim=-1)
        allowed = allowed * torch.where(on_film, seen, torch.ones_like(seen))
    return allowed


def detector_pixels(positions_mm: Tensor, view: ConeBeam) -> Tensor:
    """Detector pixel (row, col) [..., 2] on which positions [..., 3] (d, h, w mm from the isocentre) are seen."""
    frame = ray_frame(view, dtype=torch.float32, device=positions_mm.device)
    normal = torch.linalg.cross(frame.row_step, frame.col_step)
    ray = positions_mm - frame.source
    scale = ((frame.corner - frame.source) @ normal) / (ray @ normal)
    hit = ray * scale[..., None] + (frame.source - frame.corner)
    row = (hit @ frame.row_step) / frame.row_step.square().sum()
    col = (hit @ frame.col_step) / frame.col_step.square().sum()
    return torch.stack([row, col], dim=-1)


def ray_support(pair: FilmPair, grid: Grid, *, device: torch.device) -> Tensor:
    """Share of the two films whose rays cross the voxel, [D, H, W], 0, 0.5 or 1."""
    positions = grid.positions_mm().to(device)
    support = torch.zeros(grid.shape, device=device)
    for film, frame_view in zip(pair.films, pair.views(1), strict=True):
        inside = _on_detector(positions, film.geometry) & _on_detector(positions, frame_view)
        support = support + 0.5 * inside.float()
    return support


def _on_detector(positions_mm: Tensor, view: ConeBeam) -> Tensor:
    pixel = detector_pixels(positions_mm, view) + 0.5
    limits = torch.tensor(view.detector_shape, dtype=pixel.dtype, device=pixel.device)
    return ((pixel >= 0) & (pixel <= limits)).all(dim=-1)
