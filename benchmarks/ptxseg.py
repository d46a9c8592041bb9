"""How well PTX-Seg finds planted pneumothoraces, what it reports on healthy chests, and how long it takes.

A pneumothorax of a wanted volume is planted in every case and volume bin (side and pattern go round), segmented, and
compared with the exact truth. Planted volumes are kept in a cache folder, because planting takes longer than finding.

    python benchmarks/ptxseg.py --dataset FOLDER --quick
    python benchmarks/ptxseg.py --dataset FOLDER --cases 003 004 --bins 45 600 --out ptxseg.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xrecon
from xrecon.data.lungs import split_lungs
from xrecon.data.plant_confounders import plant_bulla, plant_stomach_gas, plant_subcutaneous_emphysema
from xrecon.errors import InputError
from xrecon.ptxseg.morphology import bounding_box, distance_to, shrunk
from xrecon.segmentation import Label, Segmentation, Side

TRAIN = ["003", "004", "005", "006", "007", "009", "010", "011", "013", "101", "113", "117", "118", "120"]
BINS_ML = {45: (30, 60), 90: (60, 120), 200: (120, 300), 600: (300, 1000), 1300: (1000, 100000)}
TARGET_DICE = {45: 0.80, 90: 0.88, 200: 0.93, 600: 0.95, 1300: 0.96}
PATTERNS = ("supine", "upright", "lateral", "loculated", "apical")
ROUND = (90, 600, 45, 200, 1300)
"""Order in which bins, sides and patterns go round from case to case."""
MAX_OCCUPANCY = 0.85
TEXT = ("case", "planted")


def planted(
    name: str, ct: xrecon.Volume, *, target_ml: int, index: int, cache: Path
) -> tuple[xrecon.Volume, xrecon.Segmentation, str] | None:
    """A pneumothorax of about `target_ml`, its truth and its name, from the cache if there; None if it does not fit."""
    turn = (ROUND.index(target_ml) - index) % len(ROUND)
    pattern = PATTERNS[(2 * index + turn) % len(PATTERNS)]
    side = ("right", "left")[(index + turn + index // 5) % 2]
    path = cache / f"{name}_{target_ml}_{side}_{pattern}.npz"
    if not path.exists():
        right, left = split_lungs(ct)
        lung_ml = float((right if side == "right" else left).sum()) * ct.voxel_ml
        occupancy = min(MAX_OCCUPANCY, target_ml / lung_ml)
        try:
            sick, truth = xrecon.plant_pneumothorax(ct, side=side, occupancy=occupancy, seed=index, pattern=pattern)
        except InputError as error:
            print(f"{path.stem}: not planted: {error}")
            return None
        part = path.with_suffix(f".{os.getpid()}.tmp.npz")
        np.savez(part, hu=sick.hu.round().astype(np.int16), labels=truth.labels, air_side=truth.air_side)
        part.replace(path)
    try:
        stored = np.load(path)
        hu, labels, air_side = stored["hu"], stored["labels"], stored["air_side"]
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise SystemExit(f"{path} is damaged ({error}); delete it and run again") from error
    return ct.with_hu(hu.astype(np.float32)), Segmentation(labels, air_side, ct.affine), path.stem


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """2 |A and B| / (|A| + |B|); 1 if both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2.0 * float((first & second).sum()) / total if total else 1.0


def surface_distances(
    first: NDArray[np.bool_], second: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> tuple[float, float]:
    """HD95 and mean symmetric surface distance, mm; nan if either is empty."""
    if not (first.any() and second.any()):
        return float("nan"), float("nan")
    box = bounding_box(first | second, margin=1)
    assert box is not None
    a, b = first[box], second[box]
    edge_a, edge_b = a & ~shrunk(a), b & ~shrunk(b)
    both = np.concatenate([distance_to(edge_b, spacing)[edge_a], distance_to(edge_a, spacing)[edge_b]])
    return float(np.percentile(both, 95)), float(both.mean())


def measure(ct: xrecon.Volume, truth: xrecon.Segmentation) -> dict[str, float]:
    """Segment and compare."""
    start, cpu = time.perf_counter(), time.process_time()
    found = xrecon.segment(ct)
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    side = Side.RIGHT if truth.volume_ml(Label.AIR, Side.RIGHT) > 0 else Side.LEFT
    air, real = found.labels == Label.AIR, truth.labels == Label.AIR
    hd95, assd = surface_distances(air, real, ct.spacing_mm)

    def occupancy(seg: xrecon.Segmentation) -> float:
        gas, lung = seg.volume_ml(Label.AIR, side), seg.volume_ml(Label(int(side)))
        return 100.0 * gas / max(gas + lung, 1e-9)

    near = distance_to(real, ct.spacing_mm) <= 10.0
    return {
        "true_ml": truth.volume_ml(Label.AIR),
        "found_ml": found.volume_ml(Label.AIR),
        "dice": dice(air, real),
        "hd95_mm": hd95,
        "assd_mm": assd,
        "occupancy": occupancy(truth),
        "occupancy_error_pp": occupancy(found) - occupancy(truth),
        "lung_dice": dice(found.labels == side, truth.labels == side),
        "other_lung_dice": dice(found.labels == 3 - side, truth.labels == 3 - side),
        "false_air_ml": float((air & ~near).sum()) * ct.voxel_ml,
        "side_right": float((found.air_side[air] == side).mean()) if air.any() else float("nan"),
        "wall_s": wall_s,
        "cpu_s": cpu_s,
    }


def healthy(ct: xrecon.Volume) -> dict[str, Any]:
    """False air in a chest without a pneumothorax."""
    start = time.perf_counter()
    found = xrecon.segment(ct)
    seconds = time.perf_counter() - start
    kinds = [(one["kind"], one["volume_ml"]) for one in found.findings["components"]]
    return {"false_air_ml": found.volume_ml(Label.AIR), "components": kinds, "wall_s": seconds}


def confounders(ct: xrecon.Volume, *, index: int) -> dict[str, dict[str, Any]]:
    """What is found where there is air, but no pneumothorax: all of it should be 0 mL."""
    side = ("right", "left")[index % 2]
    planters = {
        "bulla": lambda: plant_bulla(ct, side=side, volume_ml=60.0, seed=index),
        "subcutaneous": lambda: plant_subcutaneous_emphysema(ct, side=side, seed=index),
        "stomach": lambda: plant_stomach_gas(ct, seed=index),
    }
    before = xrecon.segment(ct).volume_ml(Label.AIR)
    results: dict[str, dict[str, Any]] = {}
    for name, plant in planters.items():
        try:
            sick, mask = plant()
        except InputError as error:
            print(f"{name}: not planted: {error}")
            continue
        found = xrecon.segment(sick)
        kinds = [(one["kind"], one["volume_ml"]) for one in found.findings["components"]]
        false_ml = found.volume_ml(Label.AIR) - before
        results[name] = {"planted_ml": float(mask.sum()) * ct.voxel_ml, "false_air_ml": false_ml, "components": kinds}
        print(
            f"  {name}: planted {results[name]['planted_ml']:.0f} mL, false air {false_ml:.1f} mL, {kinds[:3]}",
            flush=True,
        )
    return results


def table(rows: list[dict[str, Any]]) -> str:
    """Per bin: number, median and lowest air Dice against the target, distances, errors."""
    head = (
        "bin mL",
        "n",
        "air Dice mean (min)",
        "target",
        "HD95 mm",
        "ASSD mm",
        "volume error",
        "occupancy error pp, median (max)",
        "within 1 pp",
        "lung Dice",
        "false air mL, max",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for target, (low, high) in BINS_ML.items():
        part = [row for row in rows if row["target_ml"] == target]
        if not part:
            continue
        columns = {key: np.array([row[key] for row in part], dtype=np.float64) for key in part[0] if key not in TEXT}
        get = columns.__getitem__
        error = np.abs(get("occupancy_error_pp"))
        volume = 100.0 * (get("found_ml") / get("true_ml") - 1.0)
        lines.append(
            f"| {low}-{high if high < 1e4 else ''} | {len(part)} | {get('dice').mean():.3f} ({get('dice').min():.3f}) "
            f"| {TARGET_DICE[target]:.2f} | {np.nanmean(get('hd95_mm')):.1f} | {np.nanmean(get('assd_mm')):.2f} "
            f"| {volume.mean():+.1f} % | {np.median(error):.2f} ({error.max():.2f}) | {(error <= 1.0).mean():.0%} "
            f"| {get('lung_dice').mean():.3f} | {get('false_air_ml').max():.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Plant, segment, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=Path("../shared/data/ct"), help="folder of case_XXX.nii.gz")
    parser.add_argument("--cases", nargs="+", default=TRAIN)
    parser.add_argument("--bins", nargs="+", type=int, default=list(BINS_ML), choices=list(BINS_ML))
    parser.add_argument("--quick", action="store_true", help="two cases and two bins")
    parser.add_argument("--confounders", action="store_true", help="also plant bullae, stomach gas, skin emphysema")
    parser.add_argument("--cached-only", action="store_true", help="only what is planted already")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "xrecon-ptxseg-benchmark")
    parser.add_argument("--out", type=Path, help="JSON with every row")
    arguments = parser.parse_args()
    if not arguments.dataset.is_dir():
        print(f"skipped: no CTs at {arguments.dataset}; give --dataset FOLDER")
        return
    cases, bins = (arguments.cases[:2], [90, 600]) if arguments.quick else (arguments.cases, arguments.bins)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    false_air: dict[str, dict[str, Any]] = {}
    for name in cases:
        ct = xrecon.load_ct(arguments.dataset / f"case_{name}.nii.gz")
        false_air[name] = healthy(ct)
        print(f"{name} healthy: false air {false_air[name]['false_air_ml']:.1f} mL", flush=True)
        index = TRAIN.index(name) if name in TRAIN else sum(map(ord, name))
        if arguments.confounders:
            false_air[name]["confounders"] = confounders(ct, index=index)
        for target in bins:
            if arguments.cached_only and not any(arguments.cache.glob(f"{name}_{target}_*.npz")):
                continue
            found = planted(name, ct, target_ml=target, index=index, cache=arguments.cache)
            if found is None:
                continue
            row = measure(found[0], found[1])
            rows.append({"case": name, "target_ml": target, "planted": found[2], **row})
            print(
                f"{found[2]}: {row['true_ml']:.0f} mL, air Dice {row['dice']:.3f}, lung {row['lung_dice']:.3f}, "
                f"occupancy {row['occupancy']:.1f} % {row['occupancy_error_pp']:+.2f} pp, {row['wall_s']:.1f} s",
                flush=True,
            )
    print(table(rows))
    amounts = [one["false_air_ml"] for one in false_air.values()]
    print(f"healthy: median false air {np.median(amounts):.1f} mL, largest {max(amounts):.1f} mL, n={len(amounts)}")
    if arguments.out:
        arguments.out.write_text(json.dumps({"planted": rows, "healthy": false_air}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
