"""Where one candidate is two: shapes of known parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xrecon.anatomy.morphology import Mask, components
from xrecon.ptxseg import judge
from xrecon.ptxseg.candidates.necks import parts_behind_necks
from xrecon.ptxseg.candidates.side_air import judged_parts
from xrecon.ptxseg.levels import AirLevels

SHAPE = (44, 44, 72)
D, H, W = np.indices(SHAPE)
SPACING = (2.0, 2.0, 2.0)
LEVELS = AirLevels(-985.0, 10.0, -820.0)


def ball(radius: float, w: int) -> Mask:
    return np.asarray((D - 22) ** 2 + (H - 22) ** 2 + (W - w) ** 2 <= radius**2)


def scan(air: Mask, seed: int = 0) -> np.ndarray:
    hu = np.where(air, LEVELS.air_hu, LEVELS.lung_hu).astype(np.float32)
    return hu + np.random.default_rng(seed).normal(0.0, 10.0, SHAPE).astype(np.float32)


def test_a_sheet_that_is_less_than_half_of_every_voxel_parts_two_bubbles() -> None:
    air = ball(12, 22) | ball(12, 43)
    hu = scan(air)
    sheet = air & (np.abs(W - 32.5) < 1.0)
    hu[sheet] = -780.0
    assert components(air)[1].size == 1
    parts = parts_behind_necks(air, hu, LEVELS, SPACING)
    assert len(parts) == 2
    assert not (parts[0] & parts[1]).any() and (parts[0] | parts[1])[air].all()
    sizes = sorted(int((part & (W < 33)).sum()) / int((part).sum()) for part in parts)
    assert sizes[0] < 0.02 and sizes[1] > 0.98


@pytest.mark.parametrize(("radius", "count"), [(1.2, 2), (5.0, 0)])
def test_bubbles_part_at_a_leak_and_not_at_a_broad_passage(radius: float, count: int) -> None:
    passage = (np.hypot(D - 22, H - 22) <= radius) & (W > 16) & (W < 56)
    air = ball(10, 18) | ball(10, 54) | passage
    assert len(parts_behind_necks(air, scan(air), LEVELS, SPACING)) == count


@pytest.mark.parametrize("thickness", [3, 8, 14])
def test_a_layer_with_a_few_bright_voxels_is_one(thickness: int) -> None:
    air = (np.abs(D - 4.5 - thickness / 2) < thickness / 2) & (H > 3) & (H < 40) & (W > 3) & (W < 68)
    hu = scan(air)
    places = np.random.default_rng(1).integers(0, SHAPE, (12, 3))
    hu[tuple(places.T)] = -700.0
    assert parts_behind_necks(air, hu, LEVELS, SPACING) == []
    assert parts_behind_necks(np.zeros_like(air), hu, LEVELS, SPACING) == []


def test_of_a_pocket_and_a_bulla_over_a_thin_pleura_only_the_pocket_is_counted() -> None:
    hemithorax = (D > 2) & (D < 41) & (H > 2) & (H < 41) & (W > 2) & (W < 69)
    pocket = hemithorax & (W < 14)
    bulla = ball(13, 28)
    pleura = hemithorax & (W >= 14) & (W < 16)
    hu = scan(pocket | bulla)
    hu[~hemithorax] = 40.0
    hu[pleura & ~bulla] = -450.0
    hu[pleura & bulla] = -780.0
    whole = pocket | bulla
    parts = judged_parts(whole, hemithorax, hu, levels=LEVELS, spacing=SPACING, pitch_mm=2.0)
    kinds = {verdict.kind: part for part, _, verdict in parts}
    assert set(kinds) == {judge.PNEUMOTHORAX, judge.BULLA}
    assert kinds[judge.PNEUMOTHORAX][pocket].mean() > 0.98
    assert kinds[judge.BULLA][bulla & (W > 16)].mean() > 0.98
    alone = judged_parts(pocket, hemithorax, hu, levels=LEVELS, spacing=SPACING, pitch_mm=2.0)
    assert [(verdict.kind, int(part.sum())) for part, _, verdict in alone] == [(judge.PNEUMOTHORAX, int(pocket.sum()))]
    blurred = judged_parts(whole, hemithorax, hu, levels=replace(LEVELS, smooth=True), spacing=SPACING, pitch_mm=2.0)
    assert len(blurred) == 1 and np.array_equal(blurred[0][0], whole)
