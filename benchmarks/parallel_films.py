"""What the cone beam and the tissue beside the frame cost: test cases from parallel films of the frame alone.

Quick studies (and most papers) project the cropped cube that they then reconstruct, in parallel beam. `xrecon evaluate`
projects the whole scan in cone beam. This script runs the easier setting with the same models and metrics.

    python benchmarks/parallel_films.py --dataset FOLDER --split configs/splits/shared-data.yaml
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import xrecon
from xrecon.config import load_config
from xrecon.data.split import Split, cases_in
from xrecon.evaluation.cases import prepare_case
from xrecon.evaluation.metrics.image import image_metrics
from xrecon.geometry import FRAME_MM, ConeBeam

SIZE, PIXELS = 64, 128
FAR_MM = 1e6  # a source a kilometre away: rays are parallel to a thousandth of a voxel


def parallel(angle_deg: float) -> ConeBeam:
    """A film of the frame by all but parallel rays."""
    pixel = FRAME_MM / PIXELS * (FAR_MM + 260.0) / FAR_MM
    return ConeBeam(FAR_MM, FAR_MM + 260.0, (PIXELS, PIXELS), (pixel, pixel), angle_deg=angle_deg, name="parallel")


def main() -> None:
    """Evaluate and print one line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=Path("../shared/data/ct"))
    parser.add_argument("--split", type=Path, default=Path("configs/splits/shared-data.yaml"))
    arguments = parser.parse_args()
    if not arguments.dataset.is_dir():
        print(f"skipped: no CTs at {arguments.dataset}; give --dataset FOLDER")
        return
    split = load_config(Split, arguments.split)
    by_model: dict[str, list[tuple[float, float, float]]] = {"atlas": [], "pca": [], "deform": []}
    for name, path in cases_in(arguments.dataset, split, "test"):
        case = prepare_case(name, xrecon.load_ct(path), size=SIZE)
        views = (parallel(0.0), parallel(90.0))
        films = xrecon.simulate(case.truth, geometry=views, keep_table=True, centre_mm=np.zeros(3))
        for model, rows in by_model.items():
            result = xrecon.reconstruct(*films, model=model, size=SIZE)
            metrics = image_metrics(true=case.truth, estimate=result.volume, body=case.body)
            rows.append((metrics.psnr_2500_db, metrics.mae_body_hu or float("nan"), metrics.ssim_3d))
    for model, rows in by_model.items():
        psnr, mae, ssim = np.mean(rows, axis=0)
        print(f"{model}: PSNR {psnr:.2f} dB, MAE in the body {mae:.1f} HU, SSIM {ssim:.3f} ({len(rows)} cases)")


if __name__ == "__main__":
    main()
