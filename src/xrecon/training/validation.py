"""How good the generator is on cases that it does not learn from, with pictures; no augmentation, no refinement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def validation_samples(cases: PreparedDataset, *, size: int) -> list[tuple[str, Sample]]:
    """(case, its stored CT and films at the network's size), nothing drawn."""
    made = Augmenter(AugmentConfig.off(), size=size, frame_mm=cases.frame_mm, beams=cases.beams)
    return [(case.name, made(case.load(), 0)) for case in cases]


@torch.no_grad()
def validate(
    network: nn.Module, samples: Sequence[tuple[str, Sample]], device: torch.device
) -> tuple[list[dict[str, Any]], list[tuple[Batch, Tensor]]]:
    """Figures per case, and (batch, volume) per case on the CPU.

    Figures, where the scanner measured: `psnr` in dB (volumetric, peak 2500 HU), `mae_hu`, `body_mae_hu` (true HU above
    -900), `ssim` (3D, whole cube, window 7, data range 2500 HU).
    """
    training = network.training
    network.eval()
    figures, volumes = [], []
    for name, sample in samples:
        batch = batch_of([sample])
        fake = network(batch.pa.to(device), batch.lateral.to(device)).float().clamp(0, 1).cpu()
        difference = (fake - batch.ct)[batch.measured].double() * HU_SCALE
        body = (batch.ct * HU_SCALE - HU_OFFSET > BODY_HU)[batch.measured]
        squared = float(difference.square().mean())
        figures.append(
            {
                "case": name,
                "psnr": 10 * float(np.log10(HU_SCALE**2 / max(squared, 1e-12))),
                "mae_hu": float(difference.abs().mean()),
                "body_mae_hu": float(difference[body].abs().mean()),
                "ssim": float(ssim(fake, batch.ct)),
            }
        )
        volumes.append((batch, fake))
    network.train(training)
    return figures, volumes


def mean_of(figures: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean of every figure over the cases."""
    return {key: float(np.mean([one[key] for one in figures])) for key in figures[0] if key != "case"}


def write_panel(file: Path, volumes: Sequence[tuple[Batch, Tensor]]) -> None:
    """A PNG with one row per case: films, then coronal, sagittal and axial mid slices, reconstructed above true."""
    rows = []
    for batch, fake in volumes:
        cells = [np.concatenate([_grey(film[0, 0], 0, 1)] * 2) for film in (batch.pa, batch.lateral)]
        for axis in (1, 2, 0):
            pair = [_grey(ct[0, 0].select(axis, ct.shape[2 + axis] // 2), 0.0, 0.65) for ct in (fake, batch.ct)]
            cells.append(np.concatenate(pair))
        rows.append(np.concatenate(cells, axis=1))
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", RESEARCH_NOTICE)
    with atomic_path(file, overwrite=True) as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary, format="PNG", pnginfo=notes)


def _grey(image: Tensor, low: float, high: float) -> NDArray[np.uint8]:
    scaled: NDArray[np.uint8] = ((image - low) / (high - low)).clamp(0, 1).mul(255).to(torch.uint8).numpy()
    return scaled
