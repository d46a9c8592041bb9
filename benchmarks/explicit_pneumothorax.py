"""How well an explicit pneumothorax can be placed when the thickness maps of both films are exact.

Plants by both mechanisms in train CTs, projects exact maps and films, reconstructs with `deform`, fits both surfaces of
the pleural spaces to the maps, draws the air, and compares it with the truth at 4 mm. It measures the geometry
alone: with the maps of a network the air can only be worse. The default cases are not in the shipped priors.

    python benchmarks/explicit_pneumothorax.py --output build/explicit-pneumothorax.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import xrecon
from xrecon.anatomy.healthy_lungs import find_lungs
from xrecon.augmentation.varied_chest import SourceChest, source_chest, unvaried
from xrecon.environment import run_environment
from xrecon.films.thickness_maps import ThicknessMaps
from xrecon.inference.paint.drawing import paint_side
from xrecon.inference.paint.surface_fit import fit_surfaces
from xrecon.inference.paint.surfaces import PleuralSpace
from xrecon.io.output.atomic import write_json_atomic
from xrecon.planting.truth import PlantingSettings, Truth
from xrecon.preparation.film_library.produce import FilmRig, film_sample
from xrecon.volume import Volume
from xrecon.warp import Grid

GRID = Grid((96, 96, 96), 4.0)
PLANTS = (
    ("right", 0.2, "upright"),
    ("left", 0.2, "lateral"),
    ("right", 0.3, "supine"),
    ("left", 0.5, "upright"),
)
SIDES = ("right", "left")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=Path("../shared/data/ct"), help="folder of CTs")
    parser.add_argument("--cases", nargs="+", default=("case_121", "case_122"), help="train cases")
    parser.add_argument("--output", type=Path, default=None, help="JSON file to write")
    options = parser.parse_args(arguments)
    if not options.dataset.is_dir():
        print(f"skipped: no CTs at {options.dataset}; give --dataset FOLDER")
        return 0
    torch.set_num_threads(1)
    rows = []
    print(
        "| case | mechanism | side | pattern | of its side | air mL | Dice | volume | other side mL | hemithorax | s |"
    )
    print("|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|")
    for case in options.cases:
        source = source_chest(xrecon.load_ct(options.dataset / f"{case}.nii.gz"), case)
        for mechanism in ("flow", "offset"):
            for side, occupancy, pattern in PLANTS:
                settings = PlantingSettings(side, occupancy, 1, pattern, mechanism=mechanism)
                row = measured(source, settings)
                rows.append({"case": case, **asdict(settings), **row})
                print(
                    f"| {case} | {mechanism} | {side} | {pattern} | {occupancy:.0%} | {row['air_ml']:.0f} "
                    f"| {row['dice']:.2f} | {row['volume_ratio']:.2f} | {row['other_side_ml']:.1f} "
                    f"| {row['hemithorax_before']:.3f} -> {row['hemithorax_after']:.3f} | {row['seconds']:.0f} |",
                    flush=True,
                )
    dice = [row["dice"] for row in rows]
    print(f"\nDice of the air: mean {np.mean(dice):.3f}, lowest {min(dice):.3f} of {len(dice)} plants")
    if options.output is not None:
        write_json_atomic(options.output, {"rows": rows, "environment": run_environment()}, overwrite=True)
    return 0


def measured(source: SourceChest, settings: PlantingSettings) -> dict[str, Any]:
    """One plant: films, reconstruction, fit, drawing, comparison."""
    sick, truth = xrecon.plant_pneumothorax(source.ct, chest=source.chest, **asdict(settings))
    rig = FilmRig.of(unvaried(source), 128)
    sample = film_sample(sick, source.chest, rig, [], truth)
    isocentre = sick.affine[:3, :3] @ rig.middle + sick.affine[:3, 3]
    films = xrecon.simulate(sick, size=224, centre_mm=isocentre, keep_table=True)
    reconstruction = xrecon.reconstruct(*films, size=GRID.shape[0]).volume
    lungs = find_lungs(reconstruction)
    number = SIDES.index(settings.side)
    reconstructed = (lungs.right, lungs.left)
    started = time.perf_counter()
    maps = ThicknessMaps(sample.air, sample.lung, np.ones_like(sample.air), rig.views)
    surfaces = fit_surfaces([PleuralSpace.of(lung, GRID) for lung in reconstructed], maps)
    sick_side, other_side = surfaces[number], surfaces[1 - number]
    assert sick_side is not None
    assert other_side is not None
    painted = paint_side(reconstruction, reconstructed[number], sick_side)[1].air
    seconds = time.perf_counter() - started
    true_air = on_grid(truth, truth.shares.air, isocentre)
    true_hemithorax = true_air + on_grid(truth, truth.shares.lung, isocentre) >= 0.5
    voxel_ml = GRID.spacing_mm**3 / 1000.0
    return {
        "air_ml": float(true_air.sum()) * voxel_ml,
        "dice": dice_of(painted >= 0.5, true_air >= 0.5),
        "volume_ratio": float(painted.sum() / true_air.sum()),
        "other_side_ml": float(other_side.on(GRID).air.sum()) * voxel_ml,
        "hemithorax_before": dice_of(reconstructed[number], true_hemithorax),
        "hemithorax_after": dice_of(sick_side.on(GRID).hemithorax.numpy() >= 0.5, true_hemithorax),
        "seconds": seconds,
    }


def on_grid(truth: Truth, share: NDArray[np.float32], isocentre: NDArray[np.float64]) -> NDArray[np.float32]:
    """A share in the box of a truth, averaged onto the grid of 4 mm round the isocentre."""
    full = np.zeros(truth.labels.shape, dtype=np.float32)
    full[truth.shares.box] = share
    return Volume(full, truth.affine).resampled(GRID.shape, GRID.spacing_mm, centre_mm=isocentre, fill_hu=0.0).hu


def dice_of(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Dice of two masks."""
    return float(2.0 * (a & b).sum() / max(a.sum() + b.sum(), 1))


if __name__ == "__main__":
    raise SystemExit(main())
