"""A planted pneumothorax: occupancy, place, mass, noise, fluid and tension, and nothing changed elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from xrecon.anatomy.healthy_lungs import find_lungs
from xrecon.errors import InputError
from xrecon.phantoms.thorax import Phantom, ThoraxParameters, thorax_phantom
from xrecon.planting.pattern import PATTERNS
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.planting.truth import Truth
from xrecon.segmentation import Label, Side
from xrecon.volume import RESEARCH_NOTICE, Volume, load_ct


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """6 mm voxels with a little noise: coarse, so that planting takes a second."""
    return thorax_phantom(64, 6.0, parameters=ThoraxParameters(noise_hu=12.0))


@pytest.fixture(scope="module")
def planted(phantom: Phantom) -> tuple[Volume, Truth]:
    return plant_pneumothorax(phantom.volume, side="right", occupancy=0.3, seed=1)


@pytest.mark.parametrize(("side", "occupancy"), [("right", 0.03), ("left", 0.1), ("right", 0.5), ("left", 0.9)])
def test_the_occupancy_is_met_on_the_asked_side(phantom: Phantom, side: str, occupancy: float) -> None:
    _, truth = plant_pneumothorax(phantom.volume, side=side, occupancy=occupancy)
    lung, number = (Label.RIGHT_LUNG, Side.RIGHT) if side == "right" else (Label.LEFT_LUNG, Side.LEFT)
    air_ml = truth.volume_ml(Label.AIR)
    reached = air_ml / (air_ml + truth.volume_ml(lung))
    assert reached == pytest.approx(occupancy, abs=0.005)
    assert truth.occupancy.of(side) == pytest.approx(reached)
    assert set(np.unique(truth.air_side)) == {0, number}
    # The pocket lies in what was that lung.
    true_lung = phantom.labels == (1 if side == "right" else 2)
    air = truth.labels == Label.AIR
    assert (air & true_lung).sum() > 0.85 * air.sum()
    # In front of the heart the lungs touch: at 6 mm the line between them is not resolved everywhere.
    assert (air & (phantom.labels == (2 if side == "right" else 1))).sum() < 0.06 * air.sum()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_pocket_lies_where_its_pattern_says(phantom: Phantom, pattern: str) -> None:
    _, truth = plant_pneumothorax(phantom.volume, side="left", occupancy=0.15, pattern=pattern)
    air = np.argwhere(truth.labels == Label.AIR).mean(axis=0)
    lung = np.argwhere(truth.labels == Label.LEFT_LUNG).mean(axis=0)
    offset_mm = (air - lung) * 6.0
    if pattern == "supine":
        assert offset_mm[1] < -20.0
    elif pattern in ("upright", "apical"):
        assert offset_mm[0] < -30.0
    elif pattern == "lateral":
        assert offset_mm[2] > 12.0
    else:
        assert np.linalg.norm(offset_mm) > 30.0


def test_truth_and_hu_agree(phantom: Phantom, planted: tuple[Volume, Truth]) -> None:
    sick, truth = planted
    air = truth.labels == Label.AIR
    depth = np.zeros(air.shape, dtype=bool)
    depth[1:-1, 1:-1, 1:-1] = air[1:-1, 1:-1, 1:-1]
    for axis in range(3):
        depth &= np.roll(air, 1, axis) & np.roll(air, -1, axis)
    level = truth.noise.air_hu
    assert np.median(sick.hu[depth]) == pytest.approx(level, abs=8.0)
    spread = 1.4826 * np.median(np.abs(sick.hu[depth] - np.median(sick.hu[depth])))
    assert spread == pytest.approx(truth.noise.sd_hu, rel=0.5)
    lung = truth.labels == Label.RIGHT_LUNG
    assert np.median(sick.hu[lung]) > np.median(phantom.volume.hu[phantom.labels == 1]) + 20.0, "collapsed is denser"
    assert sick.synthetic
    assert any(RESEARCH_NOTICE in note for note in sick.notes)


def test_the_collapsed_lung_keeps_its_mass(phantom: Phantom, planted: tuple[Volume, Truth]) -> None:
    sick, truth = planted
    cavity = (truth.labels == Label.RIGHT_LUNG) | (truth.labels == Label.AIR) | (phantom.labels == 1)
    cavity = find_lungs(phantom.volume).right | cavity
    for axis in range(3):  # partial volume at the wall belongs to the balance
        cavity |= np.roll(cavity, 1, axis) | np.roll(cavity, -1, axis)
    air_density = (truth.noise.air_hu + 1000.0) * (truth.labels == Label.AIR).sum()
    change = float((sick.hu - phantom.volume.hu)[cavity].sum(dtype=np.float64)) - air_density
    mass = float((phantom.volume.hu + 1000.0)[phantom.labels == 1].sum(dtype=np.float64))
    assert abs(change) < 0.03 * mass
    reported = truth.lung_mass_g
    assert reported.after == pytest.approx(reported.before, rel=0.03)


def test_a_lung_pressed_beyond_its_own_tissue_reports_the_lost_mass(phantom: Phantom) -> None:
    sick, truth = plant_pneumothorax(phantom.volume, occupancy=0.9)
    reported = truth.lung_mass_g
    assert reported.after < 0.97 * reported.before
    assert np.percentile(sick.hu[truth.labels == Label.RIGHT_LUNG], 90) < 120.0


def test_nothing_changes_outside_the_pleural_cavity(phantom: Phantom, planted: tuple[Volume, Truth]) -> None:
    sick, truth = planted
    inside = find_lungs(phantom.volume).right | (truth.labels == Label.AIR)
    for _ in range(2):
        for axis in range(3):
            inside |= np.roll(inside, 1, axis) | np.roll(inside, -1, axis)
    assert np.array_equal(sick.hu[~inside], phantom.volume.hu[~inside])
    assert np.array_equal(sick.affine, phantom.volume.affine)
    bone = phantom.structures["ribs"] & (phantom.volume.hu > 300.0)
    assert np.abs(sick.hu - phantom.volume.hu)[bone].max() < 250.0


def test_the_seed_decides(phantom: Phantom, planted: tuple[Volume, Truth]) -> None:
    again, same = plant_pneumothorax(phantom.volume, side="right", occupancy=0.3, seed=1)
    assert np.array_equal(again.hu, planted[0].hu)
    assert np.array_equal(same.labels, planted[1].labels)
    other, _ = plant_pneumothorax(phantom.volume, side="right", occupancy=0.3, seed=2)
    assert not np.array_equal(other.hu, planted[0].hu)


def test_fluid_has_a_flat_level_below_the_air(phantom: Phantom) -> None:
    sick, truth = plant_pneumothorax(phantom.volume, occupancy=0.3, effusion_ml=300.0)
    assert truth.volumes_ml.fluid == pytest.approx(300.0, rel=0.02)
    assert truth.occupancy.right == pytest.approx(0.3, abs=0.005)
    fluid = (truth.labels == 0) & find_lungs(phantom.volume).right & (sick.hu > -50.0) & (sick.hu < 60.0)
    rows_of_air = np.nonzero(truth.labels == Label.AIR)[1]
    rows_of_fluid = np.nonzero(fluid)[1]
    assert fluid.sum() * sick.voxel_ml > 100.0
    assert np.percentile(rows_of_fluid, 10) >= rows_of_air.max() - 1, "supine: the fluid lies behind all of the air"


def test_tension_moves_the_mediastinum_to_the_other_side(phantom: Phantom) -> None:
    sick, truth = plant_pneumothorax(phantom.volume, side="right", occupancy=0.5, tension=1.0)
    _, calm = plant_pneumothorax(phantom.volume, side="right", occupancy=0.5)
    assert truth.volume_ml(Label.LEFT_LUNG) < calm.volume_ml(Label.LEFT_LUNG) - 50.0

    def heart(volume: Volume) -> float:
        d, h, w = (int(np.median(i)) for i in np.nonzero(phantom.structures["heart"]))
        line = volume.hu[d, h, w - 16 : w + 16]
        return float((np.arange(32) * (line > -100.0)).sum() / (line > -100.0).sum()) * 6.0

    assert heart(sick) > heart(phantom.volume) + 5.0, "the heart moves to the patient's left"
    skin = phantom.structures["ribs"]
    assert np.abs(sick.hu - phantom.volume.hu)[skin].mean() < 25.0


def test_a_thicker_pleura_is_a_brighter_line_between_air_and_lung(phantom: Phantom) -> None:
    lines = []
    for pleura_mm in (0.3, 0.9, 2.0):
        sick, truth = plant_pneumothorax(phantom.volume, occupancy=0.3, pleura_mm=pleura_mm)
        assert truth.settings.pleura_mm == pleura_mm
        beside = ndimage.binary_dilation(truth.labels == Label.AIR) & (truth.labels == Label.RIGHT_LUNG)
        lines.append(float(np.median(sick.hu[beside])))
    assert lines[0] + 20.0 < lines[1] < lines[2] - 40.0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"side": "both"}, "right"),
        ({"occupancy": 0.0}, "0.01 to 0.9"),
        ({"occupancy": 0.95}, "0.01 to 0.9"),
        ({"occupancy": float("nan")}, "occupancy"),
        ({"pattern": "prone"}, "supine"),
        ({"seed": -1}, "seed"),
        ({"tension": 2.0}, "tension"),
        ({"effusion_ml": 2900.0}, "does not fit"),
        ({"pleura_mm": 0.0}, "pleura_mm must be from 0.1 to 3"),
    ],
)
def test_impossible_wishes_are_refused(phantom: Phantom, wrong: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        plant_pneumothorax(phantom.volume, **wrong)  # type: ignore[arg-type]


def test_a_volume_without_lungs_is_refused(phantom: Phantom) -> None:
    solid = np.where(phantom.structures["body"], 40.0, -1000.0).astype(np.float32)
    with pytest.raises(InputError, match="no lungs"):
        plant_pneumothorax(phantom.volume.with_hu(solid))
    one_lung = np.where(phantom.labels == 2, 40.0, phantom.volume.hu).astype(np.float32)
    with pytest.raises(InputError, match="one air-filled lung"):
        plant_pneumothorax(phantom.volume.with_hu(one_lung))
    turned = replace(phantom.volume, affine=phantom.volume.affine @ np.diag([-1.0, -1.0, 1.0, 1.0]))
    with pytest.raises(InputError, match="canonical"):
        plant_pneumothorax(turned)


@pytest.mark.data
def test_a_real_ct_gets_the_pneumothorax_that_was_asked_for(shared_data: Path) -> None:
    ct = load_ct(shared_data / "ct" / "case_006.nii.gz")
    sick, truth = plant_pneumothorax(ct, side="left", occupancy=0.2, pattern="lateral", seed=4)
    assert truth.occupancy.left == pytest.approx(0.2, abs=0.005)
    air = truth.labels == Label.AIR
    assert np.argwhere(air)[:, 2].mean() > ct.shape[2] / 2, "left is the larger column"
    assert np.median(sick.hu[air]) < -900.0  # case_006 at 2.2 mm: a large part of a thin pocket is partial volume
    mass = truth.lung_mass_g
    assert mass.after == pytest.approx(mass.before, rel=0.03)
