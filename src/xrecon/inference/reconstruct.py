"""Two films in, one CT out: the door through which every model is used."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from xrecon import __version__
from xrecon.environment import one_thread
from xrecon.errors import InputError
from xrecon.inference.explicit_pneumothorax import draw_pneumothorax
from xrecon.inference.film_answer import answer_of
from xrecon.inference.film_check import CheckedFilms, check_films, residual_notes
from xrecon.inference.finish import SHOWN_PIXELS, draw, expected_films, finish, output_grid, reprojections, residuals
from xrecon.inference.models import find_model
from xrecon.inference.protocol import FitTask, FittedChest, FittedEnsemble, ReadyModel, ReconstructionModel
from xrecon.inference.result import PneumothoraxOnFilms, Reconstruction
from xrecon.models.precision import Precision
from xrecon.priors.asset import PriorAsset, load_priors
from xrecon.priors.deformation import mean_chest
from xrecon.priors.films import FilmPair, ray_support
from xrecon.priors.framing import FramedChest, frame_chest
from xrecon.radiograph import Radiograph
from xrecon.volume import RESEARCH_NOTICE, Volume

SIZES = (64, 256)
"""Fewest and most voxels per edge of a reconstruction."""
_CALIBRATION_ROUNDS = 2  # films of unknown gain: fit, recalibrate on the fit, fit again


@dataclass(frozen=True)
class _CalibratedFit:
    """A chest, and the films as it calibrated them."""

    chest: FittedChest
    films: FilmPair


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
    force: bool = False,
    film_networks: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Reconstruction:
    """Reconstruct a chest CT from a PA and a lateral radiograph.

    The films are first compared with the mean chest: display films with dense tissue dark are inverted, unless they
    were read with `invert`; films that look swapped, the same or like no chest are refused; mirrored ones are noted.

    Args:
        pa: PA film.
        lateral: lateral film of the same patient.
        model: a name of the table of models (`xrecon models list`): "atlas", "pca", "deform", "deform+bank", "xrecon"
            (the network that comes with the package); "default" (deform); or the folder of a trained network
            (model.safetensors and model.json, as `xrecon train` writes them).
        size: voxels per edge of the 384 mm frame, 64..256.
        bank: CTs of other patients to fit one by one beside the statistical prior, averaged over the best ("deform",
            which then is "deform+bank"); framed already (`xrecon.priors.framing.frame_chest`) where the same bank
            serves many films.
        refine: end with one projection-consistency sweep.
        assets: priors file, or priors already loaded; default the shipped ones.
        device: torch device.
        precision: of a network's convolutions: "float32", "bfloat16" or "openvino" (`xrecon.models.precision.run`);
            other models compute in float32.
        seed: recorded; the priors make no random choices.
        force: take the films as they are, whatever they look like; what was seen is noted.
        film_networks: networks that look for free pleural air on the films, "default" (those that come with the
            package) or a folder of `xrecon train films`; what reaches their threshold is drawn into the CT. "none":
            none is looked for. None: as the model says (those with "+films" use the shipped ones).
        progress: called with a line of text at each stage.

    Raises:
        InputError: an unknown model, a size out of range, films swapped, a bank or a precision for a model that has
            no use for it, a model without the bank that it needs; unless forced, films that show the wrong view, one
            view twice or no chest, and line integrals with dense tissue dark.
        ConfigError: an unknown precision.
        MissingPartError: the priors file is not there; "openvino" without the package.
        CheckpointError: the priors file or the network is damaged.

    Example:
        >>> rec = xrecon.reconstruct(pa, lateral, model="deform", size=224)
        >>> rec.volume.save("synthetic_ct.nii.gz")
    """
    entry = find_model(model, has_bank=bank is not None)
    _check_options(entry, size=size, bank=bank, precision=precision)
    started = time.perf_counter()
    task = _task((pa, lateral), bank, assets, torch.device(device), precision, progress)
    ready = entry.ready(task)
    mean = mean_chest(task.asset.prior)
    with one_thread():
        checked = check_films(task.films, mean, force=force)
        for note in checked.notes:
            progress(f"note: {note}")
        fit = _calibrated_fit(ready, mean, checked.films)
        progress("projection consistency")
        finished = finish(fit.chest, mean, fit.films, refine=refine)
    residual = residuals(finished, fit.films)
    doubts = residual_notes(residual)
    for note in doubts:
        progress(f"note: {note}")
    progress(f"drawing {size} x {size} x {size} voxels")
    volume = draw(fit.chest, finished, fit.films, size=size, device=task.device)
    grid = output_grid(size)
    pneumothorax: PneumothoraxOnFilms | None = None
    air_notes: tuple[str, ...] = ()
    networks = film_networks if film_networks is not None else "default" if entry.needs.films else "none"
    if networks != "none":
        progress("free pleural air on the films")
        volume, pneumothorax, air_notes = _with_free_air(volume, checked.films, networks, progress)
    options = {
        "size": size,
        "refine": refine,
        "bank_cases": len(task.bank),
        "device": str(task.device),
        **({"force": True} if force else {}),
        **({} if entry.needs.network is None else {"precision": precision}),
    }
    return Reconstruction(
        volume=replace(volume, notes=(*volume.notes, ready.remark)) if ready.remark else volume,
        support=ray_support(fit.films, grid, device=task.device).cpu().numpy(),
        spread=fit.chest.spread(grid).cpu().numpy() if isinstance(fit.chest, FittedEnsemble) else None,
        residual=residual,
        films=fit.films.radiographs(SHOWN_PIXELS),
        reprojections=reprojections(finished, fit.films),
        provenance=_provenance(
            ready,
            task.asset,
            fit.films,
            checked,
            (*doubts, *air_notes),
            options=options,
            seed=seed,
            seconds=time.perf_counter() - started,
        ),
        pneumothorax=pneumothorax,
    )


def _with_free_air(
    volume: Volume, films: FilmPair, networks: str | os.PathLike[str], progress: Callable[[str], None]
) -> tuple[Volume, PneumothoraxOnFilms, tuple[str, ...]]:
    """The CT with what the film networks see drawn into it, what they see, and notes. Raises as `film_answer`."""
    answer = answer_of({film.view: film for film in films.films}, networks=networks)
    progress(answer.assessment.statement)
    result = draw_pneumothorax(volume, answer.findings, sides=answer.assessment.present_sides)
    for note in result.notes:
        progress(f"note: {note}")
    return result.volume, PneumothoraxOnFilms(answer, result.air_ml), (answer.assessment.statement, *result.notes)


def _check_options(
    entry: ReconstructionModel, *, size: int, bank: Sequence[Volume | FramedChest] | None, precision: str
) -> None:
    """Refuse options that the model has no use for, and a model without what it needs. Raises InputError."""
    if not SIZES[0] <= size <= SIZES[1]:
        raise InputError(f"size must lie in {SIZES[0]}..{SIZES[1]} voxels per edge, got {size}")
    if entry.needs.bank and bank is None:
        raise InputError(f"model {entry.name} needs a bank: give CTs of other patients (bank=..., --bank FOLDER)")
    if entry.needs.bank and not bank:
        raise InputError("the bank holds no CT; give at least one, or leave the bank out")
    if entry.needs.network is None and precision != "float32":
        raise InputError(
            f"precision {precision!r} is for networks; model {entry.name} computes in float32, leave it out"
        )


def _task(
    films: tuple[Radiograph, Radiograph],
    bank: Sequence[Volume | FramedChest] | None,
    assets: str | os.PathLike[str] | PriorAsset | None,
    device: torch.device,
    precision: Precision,
    progress: Callable[[str], None],
) -> FitTask:
    """Load the priors and frame the bank. Raises as `reconstruct`."""
    asset = assets if isinstance(assets, PriorAsset) else load_priors(assets)
    asset = replace(asset, prior=asset.prior.to(device))
    pair = FilmPair(films)
    chests: tuple[FramedChest, ...] = ()
    if bank is not None:
        progress(f"bank: framing {len(bank)} CTs")
        chests = tuple(
            ct if isinstance(ct, FramedChest) else frame_chest(f"bank {i}", ct) for i, ct in enumerate(bank, start=1)
        )
    return FitTask(pair, asset, chests, device, precision, progress)


def _calibrated_fit(ready: ReadyModel, mean: FittedChest, films: FilmPair) -> _CalibratedFit:
    """Fit the model; films of unknown gain are calibrated on the mean chest, then once more on the first fit."""
    chest = mean
    for _ in range(1 if films.quantitative else _CALIBRATION_ROUNDS):
        films = films.calibrated(expected_films(chest, films))
        chest = ready.fit(films)
    return _CalibratedFit(chest, films)


def _provenance(
    ready: ReadyModel,
    asset: PriorAsset,
    films: FilmPair,
    checked: CheckedFilms,
    doubts: tuple[str, ...],
    *,
    options: Mapping[str, Any],
    seed: int,
    seconds: float,
) -> Mapping[str, Any]:
    """What the JSON beside the CT says of its making."""
    film_notes = [(film.view, note) for film in films.films for note in film.notes]
    with_films = {note for _, note in film_notes}
    return {
        "notice": RESEARCH_NOTICE,
        "model": ready.label,
        "version": __version__,
        "sha256": ready.sha256,
        **({"network": ready.network} if ready.network else {}),
        "prior": {k: asset.prior.information.get(k) for k in ("name", "schema", "cases", "made")},
        "geometry": {film.view: film.geometry.to_dict() for film in films.films},
        "calibration": {
            film.view: {"quantity": film.quantity, "gain": gain, "offset": offset}
            for film, gain, offset in zip(films.films, films.gain, films.offset, strict=True)
        },
        "films": checked.summary,
        "seed": seed,
        "options": options,
        "seconds": seconds,
        "notes": [
            *([ready.remark] if ready.remark else []),
            *(f"{view.upper()}: {note}" for view, note in film_notes),
            *(note for note in checked.notes if note not in with_films),
            *doubts,
        ],
    }
