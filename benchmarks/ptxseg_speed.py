"""Time and memory of PTX-Seg by size of the CT: `xrecon.segment` in one process, and the whole command with its files.

Processes read the packages' byte code from its cache, as Python does unless PYTHONDONTWRITEBYTECODE forbids to write it
(then every process compiles torch anew, which takes two seconds). A run before the first that counts fills the cache.

The CTs are one chest, resampled; its file is written once per size into a temporary folder. Without --ct the standard
phantom is used, which has no vessels and noise: give a real chest for figures that mean something.

    python benchmarks/ptxseg_speed.py --ct ../shared/data/ct/case_002.nii.gz
    python benchmarks/ptxseg_speed.py --ct case_002.nii.gz --shapes 300x512x512 --repeats 5 --output build/speed.json
    xrecon plant case_002.nii.gz --side left --occupancy 0.85 -o sick
    python benchmarks/ptxseg_speed.py --ct sick/ct.nii.gz
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xrecon
from xrecon.environment import run_environment
from xrecon.errors import XReconError
from xrecon.io.output.atomic import write_json_atomic
from xrecon.phantoms.thorax import thorax_phantom

SHAPES = ("224x224x224", "300x512x512")
PHANTOM_SIZE = 128


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print a table, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ct", type=Path, default=None, help="chest CT; default: the phantom")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), help="voxels D x H x W")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=None, help="JSON file to write")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure is not None:
        print(json.dumps(measure(options.measure, options.repeats)))
        return
    if options.ct is None:
        source = thorax_phantom(PHANTOM_SIZE, 384.0 / PHANTOM_SIZE).volume
        print("no --ct: the phantom, whose figures are those of an easy chest")
    else:
        try:
            source = xrecon.load_ct(options.ct)
        except XReconError as error:
            raise SystemExit(str(error)) from error
    rows = []
    print(f"{'voxels':<14} {'first, s':>9} {'later, s (each)':>24} {'peak GB':>8} {'command, s (each)':>24}")
    with tempfile.TemporaryDirectory() as folder:
        for text in options.shapes:
            row = one_size(source, text, Path(folder), options.repeats)
            rows.append(row)
            later, command = (" ".join(f"{s:.1f}" for s in row[key]) for key in ("later_s", "command_s"))
            print(f"{text:<14} {row['first_s']:>9.1f} {later:>24} {row['peak_gb']:>8.2f} {command:>24}", flush=True)
    if options.output is not None:
        values = {"benchmark": "ptxseg_speed", "rows": rows, "environment": run_environment()}
        write_json_atomic(options.output, values, overwrite=True)


def one_size(source: xrecon.Volume, text: str, folder: Path, repeats: int) -> dict[str, Any]:
    """All figures of one size, each in processes of its own."""
    shape = tuple(int(n) for n in text.split("x"))
    if len(shape) != 3 or min(shape) < 32:
        raise SystemExit(f"--shapes {text!r}: expected D x H x W, such as 300x512x512")
    edges = [n * mm for n, mm in zip(source.shape, source.spacing_mm, strict=True)]
    pitches = [edge / n for edge, n in zip(edges, shape, strict=True)]
    file = folder / f"{text}.nii.gz"
    made = source.resampled((shape[0], shape[1], shape[2]), (pitches[0], pitches[1], pitches[2]))
    made.with_hu(made.hu.round()).save(file)
    del made
    command_s(file, folder / f"{text}-first")
    arguments = [sys.executable, __file__, "--measure", file, "--repeats", str(repeats)]
    done = subprocess.run(arguments, capture_output=True, env=environment())
    if done.returncode != 0:
        raise SystemExit(done.stderr.decode(errors="replace"))
    row: dict[str, Any] = {"shape": text, **json.loads(done.stdout)}
    row["command_s"] = [command_s(file, folder / f"{text}-{n}") for n in range(repeats)]
    return row


def environment() -> dict[str, str]:
    """That of this process, with byte code cached."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def measure(file: str, repeats: int) -> dict[str, Any]:
    """Seconds of `xrecon.segment` in this process, the first by itself (it compiles and loads), and peak memory."""
    ct = xrecon.load_ct(file)
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        xrecon.segment(ct)
        seconds.append(round(time.perf_counter() - start, 2))
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"first_s": seconds[0], "later_s": seconds[1:], "peak_gb": round(peak_gb, 2)}


def command_s(file: Path, folder: Path) -> float:
    """Seconds of `xrecon segment`, reading and writing included."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "xrecon", "segment", file, "-o", folder, "--quiet"],
        stdout=subprocess.DEVNULL,
        env=environment(),
        check=True,
    )
    return round(time.perf_counter() - start, 2)


if __name__ == "__main__":
    main()
