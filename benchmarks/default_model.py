"""Which model should be the default: the priors or a trained network, on train cases that neither has learned from.

    python benchmarks/default_model.py --dataset chests-64 --cts CTS --network runs/xrecon/model --fold 0

The network was trained without fold 0 of the data set (`data.fold: 0`); the priors are built here from the CTs of the
same patients. Both reconstruct the cases of the fold, healthy and with a planted pneumothorax. No test case is opened.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import xrecon
from xrecon.data.dataset import PreparedCase, PreparedDataset
from xrecon.environment import run_environment
from xrecon.evaluation.metrics.image import image_metrics
from xrecon.films.simulation import simulate
from xrecon.geometry import ConeBeam
from xrecon.inference.models import baseline_names
from xrecon.models.checkpoint import load_information
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.priors.build import build_priors
from xrecon.radiograph import Radiograph
from xrecon.segmentation import Segmentation
from xrecon.volume import Volume, load_ct

OCCUPANCY = 0.4
HERE = Path(__file__).resolve().parent.parent


def main() -> None:
    """Read the arguments, build, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, help="made by `xrecon prepare --folds`, names kept")
    parser.add_argument("--cts", type=Path, default=HERE.parent / "shared" / "data" / "ct", help="their CT files")
    parser.add_argument("--network", type=Path, help="folder of the network")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.dataset is None or given.network is None or not given.cts.is_dir():
        print("skipped: give --dataset, --network and, if they lie elsewhere, --cts")
        return
    data = PreparedDataset(given.dataset)
    fit, held_out = data.fold(given.fold)
    known = load_information(given.network).training_data
    seen = [case.name for case in held_out if case.name in known]
    if seen:
        raise SystemExit(f"the network was trained on {', '.join(seen)} of fold {given.fold}: give its own fold")
    asset = build_priors([(case.name, load_ct(_file(given.cts, case))) for case in fit], progress=print)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        priors = Path(folder) / "fold.safetensors"
        asset.save(priors)
        for case in held_out:
            for model in (*baseline_names(), str(given.network)):
                row = compare(case, model, priors, size=data.size, beams=data.beams)
                print(json.dumps(row), flush=True)
                rows.append(row)
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        means = {key: float(np.mean([row[key] for row in own])) for key in own[0] if key not in ("case", "model")}
        print(model, {key: round(value, 3) for key, value in means.items()})
    if given.json:
        given.json.write_text(json.dumps({"environment": run_environment(), "rows": rows}, indent=1), encoding="utf-8")


def _file(folder: Path, case: PreparedCase) -> Path:
    return next(path for path in sorted(folder.iterdir()) if path.name.split(".")[0] == case.name)


def compare(
    case: PreparedCase, model: str, priors: Path, *, size: int, beams: tuple[ConeBeam, ConeBeam]
) -> dict[str, Any]:
    """Image error on the healthy chest, and what PTX-Seg finds in it and in the planted one."""
    data = case.load()
    truth = data.volume()

    def made(films: tuple[Radiograph, Radiograph]) -> Volume:
        return xrecon.reconstruct(*films, model=model, size=size, assets=priors).volume

    healthy = made(data.films())
    figures = image_metrics(true=truth, estimate=healthy, body=np.asarray(data.body) > 0)
    sick, planted = plant_pneumothorax(truth, side="right", occupancy=OCCUPANCY, seed=0)
    films = simulate(sick, size=size, geometry=beams, keep_table=True, centre_mm=np.zeros(3))
    found = xrecon.segment(made(films))
    return {
        "case": case.name,
        "model": model if model in baseline_names() else "network",
        "mae_body_hu": figures.mae_body_hu,
        "psnr_2500_db": figures.psnr_2500_db,
        "ssim_3d": figures.ssim_3d,
        "false_air_ml": _air_ml(xrecon.segment(healthy), healthy),
        "planted_ml": _air_ml(planted, sick),
        "found_ml": _air_ml(found, healthy),
        "dice": _dice(found, planted),
    }


def _air_ml(labels: Segmentation, volume: Volume) -> float:
    return float(np.count_nonzero(labels.labels == 3)) * volume.voxel_ml


def _dice(found: Segmentation, planted: Segmentation) -> float:
    a, b = found.labels == 3, planted.labels == 3
    return float(2 * np.count_nonzero(a & b) / max(1, np.count_nonzero(a) + np.count_nonzero(b)))


if __name__ == "__main__":
    main()
