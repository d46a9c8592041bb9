"""The table of backends, and which of them computes a projection."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import torch

from xrecon.errors import ConfigError, InputError
from xrecon.projector.backends.aligned import ALIGNED, plan_for, project_aligned
from xrecon.projector.backends.backend import Backend, Films, Volumes, transposed
from xrecon.projector.backends.compiled import COMPILED
from xrecon.projector.backends.reference import REFERENCE, project_reference
from xrecon.projector.scene import Scene

BackendName = Literal["auto", "compiled", "aligned", "reference"]

BACKENDS: Mapping[str, Backend] = MappingProxyType(
    {backend.name: backend for backend in (COMPILED, ALIGNED, REFERENCE)}
)
"""Every backend by its name, the fastest first."""


def backend_for(name: str, volume: Volumes, scene: Scene) -> Backend:
    """The backend of that name, or for "auto" the fastest that can project this volume in this scene.

    Args:
        name: "auto" or a key of `BACKENDS`.
        volume: [N, D, H, W] float32 or float64; its shape, dtype and device count, its values do not.
        scene: grid, views and poses.

    Raises:
        ConfigError: an unknown name.
        InputError: the named backend cannot do it; the message says why, and which can.
    """
    if name == "auto":
        return COMPILED if COMPILED.refusal(volume, scene) is None else _VIEW_BY_VIEW
    if name not in BACKENDS:
        raise ConfigError(f"unknown projector backend {name!r}; choose one of {', '.join(('auto', *BACKENDS))}")
    reason = BACKENDS[name].refusal(volume, scene)
    if reason is not None:
        able = [repr(other.name) for other in BACKENDS.values() if other.refusal(volume, scene) is None]
        raise InputError(f"the projector backend {name!r} {reason}; use 'auto' or {' or '.join(able)}")
    return BACKENDS[name]


def _project_view_by_view(volume: Volumes, scene: Scene) -> Films:
    """Every view by the faster of the two backends that are written in torch."""
    frames = scene.frames(volume.device)
    films = []
    for view, frame in zip(scene.single_views(), frames, strict=True):
        if ALIGNED.refusal(volume, view) is None:
            films.append(project_aligned(volume, plan_for(view.shape, view.spacing_mm, view.views[0])))
        else:
            films.append(project_reference(volume, view.spacing_mm, frame, view.detector_shape))
    return torch.stack(films, dim=1)


_VIEW_BY_VIEW = Backend(
    name="view by view",
    summary="aligned where a view allows it, else reference",
    refusal=REFERENCE.refusal,
    project=_project_view_by_view,
    backproject=transposed(_project_view_by_view),
)
