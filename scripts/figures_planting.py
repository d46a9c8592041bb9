"""Draw the figures of docs/planting.md: python scripts/figures_planting.py CT OUTPUT_FOLDER [--name NAME]

CT is a healthy chest CT (NIfTI, DICOM); without one, `--phantom` draws the artificial thorax.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from xrecon import Volume, load_ct, plant_pneumothorax
from xrecon.phantoms.thorax import ThoraxParameters, thorax_phantom
from xrecon.planting.confounders import plant_bulla, plant_stomach_gas, plant_subcutaneous_emphysema
from xrecon.segmentation import Segmentation

matplotlib.use("Agg")
from matplotlib import pyplot as plt

PLANES = ("axial", "coronal", "sagittal")
WINDOW = (-1050.0, 250.0)
BOX = {"facecolor": "black", "edgecolor": "none", "pad": 1.0}
COLOURS = ((1, "tab:red"), (2, "tab:green"), (3, "tab:cyan"))


def cut(array: np.ndarray, plane: int, index: int) -> np.ndarray:
    """One slice [rows, columns]; the patient's right is on the left of axial and coronal slices."""
    return np.take(array, index, axis=plane)


def draw_row(axes: Sequence[plt.Axes], ct: Volume, mask: np.ndarray, title: str, truth: Segmentation | None) -> None:
    """The three planes through the middle of the mask."""
    where = np.argwhere(mask)
    place = np.median(where, axis=0).astype(int)
    spacing = ct.spacing_mm
    for plane, axis in enumerate(axes):
        across = [s for a, s in enumerate(spacing) if a != plane]
        axis.imshow(
            cut(ct.hu, plane, place[plane]), cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1], aspect=across[0] / across[1]
        )
        if truth is not None:
            labels = cut(truth.labels, plane, place[plane])
            for value, colour in COLOURS:
                if (labels == value).any():
                    axis.contour(labels == value, [0.5], colors=colour, linewidths=0.5)
        axis.set_xticks([])
        axis.set_yticks([])
        if plane < 2:
            axis.text(0.02, 0.96, "R", color="w", fontsize=7, transform=axis.transAxes, va="top", bbox=BOX)
            axis.text(0.98, 0.96, "L", color="w", fontsize=7, transform=axis.transAxes, va="top", ha="right", bbox=BOX)
    axes[0].set_ylabel(title, fontsize=8)


def sheet(rows: Sequence[tuple[str, Volume, np.ndarray, Segmentation | None]], path: Path, *, credit: str) -> None:
    """One figure, one row per example."""
    figure, axes = plt.subplots(len(rows), 3, figsize=(6.6, 2.1 * len(rows)), squeeze=False)
    for row, (title, ct, mask, truth) in zip(axes, rows, strict=True):
        draw_row(row, ct, mask, title, truth)
    for axis, name in zip(axes[0], PLANES, strict=True):
        axis.set_title(name, fontsize=8)
    figure.text(0.5, 0.002, f"{credit} SYNTHETIC / RESEARCH ONLY / NOT FOR DIAGNOSIS", ha="center", fontsize=5)
    figure.tight_layout(pad=0.4, rect=(0, 0.01, 1, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)
    with Image.open(path) as picture:  # 96 colours are enough for grey and three outlines, and halve the file
        small = picture.convert("RGB").quantize(96, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


def planted(ct: Volume, title: str, *, outline: bool = False, **wish: object) -> tuple[str, Volume, np.ndarray, object]:
    """A row of a sheet."""
    sick, truth = plant_pneumothorax(ct, **wish)
    return title, sick, truth.labels == 3, truth if outline else None


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ct", nargs="?", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--credit", default="", help="attribution of the CT, printed on the figures")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.ct is None:
        ct = thorax_phantom(160, 2.4, parameters=ThoraxParameters(noise_hu=15.0)).volume
    else:
        ct = load_ct(arguments.ct)
    patterns = [
        planted(ct, f"{name}, {side}, 20 %", side=side, pattern=name, occupancy=0.2)
        for name, side in (("supine", "right"), ("upright", "left"), ("lateral", "right"), ("loculated", "left"))
    ]
    sheet(patterns, arguments.output / "planting-patterns.png", credit=arguments.credit)
    sizes = [
        planted(ct, f"supine, {share:.0%}", outline=True, occupancy=share, side="right") for share in (0.05, 0.25, 0.6)
    ]
    sheet(sizes, arguments.output / "planting-sizes.png", credit=arguments.credit)
    bulla, streaks, gas = (plant_bulla(ct, volume_ml=80.0), plant_subcutaneous_emphysema(ct), plant_stomach_gas(ct))
    others = [
        planted(ct, "60 %, tension", occupancy=0.6, tension=1.0, pattern="upright", side="right"),
        planted(ct, "25 %, 300 mL fluid", occupancy=0.25, effusion_ml=300.0, side="left"),
        ("bulla", *bulla, None),
        ("subcutaneous", *streaks, None),
        ("stomach gas", *gas, None),
    ]
    sheet(others, arguments.output / "planting-others.png", credit=arguments.credit)


if __name__ == "__main__":
    main()
