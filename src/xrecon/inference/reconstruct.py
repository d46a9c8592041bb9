"""Two films in, one CT out: the door through which every model is used."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from xrecon import __version__
from xrecon.errors import InputError
from xrecon.geometry import FRAME_MM
from xrecon.inference.network_model import SHIPPED, NetworkModel, draw_network, load_network, network_folder
from xrecon.inference.result import Reconstruction, ViewResidual
from xrecon.models.inference import Precision
from xrecon.priors.asset import PriorAsset, load_priors
from xrecon.priors.bank import BankChest, fit_bank
from xrecon.priors.chest import DENSITY_GRID
from xrecon.priors.consistency import consistency_sweep
from xrecon.priors.deformation import fit_deformation, mean_chest
from xrecon.priors.films import FilmPair, line_integrals, mirror_hints, ray_support, visual_hull
from xrecon.priors.framing import FramedChest, frame_chest
from xrecon.priors.linear import fit_linear
from xrecon.priors.warp import Grid, sample
from xrecon.projector.attenuation import hu_to_mu, mu_to_hu
from xrecon.radiograph import Radiograph
from xrecon.volume import OUTSIDE_HU, RESEARCH_NOTICE, Volume

MODELS = ("atlas", "pca", "deform")
"""Models that need no network."""
DEFAULT_MODEL = "deform"
SIZES = (64, 256)
_WORK_GRID = DENSITY_GRID
_WORK_PIXELS = 64
_SHOWN_PIXELS = 224
_CALIBRATION_ROUNDS = 2  # films of unknown gain: fit, recalibrate on the fit, fit again


class Drawable(Protocol):
    """A fitted chest: HU and their standard deviation on any grid, [D, H, W]."""

    def hu(self, grid: Grid) -> Tensor: ...  # noqa: D102
    def deviation(self, grid: Grid) -> Tensor: ...  # noqa: D102


@dataclass(frozen=True)
class _Finished:
    """Attenuation on the wide working grid before any fit and at the end, and the sweep's part of it."""

    before: Tensor
    after: Tensor
    change: Tensor


def reconstruct(
    pa: Radiograph,
    lateral: Radiograph,
    *,
    model: str = "default",
    size: int = 224,
    bank: Sequence[Volume | FramedChest] | None = None,
    refine: bool = True,
    assets: str | os.PathLike[str] | PriorAsset | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Reconstruction:
    """Reconstruct a chest CT from a PA and a lateral radiograph.

    Args:
        pa: PA film.
        lateral: lateral film of the same patient.
        model: "atlas", "pca", "deform", "default" (the best of them: deform), "xrecon" (the network that comes with the
            package), or the folder of a trained network (model.safetensors and model.json, as `xrecon train` writes
            them).
        size: voxels per edge of the 384 mm frame, 64..256.
        bank: CTs of other patients to fit one by one beside the statistical prior, averaged over the best (only
            "deform"); framed already (`xrecon.priors.framing.frame_chest`) where the same bank serves many films.
        refine: end with one projection-consistency sweep.
        assets: priors file, or priors already loaded; default the shipped ones.
        device: torch device.
        precision: of a network's products: "float32", "bfloat16" or "openvino" (`xrecon.models.run`); other models
            compute in float32.
        seed: recorded; the priors make no random choices.
        progress: called with a line of text at each stage.

    Raises:
        InputError: an unknown model, a size out of range, films swapped, a precision for a model that is no network.
        ConfigError: an unknown precision.
        MissingPartError: the priors file is not there; "openvino" without the package.
        CheckpointError: the priors file or the network is damaged.

    Example:
        >>> rec = xrecon.reconstruct(pa, lateral, model="deform", size=224)
        >>> rec.volume.save("synthetic_ct.nii.gz")
    """
    name = DEFAULT_MODEL if model == "default" else model
    folder = None if name in MODELS else network_folder(name)
    if name not in MODELS and folder is None:
        raise InputError(
            f"unknown model {model!r}; choose one of default, {', '.join((*MODELS, *SHIPPED))}, or give the folder of "
            "a trained network, which holds model.json"
        )
    if not SIZES[0] <= size <= SIZES[1]:
        raise InputError(f"size must lie in {SIZES[0]}..{SIZES[1]} voxels per edge, got {size}")
    if bank is not None and name != "deform":
        raise InputError(f"a bank is used by model deform only, not by {name}")
    if folder is None and precision != "float32":
        raise InputError(f"precision {precision!r} is for networks; model {name} computes in float32, leave it out")
    started = time.perf_counter()
    where = torch.device(device)
    asset = assets if isinstance(assets, PriorAsset) else load_priors(assets)
    asset = replace(asset, prior=asset.prior.to(where))
    network = None if folder is None else load_network(folder, device=where)
    prepared = None
    if bank is not None:
        progress(f"bank: framing {len(bank)} CTs")
        prepared = [_framed(f"bank {i}", ct) for i, ct in enumerate(bank, start=1)]
    pair = FilmPair((pa, lateral))
    progress(f"fitting {name}" if network is None else f"running the network {network.remark}")
    drawn = None
    if network is not None:
        drawn = draw_network(network, pair, mean_chest(asset.prior), device=where, precision=precision)

    def fit(films: FilmPair) -> Drawable:
        if drawn is not None:
            return drawn
        if name == "atlas":
            return mean_chest(asset.prior)
        if name == "pca":
            return fit_linear(asset.prior, films, device=where)
        fitted = fit_deformation(asset.prior, films, device=where)
        return fitted if prepared is None else fit_bank(fitted, prepared, films, device=where, progress=progress)

    chest: Drawable = mean_chest(asset.prior)
    with _one_thread():
        hints = mirror_hints(pair, _films_of(chest, pair))
        for hint in hints:
            progress(f"note: {hint}")
        for _ in range(1 if pair.quantitative else _CALIBRATION_ROUNDS):
            pair = pair.calibrated(_films_of(chest, pair))
            chest = fit(pair)
        progress("projection consistency")
        finished = _finish(chest, mean_chest(asset.prior), pair, refine=refine)
    progress(f"drawing {size} x {size} x {size} voxels")
    volume = _draw(chest, finished, pair, size, where)
    if network is not None:
        volume = replace(volume, notes=(*volume.notes, f"network {network.remark}"))
    spread = chest.spread(_output_grid(size)).cpu().numpy() if isinstance(chest, BankChest) else None
    return Reconstruction(
        volume=volume,
        support=ray_support(pair, _output_grid(size), device=where).cpu().numpy(),
        spread=spread,
        residual=_residuals(finished, pair),
        films=pair.radiographs(_SHOWN_PIXELS),
        reprojections=_reprojections(finished, pair),
        provenance=_provenance(
            asset,
            network,
            pair,
            hints,
            model=(name if network is None else network.information.name) + ("+bank" if bank is not None else ""),
            size=size,
            refine=refine,
            bank_cases=len(bank) if bank is not None else 0,
            device=str(where),
            **({} if network is None else {"precision": precision}),
            seed=seed,
            seconds=time.perf_counter() - started,
        ),
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Fits work on small grids: one thread is as fast there, many times faster on a busy machine (threads that wait
    for each other spin), and makes the result independent of the machine's number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _framed(name: str, ct: Volume | FramedChest) -> FramedChest:
    return ct if isinstance(ct, FramedChest) else frame_chest(name, ct)


def _output_grid(size: int) -> Grid:
    return Grid((size, size, size), FRAME_MM / size)


def _films_of(chest: Drawable, pair: FilmPair) -> Tensor:
    return line_integrals(hu_to_mu(chest.hu(_WORK_GRID)), _WORK_GRID, pair.views(_WORK_PIXELS))


def _finish(chest: Drawable, mean: Drawable, pair: FilmPair, *, refine: bool) -> _Finished:
    """Apply what the films exclude, then the consistency sweep, on the working grid."""
    hu = chest.hu(_WORK_GRID)
    hull = visual_hull(pair, _WORK_GRID, device=hu.device)
    mu = hu_to_mu(hu) * hull
    change = torch.zeros_like(mu)
    if refine:
        water_per_hu = hu_to_mu(torch.zeros(())) / 1000.0
        deviation = chest.deviation(_WORK_GRID) * hull * water_per_hu
        change = consistency_sweep(mu, deviation, pair, _WORK_GRID, size=_WORK_PIXELS)
        change = (mu + change).clamp(min=0.0) - mu
    return _Finished(hu_to_mu(mean.hu(_WORK_GRID)), mu + change, change)


def _draw(chest: Drawable, finished: _Finished, pair: FilmPair, size: int, device: torch.device) -> Volume:
    grid = _output_grid(size)
    hull = visual_hull(pair, grid, device=device)
    change = sample(finished.change[None], grid.positions_mm().to(device), _WORK_GRID.spacing_mm)[0]
    # Interpolation carries the change a little beyond the body; what the films exclude stays air.
    mu = hu_to_mu(chest.hu(grid)) * hull + torch.where(hull > 0, change, torch.zeros_like(change))
    hu = mu_to_hu(mu.clamp(min=0.0))
    # Vacuum is -1000 HU of attenuation; outside the body a CT is stored as -1024.
    hu = torch.where(mu <= 0, torch.full_like(hu, OUTSIDE_HU), hu)
    spacing = grid.spacing_mm
    volume = Volume.centred(hu.cpu().numpy().astype(np.float32), (spacing, spacing, spacing), synthetic=True)
    return replace(volume, notes=(RESEARCH_NOTICE,))


def _residuals(finished: _Finished, pair: FilmPair) -> Mapping[str, ViewResidual]:
    views = pair.views(_WORK_PIXELS)
    films = pair.values(_WORK_PIXELS, finished.after.device)
    covered = pair.covered(_WORK_PIXELS, films.device) > 0
    before, after = (line_integrals(mu, _WORK_GRID, views) - films for mu in (finished.before, finished.after))
    residuals = {}
    for k, view in enumerate(("pa", "lateral")):
        spread = films[k][covered[k]].std()
        parts = (float(misfit[k][covered[k]].square().mean().sqrt() / spread) for misfit in (before, after))
        residuals[view] = ViewResidual(*parts)
    return residuals


def _reprojections(finished: _Finished, pair: FilmPair) -> tuple[Radiograph, Radiograph]:
    views = pair.views(_SHOWN_PIXELS)
    images = line_integrals(finished.after, _WORK_GRID, views).cpu().numpy()
    return Radiograph(images[0], "pa", views[0]), Radiograph(images[1], "lateral", views[1])


def _provenance(
    asset: PriorAsset,
    network: NetworkModel | None,
    pair: FilmPair,
    hints: tuple[str, ...],
    *,
    seconds: float,
    seed: int,
    **options: Any,
) -> Mapping[str, Any]:
    told = {} if network is None else {"network": network.summary()}
    return {
        "notice": RESEARCH_NOTICE,
        "model": options.pop("model"),
        "version": __version__,
        "sha256": asset.sha256 if network is None else network.information.sha256,
        **told,
        "prior": {k: asset.prior.information.get(k) for k in ("name", "schema", "cases", "made")},
        "geometry": {film.view: film.geometry.to_dict() for film in pair.films},
        "calibration": {
            film.view: {"quantity": film.quantity, "gain": gain, "offset": offset}
            for film, gain, offset in zip(pair.films, pair.gain, pair.offset, strict=True)
        },
        "seed": seed,
        "options": options,
        "seconds": seconds,
        "notes": [
            *([] if network is None else [f"network {network.remark}"]),
            *(f"{film.view.upper()}: {note}" for film in pair.films for note in film.notes),
            *hints,
        ],
    }
