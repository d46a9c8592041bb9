"""The projectors that are compared, each behind the same two calls.

A peer that is not installed, or does not start, is named with its reason and left out.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from peers.cases import Case
from xrecon.environment import package_version


class Runner(Protocol):
    """One projector, set up for one case, volume and weight; set-up that a user pays once is not timed."""

    def forward(self) -> Tensor:
        """The film [rows, cols] of the volume."""

    def both(self) -> tuple[Tensor, Tensor]:
        """The film, and the derivative [D, H, W] of sum(film * weight) by the volume."""


@dataclass(frozen=True)
class Peer:
    """One column entry of the benchmark.

    Attributes:
        name: as given to `--peers`.
        package: distribution whose version is reported.
        make: sets up a runner from (case, volume [D, H, W], weight [rows, cols]).
        slow: many times slower than the others: fewer repeats, and not the large case.
    """

    name: str
    package: str
    make: Callable[[Case, Tensor, Tensor], Runner]
    slow: bool = False

    @property
    def version(self) -> str | None:
        """Installed version, or None."""
        return package_version(self.package)

    def unavailable(self, case: Case) -> str | None:
        """Why the peer cannot run, or None. Tries it on a small version of a case."""
        if self.version is None:
            return f"{self.package} is not installed"
        small = case.reduced(4)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.make(small, torch.zeros(small.shape), torch.zeros(small.view.detector_shape)).both()
        except Exception as error:  # whatever a foreign package raises: it is reported, not ours to handle
            return f"{self.package} {self.version} does not run: {type(error).__name__}: {error}"
        return None


class _Differentiable:
    """A runner around a film that torch can differentiate."""

    def __init__(self, film: Callable[[Tensor], Tensor], volume: Tensor, weight: Tensor) -> None:
        self._film, self._volume, self._weight = film, volume, weight
        self._leaf = volume.detach().requires_grad_()

    def forward(self) -> Tensor:
        with torch.no_grad():
            return self._film(self._volume)

    def both(self) -> tuple[Tensor, Tensor]:
        film = self._film(self._leaf)
        (gradient,) = torch.autograd.grad(film, self._leaf, self._weight)
        return film.detach(), gradient


def _xrecon(case: Case, volume: Tensor, weight: Tensor, *, fresh_pose: bool) -> Runner:
    from xrecon.projector.operator import project

    def film(mu: Tensor) -> Tensor:
        # A pose given as a tensor means rays computed anew in each call, as in training and in refinement.
        pose = torch.zeros(6) if fresh_pose else None
        return project(mu[None, None], case.spacing_mm, case.view, pose=pose)[0, 0]

    return _Differentiable(film, volume, weight)


class _Rtk:
    """ITK-RTK's Joseph forward projection and its transpose.

    ITK's axes are (x, y, z) = (w, h, d), a mirror image of xrecon's world. Detector rows therefore run upwards there,
    which costs nothing: films are turned over as views.
    """

    def __init__(self, case: Case, volume: Tensor, weight: Tensor) -> None:
        import itk
        from itk import RTK

        threads = torch.get_num_threads()
        itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(threads)
        itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(threads)
        image = itk.Image[itk.F, 3]
        self._itk, self._case = itk, case
        self._forward_type = RTK.JosephForwardProjectionImageFilter[image, image]
        self._backward_type = RTK.JosephBackProjectionImageFilter[image, image]
        self._geometry = RTK.ThreeDCircularProjectionGeometry.New()
        frame = case.frame
        rows, cols = case.view.detector_shape
        middle = frame.corner + (rows - 1) / 2 * frame.row_step + (cols - 1) / 2 * frame.col_step
        position, vector = itk.Point[itk.D, 3], itk.Vector[itk.D, 3]
        accepted = self._geometry.AddProjection(
            position(frame.source.numpy()[::-1].tolist()),
            position(middle.numpy()[::-1].tolist()),
            vector((frame.col_step / frame.col_step.norm()).numpy()[::-1].tolist()),
            vector((-frame.row_step / frame.row_step.norm()).numpy()[::-1].tolist()),
        )
        if not accepted:
            raise ValueError(f"RTK refuses the geometry {case.view}")
        self._volume = self._placed(volume.numpy(), (case.spacing_mm,) * 3)
        self._weight = self._placed(np.ascontiguousarray(weight.numpy()[None, ::-1]), self._pitch)

    @property
    def _pitch(self) -> tuple[float, float, float]:
        down, along = self._case.view.pixel_mm
        return along, down, 1.0

    def _placed(self, array: Any, spacing: tuple[float, float, float]) -> Any:
        """An ITK image around an array [z, y, x], centred at the origin; no copy."""
        image = self._itk.image_view_from_array(array)
        image.SetSpacing(spacing)
        image.SetOrigin([-(n - 1) / 2 * s for n, s in zip(array.shape[::-1], spacing, strict=True)])
        return image

    def _run(self, kind: Any, target: Any, source: Any) -> None:
        # A new filter each time: it works in place, in the zeros that it is given.
        projection = kind.New()
        projection.SetInput(0, target)
        projection.SetInput(1, source)
        projection.SetGeometry(self._geometry)
        projection.Update()

    def forward(self) -> Tensor:
        film = np.zeros((1, *self._case.view.detector_shape), np.float32)
        self._run(self._forward_type, self._placed(film, self._pitch), self._volume)
        return torch.from_numpy(film[0]).flip(0)

    def both(self) -> tuple[Tensor, Tensor]:
        film = self.forward()
        gradient = np.zeros(self._case.shape, np.float32)
        self._run(self._backward_type, self._placed(gradient, (self._case.spacing_mm,) * 3), self._weight)
        return film, torch.from_numpy(gradient)


def _nanodrr(case: Case, volume: Tensor, weight: Tensor) -> Runner:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nanodrr.data import Subject
        from nanodrr.drr import render

    voxel_to_world = torch.eye(4) * case.spacing_mm
    voxel_to_world[:3, 3] = -(case.size - 1) / 2 * case.spacing_mm
    voxel_to_world[3, 3] = 1.0
    grid = torch.eye(4) * 2 / case.size
    grid[:3, 3] = 1 / case.size - 1
    grid[3, 3] = 1.0
    subject = Subject(
        volume[None, None],
        torch.zeros(1, 1, 1, 1, 1),
        voxel_to_world,
        voxel_to_world.double().inverse().float(),
        grid,
        torch.zeros(3),
        max_label=0,
        convert_to_mu=False,
    )
    source, pixels = _endpoints(case)
    rows, cols = case.view.detector_shape
    unused, camera = torch.eye(3)[None], torch.eye(4)[None]
    distance = torch.tensor([case.view.source_to_detector_mm])

    def film(mu: Tensor) -> Tensor:
        subject._image_hu = mu[None, None]
        # Its camera is set to the world, so that the rays are exactly those of the other peers.
        return render(subject, unused, camera, distance, rows, cols, src=source, tgt=pixels)[0, 0]

    return _Differentiable(film, volume, weight)


def _diffdrr(case: Case, volume: Tensor, weight: Tensor, *, renderer: str) -> Runner:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffdrr import renderers  # its renderers need torch alone, the rest of the package much more

    source, pixels = _endpoints(case)
    # Siddon's planes begin at the first voxel's face, the trilinear grid at its centre.
    lowest = case.size / 2 if renderer == "Siddon" else (case.size - 1) / 2
    origin, spacing = torch.full((3,), -lowest * case.spacing_mm), torch.full((3,), case.spacing_mm)
    march = getattr(renderers, renderer)()

    def film(mu: Tensor) -> Tensor:
        result: Tensor = march(mu.permute(2, 1, 0), origin, spacing, source, pixels)
        return result[0, 0].reshape(case.view.detector_shape)

    return _Differentiable(film, volume, weight)


def _endpoints(case: Case) -> tuple[Tensor, Tensor]:
    """Source [1, 1, 3] and pixels [1, rows * cols, 3] in (x, y, z) = (w, h, d) mm, float32."""
    frame = case.frame
    pixels = frame.pixels(*case.view.detector_shape).reshape(1, -1, 3)
    return frame.source.reshape(1, 1, 3).flip(-1).float(), pixels.flip(-1).float().contiguous()


PEERS = {
    peer.name: peer
    for peer in (
        Peer("xrecon", "xrecon", functools.partial(_xrecon, fresh_pose=False)),
        Peer("xrecon-pose", "xrecon", functools.partial(_xrecon, fresh_pose=True)),
        Peer("rtk", "itk-rtk", _Rtk),
        Peer("nanodrr", "nanodrr", _nanodrr, slow=True),
        Peer("diffdrr-trilinear", "diffdrr", functools.partial(_diffdrr, renderer="Trilinear"), slow=True),
        Peer("diffdrr-siddon", "diffdrr", functools.partial(_diffdrr, renderer="Siddon"), slow=True),
    )
}
