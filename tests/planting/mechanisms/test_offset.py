"""The mechanism "offset": occupancy, place, partial volume, noise and fluid, and a record of the mechanism."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from xrecon.anatomy.healthy_lungs import find_lungs
from xrecon.errors import InputError
from xrecon.phantoms.thorax import Phantom, ThoraxParameters, thorax_phantom
from xrecon.planting.pattern import MECHANISMS, PATTERNS
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.planting.prepared import PlantableChest, prepare_chest
from xrecon.planting.truth import PlantingSettings, Truth
from xrecon.segmentation import Label
from xrecon.volume import Volume, load_ct


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """6 mm voxels with a little noise: coarse, so that planting takes a fraction of a second."""
    return thorax_phantom(64, 6.0, parameters=ThoraxParameters(noise_hu=12.0))


@pytest.fixture(scope="module")
def prepared(phantom: Phantom) -> PlantableChest:
    return prepare_chest(phantom.volume)


def _plant(prepared: PlantableChest, **wishes: object) -> tuple[Volume, Truth]:
    return plant_pneumothorax(prepared.ct, prepared=prepared, mechanism="offset", **wishes)  # type: ignore[arg-type]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("side", "occupancy"), [("right", 0.05), ("left", 0.2), ("right", 0.6)])
def test_the_occupancy_is_met_with_every_pattern(
    prepared: PlantableChest, pattern: str, side: str, occupancy: float
) -> None:
    sick, truth = _plant(prepared, side=side, occupancy=occupancy, pattern=pattern, seed=3)
    assert truth.occupancy.of(side) == pytest.approx(occupancy, abs=0.005)
    inside = prepared.chest.right if side == "right" else prepared.chest.left
    assert (inside & (truth.labels == Label.AIR)).sum() > 0.85 * (truth.labels == Label.AIR).sum()
    # A small pocket is thin: at 6 mm most of its voxels are partly wall or lung.
    assert np.median(sick.hu[truth.labels == Label.AIR]) < (-700.0 if occupancy < 0.1 else -900.0)
    near = ndimage.binary_dilation(inside, iterations=2)
    assert np.array_equal(sick.hu[~near], prepared.ct.hu[~near])


def test_the_pocket_lies_where_its_pattern_says(prepared: PlantableChest) -> None:
    centres = {}
    for pattern in PATTERNS:
        _, truth = _plant(prepared, side="left", occupancy=0.15, pattern=pattern)
        air, lung = (np.argwhere(truth.labels == label).mean(axis=0) * 6.0 for label in (Label.AIR, Label.LEFT_LUNG))
        centres[pattern] = air - lung
    assert centres["supine"][1] < -20.0
    assert max(centres["upright"][0], centres["apical"][0]) < -30.0
    assert centres["lateral"][2] > 12.0
    assert np.linalg.norm(centres["loculated"]) > 30.0


def test_the_lung_stays_and_at_most_gets_a_little_denser(prepared: PlantableChest) -> None:
    sick, truth = _plant(prepared, occupancy=0.3, pattern="upright", seed=1)
    deep = ndimage.binary_erosion(truth.labels == Label.RIGHT_LUNG, iterations=2)
    before, after = prepared.ct.hu[deep] + 1000.0, sick.hu[deep] + 1000.0
    ratio = after / np.maximum(before, 50.0)
    assert np.quantile(ratio, 0.02) > 0.95
    assert np.quantile(ratio, 0.98) < 1.61
    assert np.corrcoef(before, after)[0, 1] > 0.95, "nothing moved"
    assert truth.lung_mass_g.after < 0.95 * truth.lung_mass_g.before, "no mass is kept"


def test_the_seed_decides_and_the_mechanisms_differ(prepared: PlantableChest) -> None:
    first, again = (_plant(prepared, occupancy=0.1, seed=5)[0].hu for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, _plant(prepared, occupancy=0.1, seed=6)[0].hu)
    flow = plant_pneumothorax(prepared.ct, prepared=prepared, occupancy=0.1, seed=5)[0]
    assert not np.array_equal(first, flow.hu)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_shares_are_those_of_the_drawn_ct(prepared: PlantableChest, mechanism: str) -> None:
    _, truth = plant_pneumothorax(prepared.ct, prepared=prepared, occupancy=0.25, mechanism=mechanism, effusion_ml=60.0)
    shares = truth.shares
    assert shares.air.shape == shares.lung.shape == truth.labels[shares.box].shape
    for part in (shares.air, shares.lung):
        assert part.dtype == np.float32
        assert 0.0 <= part.min() < 0.01 < 0.99 < part.max() <= 1.0
    assert (shares.air + shares.lung).max() <= 1.0 + 1e-5
    assert np.array_equal(shares.air >= 0.5, truth.labels[shares.box] == Label.AIR)
    voxel_ml = prepared.ct.voxel_ml
    assert shares.air.sum(dtype=np.float64) * voxel_ml == pytest.approx(truth.volumes_ml.air, rel=0.1)
    assert shares.lung.sum(dtype=np.float64) * voxel_ml == pytest.approx(truth.volumes_ml.right_lung, rel=0.1)


def test_fluid_is_a_pool_with_a_flat_level(prepared: PlantableChest) -> None:
    sick, truth = _plant(prepared, occupancy=0.3, pattern="upright", effusion_ml=300.0)
    assert truth.volumes_ml.fluid == pytest.approx(300.0, rel=0.02)
    assert truth.occupancy.right == pytest.approx(0.3, abs=0.005)
    fluid = (truth.labels == 0) & prepared.chest.right & (sick.hu > -50.0) & (sick.hu < 80.0)
    lowest_air = np.nonzero(truth.labels == Label.AIR)[0].max()
    assert np.percentile(np.nonzero(fluid)[0], 60) >= lowest_air
    with pytest.raises(InputError, match="does not fit"):
        _plant(prepared, occupancy=0.3, effusion_ml=2900.0)


def test_the_mechanism_is_recorded_and_checked(prepared: PlantableChest) -> None:
    _, truth = _plant(prepared, occupancy=0.1)
    assert truth.settings.mechanism == truth.to_dict()["asked"]["mechanism"] == "offset"
    assert PlantingSettings().mechanism == MECHANISMS[0] == "flow", "files and seeds of before stay valid"
    with pytest.raises(InputError, match="mechanism must be one of flow, offset, got 'cut'"):
        PlantingSettings(mechanism="cut")


@pytest.mark.data
def test_a_real_ct_gets_a_pocket_with_its_scans_grain(shared_data: Path) -> None:
    ct = load_ct(shared_data / "ct" / "case_006.nii.gz")
    chest = find_lungs(ct)
    sick, truth = plant_pneumothorax(
        ct, side="left", occupancy=0.2, pattern="lateral", seed=4, mechanism="offset", chest=chest
    )
    assert truth.occupancy.left == pytest.approx(0.2, abs=0.005)
    air = truth.labels == Label.AIR
    assert np.argwhere(air)[:, 2].mean() > ct.shape[2] / 2, "left is the larger column"
    inner = sick.hu[ndimage.binary_erosion(air, iterations=3)]
    assert np.median(inner) == pytest.approx(truth.noise.air_hu, abs=8.0)
    assert inner.std() > 1.0
