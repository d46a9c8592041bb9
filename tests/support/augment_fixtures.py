"""A prepared case of the standard phantom, without `xrecon prepare`."""

from __future__ import annotations

import numpy as np

from xrecon.anatomy.body import body_mask, without_table
from xrecon.data.case_file import CaseData
from xrecon.films.simulation import film_pair, simulate
from xrecon.phantoms.thorax import Phantom


def phantom_case(phantom: Phantom) -> CaseData:
    """The phantom with its true lungs, and films of it without the table."""
    bare = without_table(phantom.volume)
    size = bare.shape[0]
    beams = film_pair("chest", size=size)
    pa, lateral = simulate(bare, geometry=beams, keep_table=True, centre_mm=np.zeros(3))
    return CaseData(
        ct=np.clip(np.rint(bare.hu), -1024, 3071).astype(np.int16),
        pa=np.array(pa.image),
        lateral=np.array(lateral.image),
        sides=np.where((phantom.labels == 1) | (phantom.labels == 2), phantom.labels, np.uint8(0)).astype(np.uint8),
        air=np.zeros(bare.shape, dtype=np.uint8),
        body=body_mask(phantom.volume).astype(np.uint8),
        affine=np.array(bare.affine),
        scan_box=((0, size), (0, size), (0, size)),
        beams=beams,
    )
