"""How well PTX-Seg finds planted pneumothoraces, what it reports on healthy chests, and how long it takes.

A pneumothorax of a wanted volume is planted in every case and volume bin (side and pattern go round), segmented, and
compared with the exact truth. Planted volumes are kept in a cache folder, because planting takes longer than finding.

    python benchmarks/ptxseg.py --dataset FOLDER --quick
    python benchmarks/ptxseg.py --dataset FOLDER --cases 003 004 --bins 45 600 --lung-model net --out ptxseg.json
    python benchmarks/ptxseg_tables.py ptxseg.json
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

import nibabel
import numpy as np
from numpy.typing import NDArray
from ptxseg_tables import BINS_ML, render

import xrecon
from xrecon.anatomy.healthy_lungs import find_lungs
from xrecon.anatomy.morphology import bounding_box, distance_mm, shrunk
from xrecon.errors import InputError
from xrecon.planting.confounders import plant_bulla, plant_stomach_gas, plant_subcutaneous_emphysema
from xrecon.planting.render import PLEURA_MM
from xrecon.segmentation import Label, Segmentation, Side

TRAIN = ["003", "004", "005", "006", "007", "009", "010", "011", "013", "101", "113", "117", "118", "120"]
PATTERNS = ("supine", "upright", "lateral", "loculated", "apical")
ROUND = (90, 600, 45, 200, 1300)
EXTRA = (5000, 20, 10)
"""Order in which bins, sides and patterns go round from case to case."""
USUAL = (45, 90, 200, 600, 1300)
MAX_OCCUPANCY = 0.85


def planted(
    name: str,
    ct: xrecon.Volume,
    *,
    target_ml: int,
    index: int,
    cache: Path,
    bulla_ml: float | None = None,
    pleura_mm: float = PLEURA_MM,
) -> tuple[xrecon.Volume, xrecon.Segmentation, str] | None:
    """A pneumothorax of about `target_ml`, its truth and its name, from the cache if there; None if it does not fit.

    With `bulla_ml` the lung that collapses holds a bulla of that volume at the wall.
    """
    turn = (ROUND.index(target_ml) - index) % len(ROUND) if target_ml in ROUND else EXTRA.index(target_ml) + index
    pattern = PATTERNS[(2 * index + turn) % len(PATTERNS)]
    side = ("right", "left")[(index + turn + index // 5) % 2]
    path = cache / f"{name}_{target_ml}_{side}_{pattern}.npz"
    if not path.exists():
        chest = find_lungs(ct)
        lung_ml = float((chest.right if side == "right" else chest.left).sum()) * ct.voxel_ml
        occupancy = min(MAX_OCCUPANCY, max(0.01, target_ml / lung_ml))
        try:
            before = ct if bulla_ml is None else plant_bulla(ct, side=side, volume_ml=bulla_ml, seed=index)[0]
            sick, truth = xrecon.plant_pneumothorax(
                before, side=side, occupancy=occupancy, seed=index, pattern=pattern, pleura_mm=pleura_mm, chest=chest
            )
        except InputError as error:
            print(f"{path.stem}: not planted: {error}", flush=True)
            return None
        part = path.with_suffix(f".{os.getpid()}.tmp.npz")
        np.savez_compressed(part, hu=sick.hu.round().astype(np.int16), labels=truth.labels, air_side=truth.air_side)
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
    both = np.concatenate([distance_mm(edge_b, spacing)[edge_a], distance_mm(edge_a, spacing)[edge_b]])
    return float(np.percentile(both, 95)), float(both.mean())


def measure(ct: xrecon.Volume, truth: xrecon.Segmentation, *, lung_model: str) -> dict[str, float]:
    """Segment and compare."""
    start, cpu = time.perf_counter(), time.process_time()
    found = xrecon.segment(ct, lung_model=lung_model)
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    side = Side.RIGHT if truth.volume_ml(Label.AIR, Side.RIGHT) > 0 else Side.LEFT
    air, real = found.labels == Label.AIR, truth.labels == Label.AIR
    hd95, assd = surface_distances(air, real, ct.spacing_mm)

    def occupancy(seg: xrecon.Segmentation) -> float:
        gas, lung = seg.volume_ml(Label.AIR, side), seg.volume_ml(Label(int(side)))
        return 100.0 * gas / max(gas + lung, 1e-9)

    near = distance_mm(real, ct.spacing_mm) <= 10.0
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


def healthy(ct: xrecon.Volume, *, lung_model: str, contours: dict[str, NDArray[np.bool_]]) -> dict[str, Any]:
    """False air in a chest without a pneumothorax, and its lungs against the contours: "lungs", "right", "left"."""
    start = time.perf_counter()
    found = xrecon.segment(ct, lung_model=lung_model)
    seconds = time.perf_counter() - start
    kinds = [(one["kind"], one["volume_ml"]) for one in found.findings["components"]]
    own = {"lungs": found.labels > 0, "right": (found.labels == 1) | (found.air_side == 1)}
    own["left"] = own["lungs"] & ~own["right"]
    return {
        "false_air_ml": found.volume_ml(Label.AIR),
        "components": kinds,
        "contours": {name: dice(own[name], mask) for name, mask in contours.items()},
        "flags": found.findings["flags"],
        "wall_s": seconds,
    }


def reference_contours(name: str, ct: xrecon.Volume, folder: Path) -> dict[str, NDArray[np.bool_]]:
    """Manual contours of both lungs, or lobes by TotalSegmentator (10, 11 left, 12 to 14 right), where any are."""
    found: dict[str, NDArray[np.bool_]] = {}
    for suffix, numbers in (("lungs", {"lungs": (1,)}), ("totalseg118", {"right": (12, 13, 14), "left": (10, 11)})):
        file = folder / f"case_{name}_{suffix}.nii.gz"
        if not file.is_file():
            continue
        image = nibabel.load(file)
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
        values = np.asarray(image.dataobj).astype(np.float32)
        for label, wanted in numbers.items():
            mask = xrecon.Volume(np.isin(values, wanted).astype(np.float32), affine).canonical()
            if mask.shape == ct.shape:
                found[label] = mask.hu > 0.5
    return found


def confounders(ct: xrecon.Volume, *, index: int, lung_model: str, before_ml: float) -> dict[str, dict[str, Any]]:
    """What is found where there is air, but no pneumothorax: all of it should be 0 mL."""
    side = ("right", "left")[index % 2]
    planters = {
        "bulla": lambda: plant_bulla(ct, side=side, volume_ml=60.0, seed=index),
        "subcutaneous": lambda: plant_subcutaneous_emphysema(ct, side=side, seed=index),
        "stomach": lambda: plant_stomach_gas(ct, seed=index),
    }
    results: dict[str, dict[str, Any]] = {}
    for name, plant in planters.items():
        try:
            sick, mask = plant()
        except InputError as error:
            print(f"{name}: not planted: {error}")
            continue
        found = xrecon.segment(sick, lung_model=lung_model)
        kinds = [(one["kind"], one["volume_ml"]) for one in found.findings["components"]]
        false_ml = found.volume_ml(Label.AIR) - before_ml
        results[name] = {"planted_ml": float(mask.sum()) * ct.voxel_ml, "false_air_ml": false_ml, "components": kinds}
        print(
            f"  {name}: planted {results[name]['planted_ml']:.0f} mL, false air {false_ml:.1f} mL, {kinds[:3]}",
            flush=True,
        )
    return results


def chest_parser(description: str | None) -> argparse.ArgumentParser:
    """Arguments of every script that plants in the chest CTs."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=Path("../shared/data/ct"), help="folder of case_XXX.nii.gz")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "xrecon-ptxseg-benchmark")
    return parser


def has_chests(folder: Path) -> bool:
    """Whether there is anything to measure; says so if not."""
    if not folder.is_dir():
        print(f"skipped: no CTs at {folder}; give --dataset FOLDER")
    return folder.is_dir()


def main() -> None:
    """Plant, segment, compare, print and write."""
    parser = chest_parser(__doc__)
    parser.add_argument("--masks", type=Path, help="folder of reference contours; default: masks beside --dataset")
    parser.add_argument("--cases", nargs="+", default=TRAIN)
    parser.add_argument("--bins", nargs="*", type=int, default=list(USUAL), choices=list(BINS_ML))
    parser.add_argument("--lung-model", default="auto")
    parser.add_argument("--slices", type=float, help="resample to this distance of slices, mm, before anything else")
    parser.add_argument("--finer", type=int, default=1, help="resample to pixels of this part of their size")
    parser.add_argument("--beside-bulla", type=float, metavar="ML", help="first plant a bulla in the same lung")
    parser.add_argument("--quick", action="store_true", help="two cases and two bins")
    parser.add_argument("--confounders", action="store_true", help="also plant bullae, stomach gas, skin emphysema")
    parser.add_argument("--cached-only", action="store_true", help="only what is planted already")
    parser.add_argument("--plant-only", action="store_true", help="fill the cache and measure nothing")
    parser.add_argument("--out", type=Path, help="JSON with every row")
    arguments = parser.parse_args()
    if not has_chests(arguments.dataset):
        return
    if arguments.quick:
        arguments.cases, arguments.bins = arguments.cases[:2], [90, 600]
    if arguments.slices or arguments.finer > 1:
        arguments.cache = arguments.cache / f"slices-{arguments.slices}-finer-{arguments.finer}"
    if arguments.beside_bulla:
        arguments.cache = arguments.cache / f"bulla-{arguments.beside_bulla:g}"
    arguments.cache.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"lung_model": arguments.lung_model, "planted": [], "healthy": {}}
    for name in arguments.cases:
        one_case(name, arguments, document)
        if arguments.out:
            arguments.out.write_text(json.dumps(document, indent=1), encoding="utf-8")
    if not arguments.plant_only:
        print(render(document))


def regridded(ct: xrecon.Volume, slices_mm: float | None, finer: int) -> xrecon.Volume:
    """The CT on slices `slices_mm` apart, pixels of 1 / `finer` of their size, whole HU; itself for None and 1."""
    if slices_mm is None and finer == 1:
        return ct
    d, h, w = ct.shape
    slice_mm, row_mm, column_mm = ct.spacing_mm
    distance = slices_mm or slice_mm
    shape = (int(d * slice_mm / distance), finer * h, finer * w)
    made = ct.resampled(shape, (distance, row_mm / finer, column_mm / finer))
    return made.with_hu(made.hu.round())


def one_case(name: str, arguments: argparse.Namespace, document: dict[str, Any]) -> None:
    """Everything that is measured on one CT, into `document`."""
    ct = regridded(xrecon.load_ct(arguments.dataset / f"case_{name}.nii.gz"), arguments.slices, arguments.finer)
    index = TRAIN.index(name) if name in TRAIN else sum(map(ord, name))
    model = arguments.lung_model
    if not arguments.plant_only:
        masks = arguments.masks or arguments.dataset.parent / "masks"
        found = healthy(ct, lung_model=model, contours=reference_contours(name, ct, masks))
        print(f"{name} healthy: false air {found['false_air_ml']:.1f} mL, {found['contours']}", flush=True)
        if arguments.confounders:
            found["confounders"] = confounders(ct, index=index, lung_model=model, before_ml=found["false_air_ml"])
        document["healthy"][name] = found
    for target in arguments.bins:
        if arguments.cached_only and not any(arguments.cache.glob(f"{name}_{target}_*.npz")):
            continue
        sick = planted(name, ct, target_ml=target, index=index, cache=arguments.cache, bulla_ml=arguments.beside_bulla)
        if sick is None or arguments.plant_only:
            continue
        row = measure(sick[0], sick[1], lung_model=model)
        document["planted"].append({"case": name, "target_ml": target, "planted": sick[2], **row})
        print(
            f"{sick[2]}: {row['true_ml']:.0f} mL, air Dice {row['dice']:.3f}, lung {row['lung_dice']:.3f}, "
            f"occupancy {row['occupancy']:.1f} % {row['occupancy_error_pp']:+.2f} pp, {row['wall_s']:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
