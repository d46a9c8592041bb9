"""Time and size of the anatomies of a film library: one anatomy of each train CT, on one thread.

python benchmarks/film_library.py --output build/film-library.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from xrecon.augmentation.lung_shapes import LungShapes
from xrecon.augmentation.varied_chest import source_chest, varied_chest
from xrecon.config import load_config
from xrecon.data.split import Split, cases_in
from xrecon.environment import run_environment
from xrecon.io.output.atomic import write_json_atomic
from xrecon.preparation.film_library.library_settings import FilmLibrarySettings
from xrecon.preparation.film_library.produce import produce_anatomy
from xrecon.volume import load_ct


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=Path("../shared/data/ct"), help="folder of CTs")
    parser.add_argument("--shapes", type=Path, default=Path("../shared/data/shapes"), help="folder of lung shapes")
    parser.add_argument("--split", type=Path, default=Path("configs/splits/shared-data.yaml"))
    parser.add_argument("--output", type=Path, default=None, help="JSON file to write")
    options = parser.parse_args(arguments)
    if not options.dataset.is_dir() or not options.shapes.is_dir():
        print(f"skipped: no CTs at {options.dataset} or no shapes at {options.shapes}; give --dataset and --shapes")
        return 0
    torch.set_num_threads(1)
    shapes, rows = LungShapes.load(options.shapes), []
    print("| case | read s | deform s | anatomy s | MB | lungs mL | least Jacobian |\n|---|--:|--:|--:|--:|--:|--:|")
    for number, (case, path) in enumerate(cases_in(options.dataset, load_config(Split, options.split), "train")):
        marks = [time.process_time()]
        source = source_chest(load_ct(path), case)
        marks.append(time.process_time())
        varied = varied_chest(source, shapes, seed=(0, number, 0))
        marks.append(time.process_time())
        content = produce_anatomy(source, shapes, FilmLibrarySettings(), number=number)
        marks.append(time.process_time())
        read, deform, anatomy = np.diff(marks).round(2).tolist()
        lungs_ml = float((varied.chest.right | varied.chest.left).sum()) * varied.ct.voxel_ml
        row = {
            "case": case,
            "read_s": read,
            "deform_s": deform,
            "anatomy_s": anatomy,
            "mb": len(content) / 1e6,
            "lungs_ml": lungs_ml,
            "least_jacobian": varied.parameters["least_jacobian"],
        }
        rows.append(row)
        figures = f"{read:.1f} | {deform:.1f} | {anatomy:.1f} | {row['mb']:.1f}"
        print(f"| {case} | {figures} | {lungs_ml:.0f} | {row['least_jacobian']} |", flush=True)
    for key in ("read_s", "deform_s", "anatomy_s", "mb", "lungs_ml"):
        values = [float(row[key]) for row in rows]
        print(f"{key}: mean {np.mean(values):.1f}, {min(values):.1f} to {max(values):.1f}")
    if options.output is not None:
        write_json_atomic(options.output, {"rows": rows, "environment": run_environment()}, overwrite=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
