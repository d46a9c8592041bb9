"""The map of a varied chest: its changes of volume, its breath, the way back, and the limits of its settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from xrecon.augmentation.lung_shapes import PITCH_MM, LungShapes
from xrecon.augmentation.shape_fit import FIT_GRID, KNOT_MM, fit_lungs, lung_target, mask_box
from xrecon.augmentation.variation_map import VariationMap, draw_map
from xrecon.augmentation.variation_settings import VariationSettings
from xrecon.augmentation.varied_chest import SourceChest, source_chest, varied_chest
from xrecon.phantoms.thorax import Phantom
from xrecon.warp import SplineField

STILL = VariationSettings(
    shape_share=0.0,
    size=(0.97, 0.97),  # no voxel centre lies exactly between two of the source
    axis_scale=0.0,
    elastic_mm=(1e-6, 1e-6),
    breath_probability=0.0,
    turn_deg=0.0,
    tilt_deg=0.0,
    carried_on_share=0.0,
)


@pytest.fixture(scope="module")
def source(phantom64: Phantom) -> SourceChest:
    return source_chest(phantom64.volume, "phantom")


def elastic(source: SourceChest, seed: int, settings: VariationSettings) -> VariationMap:
    return draw_map(source.ct, source.chest, None, settings=settings, rng=np.random.default_rng(seed))


def changed(settings: VariationSettings, **values: object) -> VariationSettings:
    return VariationSettings(**{**settings.model_dump(), **values})


def test_the_change_of_volume_is_the_determinant_of_the_map(source: SourceChest) -> None:
    settings = VariationSettings(shape_share=0.0, breath_probability=1.0)
    variation = elastic(source, 4, settings)
    places = [np.arange(-150.0, 151.0, 3.0) for _ in range(3)]
    fine = variation.jacobian(places)
    index = variation.indices(places) * np.asarray(source.ct.spacing_mm, dtype=np.float32).reshape(3, 1, 1, 1)
    gradient = np.stack([np.stack(np.gradient(row, 3.0)) for row in index])  # [3, 3, P, Q, R]
    inner = (slice(4, -4),) * 3
    exact = np.linalg.det(np.moveaxis(gradient, (0, 1), (-2, -1)))[inner]
    assert np.abs(fine[inner] - exact).max() < 0.08
    assert np.abs(fine[inner] - exact).mean() < 0.005


def test_size_alone_scales_the_chest(source: SourceChest) -> None:
    varied = varied_chest(source, None, seed=(0,), settings=STILL)
    assert varied.parameters["least_jacobian"] == pytest.approx(0.97**-3, abs=1e-3)
    assert varied.parameters["largest_jacobian"] == pytest.approx(0.97**-3, abs=1e-3)
    before = (source.chest.right | source.chest.left).sum() * source.ct.voxel_ml
    after = (varied.chest.right | varied.chest.left).sum() * varied.ct.voxel_ml
    assert after == pytest.approx(0.97**3 * before, rel=0.06)  # voxels of 6 mm


def test_a_raised_diaphragm_keeps_the_mass_of_the_lungs(source: SourceChest) -> None:
    settings = changed(STILL, breath_probability=1.0, raised_mm=(40.0, 40.0))
    still, raised = (varied_chest(source, None, seed=(0,), settings=s) for s in (STILL, settings))
    masses, volumes, bottoms, tops = [], [], [], []
    for varied in (still, raised):
        lungs = varied.chest.right | varied.chest.left
        masses.append(float((varied.ct.hu[lungs] + 1000.0).sum()) * varied.ct.voxel_ml)
        volumes.append(float(lungs.sum()) * varied.ct.voxel_ml)
        height = np.argwhere(lungs.any(axis=(1, 2)))[:, 0] - varied.chest.body.any(axis=(1, 2)).argmax()
        tops.append(height.min() * varied.ct.spacing_mm[0])
        bottoms.append(height.max() * varied.ct.spacing_mm[0])
    assert volumes[1] < 0.93 * volumes[0]
    assert masses[1] == pytest.approx(masses[0], rel=0.05)
    assert tops[1] == pytest.approx(tops[0], abs=8.0)
    assert bottoms[1] <= bottoms[0]


def test_the_breath_compresses_the_base_more_than_the_apex(source: SourceChest) -> None:
    variation = elastic(source, 0, changed(STILL, breath_probability=1.0, raised_mm=(40.0, 40.0)))
    d = np.arange(variation.top_mm, variation.base_mm, 4.0)
    column = variation.jacobian([d, np.array([0.0, 4.0]), np.array([0.0, 4.0])])[:, 0, 0]
    third = len(column) // 3
    assert column.min() > 1.0
    assert column[-third:].mean() > column[:third].mean() + 0.1


def test_a_place_of_the_source_is_traced_to_the_new_grid(source: SourceChest) -> None:
    variation = elastic(source, 7, VariationSettings(shape_share=0.0))
    places = [np.arange(-160.0, 161.0, 4.0) for _ in range(3)]
    point = tuple(float(m + 4.0) for m in variation.middle)
    target = variation.forward((point[0], point[1], point[2]), places)
    there = variation.indices(places)[(slice(None), *(int(i) for i in target))]
    away = (there - np.asarray(point)) * np.asarray(source.ct.spacing_mm)
    assert np.linalg.norm(away) < 4.0


def test_the_fit_brings_the_lungs_to_the_shape(source: SourceChest) -> None:
    """The target's left lung lies 18 mm lower and its right lung 18 mm further to the front."""
    lungs = np.roll(source.chest.right, -3, axis=1).astype(np.uint8)
    lungs[np.roll(source.chest.left, 3, axis=0)] = 2
    low, high = mask_box(source.chest.right | source.chest.left)
    spacing = np.asarray(source.ct.spacing_mm)
    target = lung_target(lungs, spacing / PITCH_MM)
    scale, middle = (high - low + 1) * spacing / target.size_mm, 0.5 * (low + high)
    knots = fit_lungs(source.ct, source.chest, target, scale=scale, middle=middle)
    agreement = []
    for field in (torch.zeros_like(knots), knots):
        places = FIT_GRID.positions_mm() * torch.from_numpy(scale) + SplineField(FIT_GRID, KNOT_MM)(field)
        index = np.moveaxis(places.numpy() / spacing + middle, -1, 0)
        for side, mask in enumerate((source.chest.right, source.chest.left)):
            moved = ndimage.map_coordinates(mask.view(np.uint8), index, order=0, mode="constant") > 0
            goal = target.distances[side].numpy() > 0
            agreement.append(2 * (moved & goal).sum() / (moved.sum() + goal.sum()))
    assert min(agreement[2:]) > 0.9
    assert min(agreement[2:]) > min(agreement[:2]) + 0.03


@pytest.mark.parametrize("seed", range(4))
def test_draws_stay_within_the_settings(source: SourceChest, seed: int) -> None:
    settings = VariationSettings(shape_share=0.0, turn_deg=5.0, tilt_deg=1.0, breath_probability=0.0, size=(0.9, 0.95))
    values = elastic(source, seed, settings).parameters
    turn, *tilts = values["rotation_deg"]
    assert abs(turn) <= 5.0
    assert max(map(abs, tilts)) <= 1.0
    assert values["diaphragm_raised_mm"] == 0.0
    assert all(0.9 * 0.94 <= s <= 0.95 * 1.06 for s in values["scale"])


def test_lungs_stay_within_the_largest_volume(source: SourceChest) -> None:
    mask = np.zeros((76, 50, 70), dtype=np.uint8)
    mask[2:-2, 2:-2, 2:30], mask[2:-2, 2:-2, 40:-2] = 1, 2
    shapes = LungShapes(("block",), {"block": mask})
    settings = VariationSettings(shape_share=1.0, largest_lungs_ml=5000.0, breath_probability=0.0)
    values = draw_map(source.ct, source.chest, shapes, settings=settings, rng=np.random.default_rng(0)).parameters
    assert values["shape"] == "block"
    low, high = mask_box(source.chest.right | source.chest.left)
    new = np.asarray(values["scale"]) * (high - low + 1) * np.asarray(source.ct.spacing_mm)
    share = (mask > 0).sum() / np.prod(np.asarray(mask.shape) - 4)
    assert np.prod(new) * share / 1000.0 < 5100.0
    assert new[0] <= 346.0
