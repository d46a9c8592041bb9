"""Validation: the generator on cases that it does not learn from, with pictures; no augmentation, no refinement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from torch import Tensor, nn

from xrecon.augmentation.augmenter import Augmenter, Sample
from xrecon.augmentation.settings import AugmentConfig
from xrecon.data.dataset import PreparedDataset
from xrecon.io.output.atomic import atomic_path
from xrecon.models.config import HU_OFFSET, HU_SCALE
from xrecon.training.losses import Batch, ssim
from xrecon.training.samples import batch_of
from xrecon.volume import RESEARCH_NOTICE

BODY_HU = -900.0
"""Body MAE counts voxels whose true HU lies above, inside the body mask of the case."""


@dataclass(frozen=True)
class CaseFigures:
    """How close one reconstructed case is to its CT, where the scanner measured.

    Attributes:
        case: name of the case.
        psnr: dB, volumetric, peak 2500 HU.
        mae_hu: mean absolute error, HU.
        body_mae_hu: the same where the true HU is above -900.
        ssim: 3D, whole cube, window of 7 voxels, data range 2500 HU.
    """

    case: str
    psnr: float
    mae_hu: float
    body_mae_hu: float
    ssim: float


FIGURES = ("psnr", "mae_hu", "body_mae_hu", "ssim")
"""The figures of `CaseFigures`, in its order."""


@dataclass(frozen=True)
class ValidatedCase:
    """One case after validation: its figures, and films, true CT and reconstruction on the CPU for the panel.

    Attributes:
        figures: against the CT.
        batch: the case, a batch of one.
        volume: [1, 1, S, S, S] reconstruction, network range.
    """

    figures: CaseFigures
    batch: Batch
    volume: Tensor


def validation_samples(cases: PreparedDataset, *, size: int) -> list[tuple[str, Sample]]:
    """(name, stored CT and films at the network's size) of every case, without augmentation."""
    augmenter = Augmenter(AugmentConfig.off(), size=size, frame_mm=cases.frame_mm, beams=cases.beams)
    return [(case.name, augmenter(case.load(), 0)) for case in cases]


@torch.no_grad()
def validate(network: nn.Module, samples: Sequence[tuple[str, Sample]], device: torch.device) -> list[ValidatedCase]:
    """Reconstruct every sample and compare it with its CT.

    Args:
        network: generator, called with PA and lateral film; its mode is restored.
        samples: of `validation_samples`.
        device: where the network is.
    """
    training = network.training
    network.eval()
    cases = []
    for name, sample in samples:
        batch = batch_of([sample])
        volume = network(batch.pa.to(device), batch.lateral.to(device)).float().clamp(0, 1).cpu()
        cases.append(ValidatedCase(_compared(name, volume, batch), batch, volume))
    network.train(training)
    return cases


def _compared(name: str, volume: Tensor, batch: Batch) -> CaseFigures:
    difference = (volume - batch.ct)[batch.measured].double() * HU_SCALE
    body = (batch.ct * HU_SCALE - HU_OFFSET > BODY_HU)[batch.measured]
    squared = float(difference.square().mean())
    return CaseFigures(
        case=name,
        psnr=10 * float(np.log10(HU_SCALE**2 / max(squared, 1e-12))),
        mae_hu=float(difference.abs().mean()),
        body_mae_hu=float(difference[body].abs().mean()),
        ssim=float(ssim(volume, batch.ct)),
    )


def mean_of(figures: Sequence[CaseFigures]) -> dict[str, float]:
    """Mean of every figure over the cases, by its name."""
    return {name: float(np.mean([getattr(case, name) for case in figures])) for name in FIGURES}


def write_panel(file: Path, cases: Sequence[ValidatedCase]) -> None:
    """A PNG with one row per case: films, then coronal, sagittal and axial mid slices, reconstructed above true."""
    rows = []
    for case in cases:
        cells = [np.concatenate([_grey(film[0, 0], 0, 1)] * 2) for film in (case.batch.pa, case.batch.lateral)]
        for axis in (1, 2, 0):
            volumes = (case.volume, case.batch.ct)
            pair = [_grey(ct[0, 0].select(axis, ct.shape[2 + axis] // 2), 0.0, 0.65) for ct in volumes]
            cells.append(np.concatenate(pair))
        rows.append(np.concatenate(cells, axis=1))
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", RESEARCH_NOTICE)
    with atomic_path(file, overwrite=True) as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary, format="PNG", pnginfo=notes)


def _grey(image: Tensor, low: float, high: float) -> NDArray[np.uint8]:
    scaled: NDArray[np.uint8] = ((image - low) / (high - low)).clamp(0, 1).mul(255).to(torch.uint8).numpy()
    return scaled
