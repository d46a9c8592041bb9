"""From a chest CT to its two films and back, and how far off the result is.

    python examples/simulate_and_reconstruct.py CT [SIZE]

CT is a NIfTI file, a DICOM folder or zip, or MHA/NRRD; SIZE is 64 to 256 voxels per edge (default 128).
"""

from __future__ import annotations

import sys

import xrecon
from xrecon.anatomy import framed, without_table


def main(path: str, size: int = 128) -> None:
    """Simulate, reconstruct, compare."""
    ct = xrecon.load_ct(path)
    pa, lateral = xrecon.simulate(ct, size=size)
    result = xrecon.reconstruct(pa, lateral, model="deform", size=size)
    truth = framed(without_table(ct), size)
    metrics = xrecon.image_metrics(true=truth.hu, estimate=result.volume.hu)
    print(result.volume)
    for view, residual in result.residual.items():
        print(f"{view}: residual {residual.before:.1%} before the fit, {residual.after:.1%} after")
    print(f"PSNR {metrics.psnr_2500_db:.2f} dB (volumetric, peak 2500 HU), MAE {metrics.mae_hu:.0f} HU")


if __name__ == "__main__":
    main(sys.argv[1], *(int(v) for v in sys.argv[2:3]))
