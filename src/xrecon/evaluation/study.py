"""Reconstruct known CTs from their simulated films with every model, and measure the error."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.body import body_mask, without_table
from xrecon.anatomy.frame import framed, thorax_centre
from xrecon.data.ct_folder import content_sha256
from xrecon.errors import InputError
from xrecon.evaluation.metrics.image import ImageMetrics, image_metrics
from xrecon.evaluation.tables import PerCase
from xrecon.films.simulation import simulate
from xrecon.geometry import FRAME_MM
from xrecon.inference.models import baseline_names
from xrecon.inference.reconstruct import reconstruct
from xrecon.inference.result import Reconstruction
from xrecon.priors.framing import FramedChest, frame_chest
from xrecon.radiograph import Radiograph
from xrecon.volume import Volume, load_ct

WITH_BANK = "+bank"
STUDY_MODELS = (*baseline_names(), f"deform{WITH_BANK}")
"""What `evaluate_cases` knows: the models of `reconstruct`, and deform with the bank of other patients' CTs."""
LEAST_DETECTOR = 128
"""Films have at least this many pixels per edge: a detector is always finer than a coarse reconstruction."""


@dataclass(frozen=True, eq=False)
class Case:
    """A CT whose answer is known.

    Attributes:
        name: name of the case (never a patient's).
        truth: HU [size, size, size] on the frame, centred at the isocentre; everything outside the body removed.
        body: [size, size, size] bool, the patient's body.
        films: (PA, lateral), simulated from the whole CT without the table.
    """

    name: str
    truth: Volume
    body: NDArray[np.bool_]
    films: tuple[Radiograph, Radiograph]


@dataclass(frozen=True, eq=False)
class CaseResult:
    """All models on one case.

    Attributes:
        case: the case.
        rows: metrics by model.
        residuals: model -> view -> (before, after), see `ViewResidual`.
        reconstruction: of the last model.
    """

    case: Case
    rows: tuple[PerCase, ...]
    residuals: Mapping[str, Mapping[str, tuple[float, float]]]
    reconstruction: Reconstruction


def prepare_case(name: str, ct: Volume, *, size: int, geometry: str = "chest", device: str = "cpu") -> Case:
    """Truth, body mask and films of a CT; the films' isocentre is the middle of its lungs.

    Raises:
        InputError: no body or no lungs in the CT.
        GeometryError: an unknown preset.
    """
    ct = ct.canonical()
    centre = thorax_centre(ct)
    mask = body_mask(ct)
    clean = without_table(ct, mask=mask)
    spacing = FRAME_MM / size
    body = ct.with_hu(mask.astype(np.float32)).resampled((size, size, size), spacing, centre_mm=centre, fill_hu=0.0)
    cube = framed(clean, size, centre_mm=centre)
    detector = max(size, LEAST_DETECTOR)
    # The table is gone already: `keep_table` spares a second search for the body.
    films = simulate(clean, size=detector, geometry=geometry, keep_table=True, centre_mm=centre, device=device)
    # Films know no scanner: the truth gets the frame's own coordinates, origin at the isocentre.
    truth = Volume.centred(cube.hu, (spacing, spacing, spacing), synthetic=ct.synthetic)
    truth = replace(truth, notes=cube.notes)
    return Case(name, truth, np.asarray(body.hu > 0.5), films)


def run_model(
    case: Case,
    model: str,
    *,
    bank: Sequence[Volume | FramedChest] | None = None,
    assets: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Reconstruction, ImageMetrics, float]:
    """Reconstruction of a case on the grid of its truth, its metrics, and the seconds that it took.

    Raises:
        InputError: an unknown model, or a bank that the model needs and does not have.
        MissingPartError: no priors.
    """
    base = model.removesuffix(WITH_BANK)
    if model not in STUDY_MODELS:
        raise InputError(f"unknown model {model!r}; choose from {', '.join(STUDY_MODELS)}")
    if base != model and not bank:
        raise InputError(f"{model} needs CTs of other patients for its bank; give a split with train cases")
    started = time.perf_counter()
    result = reconstruct(
        *case.films,
        model=base,
        size=case.truth.shape[0],
        bank=bank if base != model else None,
        assets=assets,
        device=device,
        seed=seed,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    return result, image_metrics(true=case.truth, estimate=result.volume, body=case.body), seconds


def evaluate_cases(
    cases: Sequence[tuple[str, Path]],
    *,
    models: Sequence[str],
    size: int,
    bank: Sequence[tuple[str, Path]] = (),
    geometry: str = "chest",
    assets: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[CaseResult]:
    """Every model on every case, one case after the other.

    Args:
        cases: (name, CT file or folder).
        models: from `STUDY_MODELS`.
        size: voxels per edge of the frame.
        bank: (name, CT) that models with `+bank` may use; a case is never in its own bank, under whatever name.
        geometry: preset of the simulated films.
        assets: priors file; default the shipped one.
        device: torch device.
        seed: of random choices.
        progress: called with a line of text at each stage.

    Raises:
        InputError: an unknown model, an unusable CT, or a bank that is empty without the case.
    """
    unknown = [model for model in models if model not in STUDY_MODELS]
    if unknown or not models:
        raise InputError(f"unknown models {unknown}; choose from {', '.join(STUDY_MODELS)}")
    shelf = _Bank(bank if any(model.endswith(WITH_BANK) for model in models) else ())
    for number, (name, path) in enumerate(cases, start=1):
        progress(f"case {number} of {len(cases)}: {name}")
        case = prepare_case(name, load_ct(path), size=size, geometry=geometry, device=device)
        rows, residuals = [], {}
        for model in models:
            others = shelf.without(name, path) if model.endswith(WITH_BANK) else None
            result, metrics, seconds = run_model(
                case, model, bank=others, assets=assets, device=device, seed=seed, progress=progress
            )
            rows.append(PerCase(name, model, metrics.to_dict(), seconds))
            residuals[model] = {view: (found.before, found.after) for view, found in result.residual.items()}
            progress(f"{name}, {model}: PSNR {metrics.psnr_2500_db:.2f} dB in {seconds:.0f} s")
        yield CaseResult(case, tuple(rows), residuals, result)


def peak_memory_mib() -> float | None:
    """Largest resident memory of this process so far, MiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere


class _Bank:
    """The CTs of the bank: read and framed once, and never handed to the case that they are."""

    def __init__(self, cases: Sequence[tuple[str, Path]]) -> None:
        self._cases = [(name, content_sha256(path), frame_chest(name, load_ct(path))) for name, path in cases]

    def without(self, name: str, path: Path) -> list[FramedChest]:
        """All CTs but those that have the name or the content of the case. Raises InputError if none is left."""
        digest = content_sha256(path)
        kept = [chest for other, content, chest in self._cases if other != name and content != digest]
        if not kept:
            raise InputError(f"{name}: no CT of another patient is left for the bank; add train cases to the split")
        return kept
