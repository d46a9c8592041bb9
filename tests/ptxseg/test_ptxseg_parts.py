"""The parts of PTX-Seg, each on shapes whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from xrecon.data.phantom import Phantom
from xrecon.errors import InputError
from xrecon.ptxseg import judge, lung_models, lungs, morphology, pipeline, plausibility
from xrecon.ptxseg.air import _ends_at_wall_and_step, find_candidates
from xrecon.ptxseg.airways import find_airways
from xrecon.ptxseg.body import find_body
from xrecon.ptxseg.describe import collapsed_sides, detection_limit_ml
from xrecon.ptxseg.flood import flood
from xrecon.ptxseg.grid import working_grid
from xrecon.ptxseg.levels import AirLevels, edge_levels
from xrecon.ptxseg.pipeline import _dense_lung
from xrecon.ptxseg.refine import onto_input
from xrecon.ptxseg.sides import LEFT, RIGHT, _reunited, split_sides
from xrecon.segmentation import Side
from xrecon.volume import Volume

LEVELS = AirLevels(-980.0, 10.0, -850.0)
SHAPE = (40, 40, 40)
D, H, W = np.indices(SHAPE)


def ball(radius: float, centre: tuple[float, float, float] = (20, 20, 20)) -> NDArray[np.bool_]:
    return (D - centre[0]) ** 2 + (H - centre[1]) ** 2 + (W - centre[2]) ** 2 <= radius**2


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), radius=st.floats(1.0, 4.0))
def test_opening_and_closing_enclose_the_mask(seed: int, radius: float) -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(14, 15, 16)), 1.5) > 0
    spacing = (1.0, 1.5, 2.0)
    opened, closed = morphology.opened(mask, radius, spacing), morphology.closed(mask, radius, spacing)
    assert not (opened & ~mask).any()
    assert not (mask & ~closed).any()
    assert np.array_equal(morphology.erode(mask, radius, spacing), ~morphology.dilate(~mask, radius, spacing))


def test_distances_are_in_mm_along_each_axis() -> None:
    point = np.zeros((9, 9, 9), dtype=bool)
    point[4, 4, 4] = True
    away = morphology.distance_to(point, (1.0, 2.0, 3.0))
    assert (away[5, 4, 4], away[4, 5, 4], away[4, 4, 5]) == pytest.approx((1.0, 2.0, 3.0))
    assert morphology.grown(point).sum() == 7
    assert np.array_equal(morphology.shrunk(morphology.grown(point)), point)


def test_holding_keeps_components_with_a_seed() -> None:
    mask = ball(5, (10, 10, 10)) | ball(5, (30, 30, 30))
    seed = np.zeros(SHAPE, dtype=bool)
    seed[10, 10, 10] = True
    assert np.array_equal(morphology.holding(mask, seed), ball(5, (10, 10, 10)))


def test_water_stops_at_the_ridge() -> None:
    hu = np.full((5, 5, 21), -900.0, dtype=np.float32)
    hu[:, :, 7] = -400.0  # the ridge stands off the middle
    markers = np.zeros(hu.shape, dtype=np.uint8)
    markers[2, 2, 0], markers[2, 2, 20] = 1, 2
    flood(hu, markers, np.ones(hu.shape, dtype=bool), low_hu=-1000.0, high_hu=0.0)
    assert (markers[:, :, :7] == 1).all()
    assert (markers[:, :, 8:] == 2).all()


def test_water_stays_where_it_may_run() -> None:
    markers = np.zeros((3, 3, 9), dtype=np.uint8)
    markers[1, 1, 0] = 1
    open_ = np.ones(markers.shape, dtype=bool)
    open_[:, :, 4] = False
    flood(np.zeros(markers.shape, dtype=np.float32), markers, open_, low_hu=-1.0, high_hu=1.0)
    assert (markers[:, :, :4] == 1).all()
    assert not markers[:, :, 4:].any()


@settings(deadline=None, max_examples=12)
@given(
    spacing=st.tuples(*[st.sampled_from([0.7, 1.0, 1.7, 2.2, 3.0, 5.0])] * 3),
    starts=st.tuples(*[st.integers(0, 3)] * 3),
)
def test_working_voxels_lie_where_their_affine_says(
    spacing: tuple[float, float, float], starts: tuple[int, int, int]
) -> None:
    # A linear ramp in mm is reproduced by block means and by interpolation, up to the repeated ends.
    places = np.indices((12, 13, 14)).astype(np.float32)
    ramp = sum(place * s * k for place, s, k in zip(places, spacing, (1.0, 2.0, 3.0), strict=True))
    volume = Volume.centred(np.asarray(ramp, dtype=np.float32), spacing)
    box = tuple(slice(start, n) for start, n in zip(starts, volume.shape, strict=True))
    grid = working_grid(volume, (box[0], box[1], box[2]))
    matrix = np.linalg.inv(volume.affine) @ grid.volume.affine
    index = np.stack([*np.indices(grid.volume.shape), np.ones(grid.volume.shape)])
    at = np.tensordot(matrix, index, axes=1)[:3]
    wanted = sum(place * s * k for place, s, k in zip(at, spacing, (1.0, 2.0, 3.0), strict=True))
    inner = tuple(slice(4, -4) if r.split > 1 else slice(None) for r in grid.ratios)
    assert np.allclose(grid.volume.hu[inner], wanted[inner], atol=1e-2)
    assert all(0.7 <= s <= 2.6 for s in grid.spacing_mm)


@pytest.mark.parametrize("pitch", [0.8, 1.8, 4.0])
def test_a_ball_of_air_comes_back_from_the_working_grid(pitch: float) -> None:
    count = round(64.0 / pitch)
    places = (np.indices((count,) * 3) + 0.5) * pitch - 32.0
    radius = np.sqrt((places**2).sum(axis=0))
    share = np.clip((20.0 - radius) / pitch + 0.5, 0.0, 1.0)
    volume = Volume.centred((40.0 - 1020.0 * share).astype(np.float32), (pitch, pitch, pitch))
    grid = working_grid(volume, (slice(0, count),) * 3)
    edges = edge_levels(LEVELS, pitch)
    classes = np.where(grid.volume.hu < edges.wall_hu, np.uint8(3), np.uint8(0))
    fine = onto_input(grid, classes, edges=(edges, edges), air_hu=-980.0)
    real = share >= 0.5
    assert 2.0 * float(((fine == 3) & real).sum()) / float((fine == 3).sum() + real.sum()) > (
        0.97 if pitch < 3.0 else 0.93
    )
    assert set(np.unique(fine)) == {0, 3}


def test_lung_behind_a_thin_pleura_stays_lung() -> None:
    # Air, a pleura of 1 mm, lung; voxels of 0.7 mm, so that two make one of the working grid.
    place = (np.arange(96) + 0.5) * 0.7 - 33.6
    pleura = ndimage.gaussian_filter1d((np.abs(place) < 0.5).astype(float), 0.6)
    hu = np.where(place < 0, LEVELS.air_hu, LEVELS.lung_hu) + pleura * (40.0 - LEVELS.lung_hu)
    volume = Volume.centred(np.broadcast_to(hu, (40, 40, 96)).astype(np.float32), (0.7, 0.7, 0.7))
    grid = working_grid(volume, (slice(0, 40), slice(0, 40), slice(0, 96)))
    half = grid.volume.shape[2] // 2
    classes = np.full(grid.volume.shape, 1, np.uint8)
    classes[:, :, :half] = 3
    edges = edge_levels(LEVELS, 0.7)
    fine = onto_input(grid, classes, edges=(edges, edges), air_hu=LEVELS.air_hu)
    row = fine[20, 20]
    # The working grid parts them within a voxel of the pleura's middle; no lung beyond it may turn into air.
    assert (row[place > 0.7] == 1).all()
    assert (row[place < -1.4] == 3).all()


@pytest.mark.parametrize("split", [1, 2])
def test_a_core_reaches_a_wall_that_is_blurred(split: int) -> None:
    own = D > 8
    # The core begins behind the partial volume of the wall: two voxels of it, and more where slices are interpolated.
    core = (np.abs(D - 11 - split) < 1.5) & (np.hypot(H - 20, W - 20) < 10)
    hu = np.where(core, -980.0, np.where(own, -550.0, 40.0)).astype(np.float32)
    levels = replace(LEVELS, spread=(split - 1, 0, 0))
    assert _ends_at_wall_and_step(core, own, hu, levels)
    if split > 1:
        assert not _ends_at_wall_and_step(core, own, hu, LEVELS)


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
    found = body.at([np.arange(n) for n in volume.shape])
    assert (found & phantom64.structures["body"]).sum() > 0.95 * phantom64.structures["body"].sum()
    table = phantom64.structures["table"] & ~phantom64.structures["body"]
    assert (found & table).sum() < 0.1 * table.sum()


def test_windpipe_gives_the_level_of_air(phantom64: Phantom) -> None:
    volume = phantom64.volume
    body = find_body(volume)
    grid = working_grid(volume, body.box())
    found = find_airways(np.asarray(grid.volume.hu), body.at(grid.nearest_voxels()), grid.spacing_mm)
    assert found.found
    assert -1001.0 <= found.air_hu < -950.0
    assert found.carina is not None
    trachea = phantom64.structures["airways"]
    at = [np.clip(i, 0, n - 1) for i, n in zip(grid.nearest_voxels(), volume.shape, strict=True)]
    assert (found.mask & morphology.grown(trachea)[np.ix_(*at)]).sum() > 0.9 * found.mask.sum()


def film(thickness: int, *, pleura_hu: float = -450.0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A block of lung with air of some voxels in front of it, and the hemithorax."""
    own = (np.abs(D - 20) < 17) & (np.abs(H - 20) < 17) & (np.abs(W - 20) < 17)
    hu = np.where(own, -850.0, 40.0).astype(np.float32)
    part = own & (4 + thickness > H)
    hu[part] = -980.0
    hu[own & (4 + thickness == H)] = pleura_hu
    noise = np.random.default_rng(0).normal(0.0, 10.0, SHAPE).astype(np.float32)
    return hu + noise, own


@pytest.mark.parametrize("thickness", [2, 4, 8])
def test_air_in_front_of_the_lung_is_a_pneumothorax(thickness: int) -> None:
    hu, own = film(thickness)
    spacing = (1.8, 1.8, 1.8)
    labels, count = find_candidates(hu, own, LEVELS, spacing=spacing)
    assert count == 1
    truth = own & (4 + thickness > H)
    assert 2.0 * float(((labels > 0) & truth).sum()) / float((labels > 0).sum() + truth.sum()) > 0.97
    features = judge.measure(labels > 0, own, hu, levels=LEVELS, spacing=spacing)
    verdict = judge.judge(features, LEVELS, pitch_mm=1.8)
    assert verdict.kind == judge.PNEUMOTHORAX
    assert features.wall_share > 0.3
    assert features.volume_ml == pytest.approx(truth.sum() * 1.8**3 / 1000.0, rel=0.05)


def test_thin_lung_between_air_and_wall_stays_lung() -> None:
    """Nowhere deep enough for a core of lung, as at the heart and in the recesses: air must not flood it."""
    hu, own = film(6)
    tongue = own & (H > 10) & (H < 17)
    own &= H < 17
    hu[H >= 17] = 40.0
    labels, count = find_candidates(hu, own, LEVELS, spacing=(1.8, 1.8, 1.8))
    assert count == 1
    assert (labels[own & (H < 10)] > 0).mean() > 0.97
    assert (labels[tongue] > 0).mean() < 0.01


@pytest.mark.parametrize(("line_hu", "kept"), [(-800.0, 0.0), (-400.0, 1.0)])
def test_thin_lung_without_a_pleural_line_is_no_air(line_hu: float, kept: float) -> None:
    """Behind a film of air lies something hardly brighter: lung, unless a pleural line parts it from the lung."""
    levels = AirLevels(-980.0, 10.0, -800.0)
    own = (np.abs(D - 20) < 17) & (np.abs(H - 20) < 17) & (np.abs(W - 20) < 17)
    hu = np.where(own, -800.0, 40.0).astype(np.float32)
    film = own & (H <= 7)
    thin = own & (H > 7) & (H < 14) & (np.abs(W - 20) < 6) & (np.abs(D - 20) < 6)
    hu[film], hu[own & (H == 8)] = -980.0, -450.0
    hu[morphology.grown(thin) & ~thin & ~film] = line_hu
    hu[thin] = -904.0
    hu += np.random.default_rng(0).normal(0.0, 6.0, SHAPE).astype(np.float32)
    labels, count = find_candidates(hu, own, levels, spacing=(1.8, 1.8, 1.8))
    assert count == 1
    assert (labels[film] > 0).mean() > 0.97
    assert (labels[thin & (H > 9)] > 0).mean() == pytest.approx(kept, abs=0.1)


def test_plain_lung_holds_no_candidate() -> None:
    own = (np.abs(D - 20) < 17) & (np.abs(H - 20) < 17) & (np.abs(W - 20) < 17)
    texture = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), 1.0)
    hu = np.where(own, -850.0 + 40.0 * texture / texture.std(), 40.0).astype(np.float32)
    assert find_candidates(hu, own, LEVELS, spacing=(1.8, 1.8, 1.8))[1] == 0


def test_a_bubble_inside_the_lung_is_no_pneumothorax() -> None:
    own = ball(18)
    hu = np.where(own, -850.0, 40.0).astype(np.float32)
    bubble = ball(7)
    hu[bubble] = -980.0
    hu[morphology.grown(bubble) & ~bubble] = -500.0
    assert find_candidates(hu, own, LEVELS, spacing=(1.8, 1.8, 1.8))[1] == 0
    features = judge.measure(bubble, own, hu, levels=LEVELS, spacing=(1.8, 1.8, 1.8))
    assert features.sphericity > 0.7
    assert judge.judge(features, LEVELS, pitch_mm=1.8).kind == judge.BULLA


FEATURES = {
    "volume_ml": 80.0,
    "wall_share": 0.4,
    "edge_hu": 440.0,
    "step_hu": 200.0,
    "above_air_hu": 8.0,
    "spread_hu": 12.0,
    "depth_mm": 8.0,
    "sphericity": 0.3,
    "top": 0.2,
    "bottom": 0.7,
}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, judge.PNEUMOTHORAX),
        ({"volume_ml": 1.0}, judge.UNCERTAIN),
        ({"wall_share": 0.02}, judge.BULLA),
        ({"above_air_hu": 80.0}, judge.BULLA),
        ({"above_air_hu": 80.0, "depth_mm": 3.0}, judge.PNEUMOTHORAX),
        ({"edge_hu": 150.0, "above_air_hu": 30.0}, judge.BULLA),
        ({"edge_hu": 150.0}, judge.PNEUMOTHORAX),
        ({"edge_hu": 150.0, "volume_ml": 12.0}, judge.BULLA),
        ({"edge_hu": 440.0, "volume_ml": 12.0}, judge.PNEUMOTHORAX),
        ({"sphericity": 0.9, "edge_hu": 900.0}, judge.BOWEL),
        ({"sphericity": 0.9}, judge.BULLA),
        ({"edge_hu": 850.0, "top": 0.7, "bottom": 1.0}, judge.BOWEL),
        ({"edge_hu": 850.0, "top": 0.3, "bottom": 1.0}, judge.PNEUMOTHORAX),
        ({"edge_hu": 950.0, "step_hu": 950.0, "top": 0.7, "bottom": 1.0}, judge.PNEUMOTHORAX),
        ({"wall_share": 0.9, "edge_hu": 950.0, "top": 0.8}, judge.BOWEL),
        ({"wall_share": 0.9, "edge_hu": 950.0, "volume_ml": 6.0}, judge.OESOPHAGUS),
        ({"wall_share": 0.9, "edge_hu": 950.0, "volume_ml": 900.0}, judge.PNEUMOTHORAX),
    ],
)
def test_verdicts(change: dict[str, float], kind: str) -> None:
    verdict = judge.judge(judge.Features(**(FEATURES | change)), LEVELS, pitch_mm=1.8)
    assert verdict.kind == kind
    assert 0.0 < verdict.confidence <= 1.0
    assert verdict.reason


def test_what_bulges_into_the_lung_is_counted_with_little_confidence_and_the_reason() -> None:
    plain, bulging = (
        judge.judge(judge.Features(**(FEATURES | {"lung_share": share})), LEVELS, pitch_mm=1.8) for share in (0.5, 0.58)
    )
    assert plain.kind == bulging.kind == judge.PNEUMOTHORAX
    assert plain.confidence > 0.6 and bulging.confidence <= 0.3
    assert "bulges into the lung (58% lung" in bulging.reason and "bulges" not in plain.reason
    on_wall = judge.judge(judge.Features(**(FEATURES | {"lung_share": 0.58, "wall_share": 0.6})), LEVELS, pitch_mm=1.8)
    assert on_wall.confidence > 0.6 and "bulges" not in on_wall.reason


def test_air_without_a_pleural_line_is_counted_with_little_confidence_and_the_reason() -> None:
    plain, lineless = (
        judge.judge(judge.Features(**(FEATURES | {"edge_hu": rise})), LEVELS, pitch_mm=1.8) for rise in (440.0, 150.0)
    )
    assert plain.kind == lineless.kind == judge.PNEUMOTHORAX
    assert plain.confidence > 0.6 and lineless.confidence <= 0.3
    assert "no pleural line is seen (HU rise by 150" in lineless.reason and "pleural line" not in plain.reason


def test_what_bulges_into_the_lung_and_has_no_pleural_line_is_a_bulla() -> None:
    both = judge.Features(**(FEATURES | {"edge_hu": 150.0, "lung_share": 0.58}))
    verdict = judge.judge(both, LEVELS, pitch_mm=1.8)
    assert verdict.kind == judge.BULLA
    assert "bulges into the lung" in verdict.reason and "no pleural line" in verdict.reason
    between_slices = judge.judge(both, replace(LEVELS, spread=(1, 0, 0)), pitch_mm=5.0)
    assert between_slices.kind == judge.PNEUMOTHORAX and between_slices.confidence <= 0.3


def test_in_smooth_images_thin_lung_is_not_told_from_air() -> None:
    smooth = AirLevels(-975.0, 5.0, -880.0, smooth=True)
    assert judge.judge(judge.Features(**FEATURES), smooth, pitch_mm=1.8).kind == judge.UNCERTAIN


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, judge.PNEUMOTHORAX),
        ({"depth_mm": 15.0}, judge.PNEUMOTHORAX),
        ({"depth_mm": 15.0, "above_air_hu": 40.0}, judge.BULLA),
        ({"depth_mm": 8.0, "above_air_hu": 40.0}, judge.PNEUMOTHORAX),
        ({"depth_mm": 15.0, "spread_hu": 30.0}, judge.UNCERTAIN),
        ({"depth_mm": 8.0, "spread_hu": 30.0}, judge.PNEUMOTHORAX),
        ({"wall_share": 0.5}, judge.BULLA),
        ({"depth_mm": 3.0, "above_air_hu": 80.0}, judge.BULLA),
    ],
)
def test_in_smooth_images_the_middle_of_a_deep_pocket_is_empty_and_even(change: dict[str, float], kind: str) -> None:
    smooth = AirLevels(-975.0, 5.0, -800.0, smooth=True)
    features = judge.Features(**(FEATURES | {"edge_hu": 200.0, "wall_share": 0.65} | change))
    verdict = judge.judge(features, smooth, pitch_mm=6.0)
    assert verdict.kind == kind, verdict


@pytest.mark.parametrize(
    ("hu", "spacing", "message"),
    [
        (np.linspace(0.0, 1.0, 1000), 20.0, r"scaled to \[0, 1\]"),
        (np.linspace(0.0, 4095.0, 1000), 20.0, "subtract 1024"),
        (np.full(1000, -1000.0), 20.0, "constant"),
        (np.linspace(-1000.0, -200.0, 1000), 20.0, "nothing as dense as soft tissue"),
        (np.linspace(-1000.0, 1000.0, 1000), 1.0, "check the spacing"),
        (np.linspace(-1000.0, 1000.0, 1000), 900.0, "check the spacing"),
    ],
)
def test_what_cannot_be_a_chest_ct_is_refused(hu: NDArray[np.float64], spacing: float, message: str) -> None:
    volume = Volume.centred(hu.reshape(10, 10, 10).astype(np.float32), (spacing,) * 3)
    with pytest.raises(InputError, match=message):
        plausibility.check_units(volume)


def test_sharpness_is_the_width_of_an_edge() -> None:
    lung = ball(14)
    sharp = ndimage.gaussian_filter(np.where(lung, -860.0, 40.0).astype(np.float32), 0.6)
    soft = ndimage.gaussian_filter(sharp, 3.0)
    widths = [plausibility.edge_width_mm(hu, hu < -410.0, (2.0, 2.0, 2.0)) for hu in (sharp, soft)]
    assert widths[0] < 5.0 < 10.0 < widths[1]
    assert [plausibility.is_smooth(width) for width in widths] == [False, True]


def test_a_lung_that_leaves_the_picture_is_named() -> None:
    sides = np.zeros(SHAPE, dtype=np.uint8)
    sides[5:, 5:30, 5:30] = 1
    assert plausibility.cut_sides(sides) == ["feet"]
    assert plausibility.cut_sides(ball(12).astype(np.uint8)) == []


def test_lung_models_are_named_and_unknown_ones_refused() -> None:
    assert {"auto", "classical"} <= set(lung_models.names())
    assert lung_models.resolve("classical").load() is lung_models.classical
    assert lung_models.resolve("auto").name in lung_models.names()
    with pytest.raises(InputError, match="'resnet' is unknown; choose one of auto, classical"):
        lung_models.resolve("resnet")
    with pytest.raises(ValueError, match="registered already"):
        lung_models.register(lung_models.Entry("classical", lambda: lung_models.classical, ""))


def test_the_detection_limit_is_that_of_the_slices() -> None:
    plain = {"thick_slices": False, "smooth_image": False, "very_noisy": False}
    assert detection_limit_ml(plain, far_apart=False) == 45.0
    assert detection_limit_ml(plain, far_apart=True) == 200.0
    assert detection_limit_ml({**plain, "very_noisy": True}, far_apart=False) is None


def test_the_wide_closing_of_a_compressed_lung_takes_vessels_and_no_bronchi() -> None:
    vessel = (np.abs(H - 20) <= 2) & (np.abs(W - 14) <= 2)
    bronchus = (np.abs(H - 20) <= 1) & (np.abs(W - 26) <= 1)
    wall = morphology.dilate(bronchus, 2.0, (2.0, 2.0, 2.0))
    classes = np.where(ball(17) & ~vessel & ~wall, np.uint8(RIGHT), np.uint8(0))
    hu = np.where(vessel, 50.0, np.where(bronchus, -980.0, -400.0)).astype(np.float32)
    added = _dense_lung(hu, classes, bronchus, side=Side.RIGHT, spacing=(2.0, 2.0, 2.0))
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
    stray = pipeline._stray(whole, hu)
    assert stray[dome].all() and not stray[lung | lobe | rest].any()
    assert not pipeline._stray(np.zeros_like(whole), hu).any()


def test_a_part_that_only_the_other_lung_meets_is_the_others() -> None:
    right, left = ball(9, (20, 20, 9)), ball(9, (20, 20, 32))
    patch, alone = ball(3, (29, 20, 27)) & ~left, ball(2, (4, 4, 4)) & ~right
    image = np.where(right | patch | alone, np.uint8(1), np.where(left, np.uint8(2), np.uint8(0)))
    found = _reunited(image.copy())
    assert (found[patch] == 2).mean() > 0.9
    assert (found[right | alone] == 1).all() and (found[left] == 2).all()


def test_skin_of_an_arm_is_no_lung() -> None:
    inner = W < 37
    arm, lobe = (np.abs(D - 17) < 2) & (H < 30) & (W >= 35) & (W < 37), ball(4, (17, 20, 28))
    assert lungs._along_skin(arm, inner) and not lungs._along_skin(lobe, inner)
    lung = ball(9, (22, 20, 10))
    kept = lungs._beside_lung(lung | arm | lobe, inner)
    assert not kept[arm].any() and kept[lung | lobe].all()
    assert lungs._beside_lung(lung | arm | lobe, np.ones_like(inner))[arm].all()
