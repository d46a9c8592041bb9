"""The chest that the augmentation works on: labels that move with their tissue, and what was not measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from support.augment_fixtures import phantom_case
from xrecon.augmentation.chest import chest_of
from xrecon.augmentation.spatial.affine import AffineSettings, draw_affine
from xrecon.augmentation.spatial.deformation import ChestDeformation
from xrecon.augmentation.spatial.elastic import ElasticSettings, draw_elastic
from xrecon.data.case_file import CaseData
from xrecon.geometry import FRAME_MM
from xrecon.phantoms.thorax import Phantom


@pytest.fixture(scope="module")
def case(phantom64: Phantom) -> CaseData:
    return phantom_case(phantom64)


def test_labels_move_with_their_tissue(case: CaseData) -> None:
    # The CT is made of its own labels, so that after any deformation each label can be read off the HU again.
    painted = np.select([case.sides == 1, case.sides == 2], [1000, 2000], 0).astype(np.int16)
    sides_only = replace(case, ct=painted)
    rng = np.random.default_rng(2)
    deformation, _ = draw_affine(ChestDeformation.none(), AffineSettings(), rng, frame_mm=FRAME_MM)
    deformation, _ = draw_elastic(deformation, ElasticSettings(), rng, frame_mm=FRAME_MM)
    chest = chest_of(sides_only, deformation, size=64, frame_mm=FRAME_MM)
    inside = chest.measured
    assert np.count_nonzero(chest.sides == 1) > 1000
    # Voxels deep in their label or deep outside are exact; at surfaces the values are blends.
    assert (chest.sides[inside & (chest.hu > 1990)] == 2).all()
    assert (chest.sides[inside & (chest.hu < 1)] == 0).all()
    pure = inside & (chest.sides == 1)
    assert np.median(chest.hu[pure]) == pytest.approx(1000, abs=1)
    growth = np.count_nonzero(chest.sides) / np.count_nonzero(case.sides)
    assert growth == pytest.approx(1 / np.linalg.det(deformation.matrix), rel=0.25)


def test_what_lies_beyond_the_cube_counts_as_unmeasured(case: CaseData) -> None:
    shifted = ChestDeformation(np.eye(3), np.array([60.0, 0.0, 0.0]))
    cut = replace(case, scan_box=((0, 50), (0, 64), (4, 64)))
    chest = chest_of(cut, shifted, size=64, frame_mm=FRAME_MM)
    assert not chest.measured[:9].any()
    assert chest.measured[11:59, :, 5:63].all()
    assert not chest.measured[:, :, :4].any()
    assert not chest.measured[61:].any()
    assert (chest.hu[:9] == -1024).all()
