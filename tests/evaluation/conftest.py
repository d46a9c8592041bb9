"""A prepared data set of artificial chests, small enough to run whole studies on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.dataset_factory import write_dataset
from xrecon.anatomy.body import body_mask, without_table
from xrecon.anatomy.healthy_lungs import split_lungs
from xrecon.data.case_file import CaseData
from xrecon.films.simulation import film_pair, simulate
from xrecon.phantoms.parameters import ThoraxParameters
from xrecon.phantoms.thorax import thorax_phantom
from xrecon.volume import Volume

SIZE = 64


def chest_case(parameters: ThoraxParameters) -> CaseData:
    """An artificial chest as `xrecon prepare` would store it."""
    phantom = thorax_phantom(SIZE, 384 / SIZE, parameters=parameters)
    volume = Volume.centred(phantom.volume.hu, (384 / SIZE,) * 3, synthetic=True)
    mask = body_mask(volume)
    clean = without_table(volume, mask=mask)
    beams = film_pair("chest", size=SIZE)
    pa, lateral = simulate(clean, size=SIZE, keep_table=True, centre_mm=np.zeros(3))
    right, left = split_lungs(clean)
    return CaseData(
        ct=np.clip(np.rint(clean.hu), -1024, 3071).astype(np.int16),
        pa=np.array(pa.image),
        lateral=np.array(lateral.image),
        sides=(right + 2 * left.astype(np.uint8)).astype(np.uint8),
        air=np.zeros(mask.shape, np.uint8),
        body=mask.astype(np.uint8),
        affine=volume.affine,
        scan_box=((0, SIZE), (0, SIZE), (0, SIZE)),
        beams=beams,
    )


@pytest.fixture(scope="session")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two test cases of two patients, and one train case."""
    sizes = (285.0, 300.0, 270.0)
    cases = [chest_case(ThoraxParameters(chest_width_mm=width, seed=i)) for i, width in enumerate(sizes)]
    folder = tmp_path_factory.mktemp("chests")
    return write_dataset(folder, {"one": "test", "two": "test", "three": "train"}, cases=cases)
