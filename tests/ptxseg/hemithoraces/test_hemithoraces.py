"""Body, windpipe and the two sides, on shapes whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from support.voxel_shapes import LEVELS, SHAPE, D, H, W, ball
from xrecon.anatomy import morphology
from xrecon.anatomy.body import find_body
from xrecon.errors import InputError
from xrecon.phantoms.thorax import Phantom
from xrecon.ptxseg import working_labels
from xrecon.ptxseg.airways import find_airways
from xrecon.ptxseg.hemithoraces import lung_models, lungs
from xrecon.ptxseg.hemithoraces.collapse import collapsed_sides
from xrecon.ptxseg.hemithoraces.sides import LEFT, RIGHT, _reunited, split_sides
from xrecon.ptxseg.work_grid import working_grid
from xrecon.segmentation import Side


def test_lungs_that_touch_part_at_the_ridge() -> None:
    air = (np.abs(H - 20) < 15) & (np.abs(D - 20) < 15) & (np.abs(W - 20) < 18)
    hu = np.where(air, -850.0, 40.0).astype(np.float32)
    hu[:, :, 20] = np.where(air[:, :, 20], -560.0, 40.0)
    sides, missing = split_sides(air, hu, middle_w=22.0, spacing=(4.0, 4.0, 4.0))
    assert missing is None
    assert (sides[air & (W < 20)] == RIGHT).all()
    assert (sides[air & (W > 20)] == LEFT).all()
    assert not sides[~air].any()


def test_a_single_lung_is_not_split() -> None:
    air = ball(9, (20, 20, 8))
    sides, missing = split_sides(air, np.where(air, -850.0, 40.0).astype(np.float32), middle_w=20.0, spacing=(3, 3, 3))
    assert missing == "left"
    assert (sides[air] == RIGHT).all()


def test_body_is_the_patient_without_the_table(phantom64: Phantom) -> None:
    volume = phantom64.volume
    body = find_body(volume)
    inside = body.at([np.arange(n) for n in volume.shape])
    assert (inside & phantom64.structures["body"]).sum() > 0.95 * phantom64.structures["body"].sum()
    table = phantom64.structures["table"] & ~phantom64.structures["body"]
    assert (inside & table).sum() < 0.1 * table.sum()


def test_windpipe_gives_the_level_of_air(phantom64: Phantom) -> None:
    volume = phantom64.volume
    body = find_body(volume)
    grid = working_grid(volume, body.box())
    airways = find_airways(np.asarray(grid.volume.hu), body.at(grid.nearest_voxels()), grid.spacing_mm)
    assert airways.measured
    assert -1001.0 <= airways.air_hu < -950.0
    assert airways.carina is not None
    trachea = phantom64.structures["airways"]
    at = [np.clip(i, 0, n - 1) for i, n in zip(grid.nearest_voxels(), volume.shape, strict=True)]
    assert (airways.mask & morphology.grown(trachea)[np.ix_(*at)]).sum() > 0.9 * airways.mask.sum()


def test_lung_models_are_named_and_unknown_ones_refused() -> None:
    assert {"auto", "classical"} <= set(lung_models.names())
    assert lung_models.resolve("classical").load() is lung_models.classical
    assert lung_models.resolve("auto").name in lung_models.names()
    with pytest.raises(InputError, match="'resnet' is unknown; choose one of auto, classical"):
        lung_models.resolve("resnet")
    with pytest.raises(ValueError, match="registered already"):
        lung_models.register(lung_models.LungModelEntry("classical", lambda: lung_models.classical, ""))


def test_the_wide_closing_of_a_compressed_lung_takes_vessels_and_no_bronchi() -> None:
    vessel = (np.abs(H - 20) <= 2) & (np.abs(W - 14) <= 2)
    bronchus = (np.abs(H - 20) <= 1) & (np.abs(W - 26) <= 1)
    wall = morphology.dilated(bronchus, 2.0, (2.0, 2.0, 2.0))
    classes = np.where(ball(17) & ~vessel & ~wall, np.uint8(RIGHT), np.uint8(0))
    hu = np.where(vessel, 50.0, np.where(bronchus, -980.0, -400.0)).astype(np.float32)
    added = working_labels.dense_lung(hu, classes, bronchus, side=Side.RIGHT, spacing=(2.0, 2.0, 2.0))
    assert added[ball(12) & vessel].all()
    assert not added[wall].any()


def test_a_dark_side_is_collapsed_where_its_lung_is_dense_or_missing() -> None:
    sides = np.zeros(SHAPE, dtype=np.uint8)
    sides[:, :, 5:15] = RIGHT  # five columns of lung, five of free air
    sides[:, :, 25:35] = LEFT

    def collapsed(right_hu: float, *, air_hu: float = -980.0) -> list[Side]:
        hu = np.where(sides == LEFT, -850.0, right_hu).astype(np.float32)
        hu[:, :, 10:15] = air_hu
        levels = {Side.RIGHT: replace(LEVELS, lung_hu=right_hu), Side.LEFT: LEVELS}
        return collapsed_sides(hu, sides, levels)

    assert collapsed(-600.0) == [Side.RIGHT]
    assert collapsed(-600.0, air_hu=-600.0) == []
    assert collapsed(-780.0) == []
    assert collapsed(-870.0) == [Side.RIGHT]  # lighter than half of the other lung: most of it has no air left


def test_small_airless_pieces_apart_from_a_lung_are_none() -> None:
    lung, dome, rest, lobe = ball(8), ball(3, (35, 35, 20)), ball(3, (35, 5, 20)), (D < 9) & (H < 9)
    whole = lung | dome | rest | lobe
    hu = np.where(dome | lobe, 45.0, -600.0).astype(np.float32)
    stray = working_labels.stray_pieces(whole, hu)
    assert stray[dome].all() and not stray[lung | lobe | rest].any()
    assert not working_labels.stray_pieces(np.zeros_like(whole), hu).any()


def test_a_part_that_only_the_other_lung_meets_is_the_others() -> None:
    right, left = ball(9, (20, 20, 9)), ball(9, (20, 20, 32))
    patch, alone = ball(3, (29, 20, 27)) & ~left, ball(2, (4, 4, 4)) & ~right
    image = np.where(right | patch | alone, np.uint8(1), np.where(left, np.uint8(2), np.uint8(0)))
    reunited = _reunited(image.copy())
    assert (reunited[patch] == 2).mean() > 0.9
    assert (reunited[right | alone] == 1).all() and (reunited[left] == 2).all()


def test_skin_of_an_arm_is_no_lung() -> None:
    inner = W < 37
    arm, lobe = (np.abs(D - 17) < 2) & (H < 30) & (W >= 35) & (W < 37), ball(4, (17, 20, 28))
    assert lungs._along_skin(arm, inner) and not lungs._along_skin(lobe, inner)
    lung = ball(9, (22, 20, 10))
    beside = lungs._beside_lung(lung | arm | lobe, inner)
    assert not beside[arm].any() and beside[lung | lobe].all()
    assert lungs._beside_lung(lung | arm | lobe, np.ones_like(inner))[arm].all()
