"""Draw the figures of docs/ptx-seg.md: the steps of PTX-Seg on a real chest CT with a planted pneumothorax.

python scripts/figures_ptxseg.py --case ../shared/data/ct/case_003.nii.gz --out docs/figures
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from numpy.typing import NDArray

import xrecon
from xrecon.anatomy.body import find_body
from xrecon.ptxseg.airways import find_airways
from xrecon.ptxseg.candidates.air import find_candidates
from xrecon.ptxseg.hemithoraces.lungs import find_hemithoraces
from xrecon.ptxseg.levels import side_levels
from xrecon.ptxseg.work_grid import working_grid
from xrecon.segmentation import Label
from xrecon.volume import RESEARCH_NOTICE

COLOURS = ListedColormap(["#4c9be8", "#57b86b", "#e8474c", "#f2c14e", "#9a6fd0"])
"""Right lung, left lung, air, airways, candidates that are not a pneumothorax."""


def panel(axis: Any, image: NDArray[np.float32], labels: NDArray[np.uint8] | None, title: str, *, ratio: float) -> None:
    """One slice in a lung window, labels over it; the patient's right on the left."""
    axis.imshow(image, cmap="gray", vmin=-1050, vmax=150, aspect=ratio)
    if labels is not None:
        shown = np.ma.masked_equal(labels, 0)
        axis.imshow(shown, cmap=COLOURS, vmin=0.5, vmax=5.5, alpha=0.45, aspect=ratio, interpolation="nearest")
    axis.set_title(title, fontsize=9)
    axis.text(0.02, 0.96, "R", color="white", transform=axis.transAxes, va="top")
    axis.text(0.98, 0.96, "L", color="white", transform=axis.transAxes, va="top", ha="right")
    axis.axis("off")


def finish(figure: Any, path: Path) -> None:
    """Notice on the face, then write."""
    figure.text(0.5, 0.005, RESEARCH_NOTICE, ha="center", fontsize=7)
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    figure.savefig(path, dpi=70)
    plt.close(figure)
    print(path)


def steps(ct: xrecon.Volume, truth: xrecon.Segmentation, path: Path) -> None:
    """Every step on the axial slice that shows most of the air."""
    body = find_body(ct)
    grid = working_grid(ct, body.box())
    inside = body.at(grid.nearest_voxels())
    hu, spacing = np.asarray(grid.volume.hu), grid.spacing_mm
    airways = find_airways(hu, inside, spacing)
    chest = find_hemithoraces(hu, inside, airways, spacing)
    side = int(truth.air_side.max())
    own = chest.sides == side
    levels = side_levels(hu, own, air_hu=airways.air_hu, noise_hu=airways.noise_hu, smooth=False, reach=2)
    candidates, count = find_candidates(hu, own, levels, spacing=spacing)
    found = xrecon.segment(ct)
    row = int(np.argmax((truth.labels == Label.AIR).sum(axis=(1, 2))))
    d = row - grid.box[0].start  # the stored CTs are their own working grid
    figure, axes = plt.subplots(2, 3, figsize=(11, 6.6))
    ratio = spacing[1] / spacing[2]
    here = [part[d] for part in (hu, inside, chest.sides, candidates)]
    panel(axes[0, 0], here[0], None, "CT with a planted pneumothorax", ratio=ratio)
    panel(axes[0, 1], here[0], here[1].astype(np.uint8), "1 body", ratio=ratio)
    shown = here[2].copy()
    shown[airways.mask[d]] = 4
    panel(axes[0, 2], here[0], shown, f"2, 3 airways and hemithoraces; free air {airways.air_hu:.0f} HU", ratio=ratio)
    panel(axes[1, 0], here[0], np.where(here[3] > 0, 3, 0).astype(np.uint8), f"4 candidates: {count}", ratio=ratio)
    box = grid.box
    panel(axes[1, 1], here[0], found.labels[box][d], "5, 6 judged; labels", ratio=ratio)
    panel(axes[1, 2], here[0], truth.labels[box][d], "truth of the planting", ratio=ratio)
    finish(figure, path)


def planes(ct: xrecon.Volume, truth: xrecon.Segmentation, path: Path) -> None:
    """Three planes through the air: CT, found, truth."""
    found = xrecon.segment(ct)
    air = truth.labels == Label.AIR
    at = [int(np.argmax(air.sum(axis=tuple(a for a in range(3) if a != axis)))) for axis in range(3)]
    figure, axes = plt.subplots(3, 3, figsize=(11, 10.5))
    for column, axis in enumerate(range(3)):
        pitch = [s for a, s in enumerate(ct.spacing_mm) if a != axis]
        image = np.take(ct.hu, at[axis], axis=axis)
        for line, (labels, name) in enumerate(((None, "CT"), (found.labels, "found"), (truth.labels, "truth"))):
            over = None if labels is None else np.take(labels, at[axis], axis=axis)
            title = f"{('axial', 'coronal', 'sagittal')[axis]}: {name}"
            panel(axes[line, column], image, over, title, ratio=pitch[0] / pitch[1])
            if axis == 2:
                for text in list(axes[line, column].texts):
                    text.remove()
    finish(figure, path)


def main() -> None:
    """Plant, segment, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=Path, default=Path("../shared/data/ct/case_003.nii.gz"))
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    arguments = parser.parse_args()
    if not arguments.case.is_file():
        print(f"skipped: no CT at {arguments.case}; give --case FILE")
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    healthy = xrecon.load_ct(arguments.case)
    ct, truth = xrecon.plant_pneumothorax(healthy, side="right", occupancy=0.2, seed=4, pattern="supine")
    steps(ct, truth, arguments.out / "ptx-seg-steps.png")
    planes(ct, truth, arguments.out / "ptx-seg-planes.png")


if __name__ == "__main__":
    main()
