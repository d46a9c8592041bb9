"""An explicit pneumothorax: surfaces fitted to thickness maps, drawn into a chest, measured again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from xrecon.anatomy.healthy_lungs import ChestAir, find_lungs
from xrecon.errors import InputError
from xrecon.films.simulation import film_pair
from xrecon.films.thickness_maps import ThicknessMaps
from xrecon.inference.paint.drawing import paint_side
from xrecon.inference.paint.surface_fit import FitSettings, fit_surfaces
from xrecon.inference.paint.surfaces import PleuralSpace, PleuralSurfaces, shares
from xrecon.phantoms.thorax import Phantom
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.planting.truth import Truth
from xrecon.projector.operator import project
from xrecon.volume import Volume
from xrecon.warp import Grid

GRID = Grid((64, 64, 64), 6.0)
SETTINGS = FitSettings(steps=60)


@dataclass(frozen=True, eq=False)
class Planted:
    """A planted phantom and its exact maps."""

    healthy: Volume
    chest: ChestAir
    truth: Truth
    maps: ThicknessMaps


def maps_of(air: list[np.ndarray], lung: list[np.ndarray]) -> ThicknessMaps:
    """Exact maps of shares [D, H, W] of (right, left)."""
    views = film_pair("chest", size=64)
    both = [
        project(torch.from_numpy(np.stack(part).astype(np.float32))[:, None], GRID.spacing_mm, views).numpy()
        for part in (air, lung)
    ]
    air_mm, lung_mm = (np.ascontiguousarray(films.transpose(1, 0, 2, 3).clip(0)) for films in both)
    return ThicknessMaps(air_mm, lung_mm, np.ones_like(air_mm), views)


@pytest.fixture(scope="module")
def planted(phantom64: Phantom) -> Planted:
    ct = phantom64.volume
    chest = find_lungs(ct)
    _, truth = plant_pneumothorax(ct, side="left", occupancy=0.35, pattern="lateral", chest=chest)
    air, sick = np.zeros(ct.shape, dtype=np.float32), np.zeros(ct.shape, dtype=np.float32)
    air[truth.shares.box], sick[truth.shares.box] = truth.shares.air, truth.shares.lung
    maps = maps_of([np.zeros_like(air), air], [chest.right.astype(np.float32), sick])
    return Planted(ct, chest, truth, maps)


@pytest.fixture(scope="module")
def fitted(planted: Planted) -> tuple[PleuralSurfaces | None, PleuralSurfaces | None]:
    spaces = [PleuralSpace.of(lung, GRID) for lung in (planted.chest.right, planted.chest.left)]
    return fit_surfaces(spaces, planted.maps, SETTINGS)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_air_comes_back_where_it_was(
    planted: Planted, fitted: tuple[PleuralSurfaces | None, PleuralSurfaces | None]
) -> None:
    right, left = fitted
    assert right is not None
    assert left is not None
    air = left.on(GRID).air.numpy()
    truth = planted.truth.labels == 3
    assert dice(air >= 0.5, truth) > 0.8
    assert air.sum() == pytest.approx(planted.truth.shares.air.sum(), rel=0.1)
    assert right.on(GRID).air.sum() * planted.healthy.voxel_ml < 3.0


def test_a_wall_in_the_wrong_place_is_moved(planted: Planted) -> None:
    """The reconstructed lung is 6 mm too far to the patient's left; the maps put its wall right."""
    wrong = np.roll(planted.chest.left, 1, axis=2)
    surfaces = fit_surfaces([None, PleuralSpace.of(wrong, GRID)], planted.maps, SETTINGS)[1]
    assert surfaces is not None
    moved = surfaces.on(GRID).hemithorax.numpy() >= 0.5
    assert dice(moved, planted.chest.left) > dice(wrong, planted.chest.left) + 0.01


def test_healthy_maps_paint_nothing(planted: Planted) -> None:
    nothing = np.zeros(planted.healthy.shape, dtype=np.float32)
    lungs = [planted.chest.right.astype(np.float32), planted.chest.left.astype(np.float32)]
    maps = maps_of([nothing, nothing], lungs)
    spaces = [PleuralSpace.of(lung, GRID) for lung in (planted.chest.right, planted.chest.left)]
    for surfaces, lung in zip(
        fit_surfaces(spaces, maps, SETTINGS), (planted.chest.right, planted.chest.left), strict=True
    ):
        assert surfaces is not None
        assert surfaces.on(GRID).air.sum() * planted.healthy.voxel_ml < 3.0
        ct, painted = paint_side(planted.healthy, lung, surfaces)
        assert np.array_equal(ct.hu, planted.healthy.hu)
        assert painted.air.sum() == 0


def test_what_is_drawn_is_air_and_the_lung_keeps_its_mass(
    planted: Planted, fitted: tuple[PleuralSurfaces | None, PleuralSurfaces | None]
) -> None:
    assert fitted[1] is not None
    ct, painted = paint_side(planted.healthy, planted.chest.left, fitted[1])
    full = painted.air > 0.85
    assert full.sum() > 100
    assert np.median(ct.hu[full]) < -890
    assert painted.density_factor > 1.15
    # The other side stays as it was, but for soft edges where both lungs nearly touch.
    assert (ct.hu != planted.healthy.hu)[planted.chest.right].mean() < 0.02
    lung = planted.chest.left & (planted.healthy.hu < -500)
    before = (planted.healthy.hu[lung] + 1000).sum()
    after = ((ct.hu + 1000) * (painted.lung > 0.5) * lung).sum()
    assert after == pytest.approx(before, rel=0.25)


def test_shares_never_exceed_the_hemithorax() -> None:
    distance = torch.linspace(-30, 60, 91)[:, None, None]
    result = shares(distance, torch.zeros_like(distance), torch.full_like(distance, 12.0), edge_mm=1.0)
    assert bool((result.air + result.pleura <= result.hemithorax + 1e-6).all())
    inside = result.air[:, 0, 0]
    assert inside[30 + 6] > 0.9  # 6 mm inside the wall
    assert inside[30 + 20] < 0.1  # beyond the pleura


def test_maps_are_checked_and_coarsened(planted: Planted) -> None:
    maps = planted.maps
    coarse = maps.coarsened(16)
    assert coarse.air_mm.mean() == pytest.approx(maps.air_mm.mean(), rel=1e-5)
    assert coarse.views[0].pixel_at_isocentre_mm[0] == pytest.approx(24.0)
    with pytest.raises(InputError, match="cannot be coarsened"):
        maps.coarsened(24)
    with pytest.raises(InputError, match="shape"):
        ThicknessMaps(maps.air_mm[:1], maps.lung_mm, maps.certainty, maps.views)
    with pytest.raises(InputError, match="negative"):
        ThicknessMaps(maps.air_mm - 1.0, maps.lung_mm, maps.certainty, maps.views)


def test_an_empty_side_has_no_space() -> None:
    assert PleuralSpace.of(np.zeros(GRID.shape, dtype=bool), GRID) is None
