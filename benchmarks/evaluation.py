"""Time and memory of all image metrics of one pair of volumes, by size: the artificial thorax and a blurred copy of it.

python benchmarks/evaluation.py
python benchmarks/evaluation.py --sizes 128 224 --repeats 5 --output build/evaluation.json
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from xrecon.anatomy.body import body_mask
from xrecon.environment import run_environment
from xrecon.errors import XReconError
from xrecon.evaluation.metrics.catalogue import full_metrics
from xrecon.films.simulation import simulate
from xrecon.geometry import FRAME_MM
from xrecon.io.output.atomic import write_json_atomic
from xrecon.phantoms.thorax import thorax_phantom

BLUR_VOXELS = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=(64, 128, 224), help="voxels per edge")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=None, help="JSON file to write")
    options = parser.parse_args(arguments)
    rows = []
    print(f"{'size':>5} {'metrics':>8} {'first, s':>9} {'later, s (processor time)':>32} {'peak GB':>8}")
    for size in options.sizes:
        row = measure(size, options.repeats)
        rows.append(row)
        later = " ".join(f"{wall:.1f} ({busy:.1f})" for wall, busy in row["later_s"])
        print(f"{size:>5} {row['metrics']:>8} {row['first_s']:>9.1f} {later:>32} {row['peak_gb']:>8.2f}", flush=True)
    if options.output is not None:
        try:
            values = {"benchmark": "evaluation", "rows": rows, "environment": run_environment()}
            write_json_atomic(options.output, values, overwrite=True)
        except XReconError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
    return 0


def measure(size: int, repeats: int) -> dict[str, Any]:
    """All metrics of one pair, `repeats` times after a first; peak memory is that of the process so far."""
    truth = thorax_phantom(size, FRAME_MM / size).volume
    estimate = truth.with_hu(np.asarray(ndimage.gaussian_filter(truth.hu, BLUR_VOXELS), dtype=np.float32))
    body = body_mask(truth)
    pa, lateral = simulate(truth, size=size)
    seconds = []
    for _ in range(repeats + 1):
        wall, busy = time.perf_counter(), time.process_time()
        found = full_metrics(estimate, truth, body=body, beams=(pa.geometry, lateral.geometry))
        seconds.append((round(time.perf_counter() - wall, 2), round(time.process_time() - busy, 2)))
    unit = 1 if sys.platform == "darwin" else 1024
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    return {"size": size, "metrics": len(found), "first_s": seconds[0][0], "later_s": seconds[1:], "peak_gb": peak_gb}


if __name__ == "__main__":
    sys.exit(main())
