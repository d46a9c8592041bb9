"""What a way of computing line integrals offers, and the transpose of one that is written in torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from xrecon.projector.scene import Scene

Volumes = Float[Tensor, "batch depth height width"]
"""Attenuation in 1/mm."""
Films = Float[Tensor, "batch views rows cols"]
"""Line integrals, dimensionless."""


@dataclass(frozen=True)
class Backend:
    """One way to compute the same line integrals.

    Attributes:
        name: what a caller forces it by.
        summary: what it is, in one line.
        refusal: why it cannot project this volume in this scene, as a part of a sentence; None: it can.
        project: volumes to films, differentiable in the volumes (and in the scene's poses).
        backproject: the transpose, films to volumes; differentiable in the films.
    """

    name: str
    summary: str
    refusal: Callable[[Volumes, Scene], str | None]
    project: Callable[[Volumes, Scene], Films]
    backproject: Callable[[Films, Scene], Volumes]


def transposed(project: Callable[[Volumes, Scene], Films]) -> Callable[[Films, Scene], Volumes]:
    """The transpose of a projection that torch can differentiate.

    A projection is linear, so its transpose is its vector-Jacobian product at any volume.
    """

    def backproject(films: Films, scene: Scene) -> Volumes:
        keep_graph = torch.is_grad_enabled() and films.requires_grad
        with torch.inference_mode(False), torch.enable_grad():
            zero = torch.zeros(films.shape[0], *scene.shape, dtype=films.dtype, device=films.device, requires_grad=True)
            image = project(zero, scene.without_pose_gradients())
            (volume,) = torch.autograd.grad(image, zero, grad_outputs=films, create_graph=keep_graph)
        return volume

    return backproject
