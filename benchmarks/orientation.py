"""Landmarks of chest CTs and of copies with flipped voxels: how often `xrecon.anatomy.orientation` warns.

    python benchmarks/orientation.py ../shared/data/ct --planted

Prints one line per CT: the landmarks, and which of the copies (mirrored, upside down, back to front) were warned of.
With --planted a pneumothorax under tension is planted on either side, which must not be warned of.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from xrecon.anatomy.orientation import Landmarks, landmarks, orientation_warnings
from xrecon.errors import InputError
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.volume import Volume, load_ct

FLIPS = {"mirrored": (2, "mirrored"), "upside down": (0, "head and feet"), "back to front": (1, "front and back")}


def flipped(ct: Volume, axis: int) -> Volume:
    """The voxels turned over under an unchanged affine."""
    return replace(ct, hu=np.ascontiguousarray(np.flip(ct.hu, axis)))


def alone(ct: Volume, words: str) -> bool:
    """Whether there is just one warning, with these words."""
    warnings = orientation_warnings(ct)
    return len(warnings) == 1 and words in warnings[0]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of CTs")
    parser.add_argument("--planted", action="store_true", help="also plant air under tension, on both sides")
    arguments = parser.parse_args()
    totals = dict.fromkeys(("false alarms", *FLIPS, "planted", "planted, false alarms"), 0)
    print(
        f"{'case':20} {'spine':>6} {'domes':>6} {'heart':>6} {'aorta':>6} {'liver':>6} {'score':>6} {'s':>5}  warned of"
    )
    for path in sorted(arguments.folder.glob("*.nii.gz")):
        ct = load_ct(path)
        start = time.perf_counter()
        places, warnings = landmarks(ct), orientation_warnings(ct)
        seconds = (time.perf_counter() - start) / 2
        hits = [name for name, (axis, words) in FLIPS.items() if alone(flipped(ct, axis), words)]
        totals["false alarms"] += bool(warnings)
        for name in hits:
            totals[name] += 1
        print(f"{path.name[:20]:20} {_columns(places)} {seconds:5.2f}  {', '.join(hits)} {warnings or ''}", flush=True)
        for side in ("right", "left") if arguments.planted else ():
            try:
                sick, _ = plant_pneumothorax(ct, side=side, occupancy=0.5, seed=0, tension=1.0)
            except InputError as error:
                print(f"  {side}: {str(error)[:90]}")
                continue
            warnings = orientation_warnings(sick)
            totals["planted"] += 1
            totals["planted, false alarms"] += bool(warnings)
            mirrored = alone(flipped(sick, 2), "mirrored")
            print(
                f"  {side:18} {_columns(landmarks(sick))}  {'mirrored' if mirrored else ''} {warnings or ''}",
                flush=True,
            )
    print(totals)


def _columns(places: Landmarks) -> str:
    values = (
        places.spine_behind, places.domes_below_mm, places.heart_left_mm, places.aorta_left_mm, places.liver_right,
        places.left_score,
    )  # fmt: skip
    return " ".join("     -" if value is None else f"{value:6.2f}" for value in values)


if __name__ == "__main__":
    main()
