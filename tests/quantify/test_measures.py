"""Depths, indices and location of shapes whose answers are known on paper."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrecon.quantify.canonical import chest_frame
from xrecon.quantify.measures import SideMeasures, measure
from xrecon.quantify.mediastinum import USUAL_OFFSET_MM, USUAL_SPREAD_MM
from xrecon.segmentation import Segmentation

SPACINGS = [(2.0, 2.0, 2.0), (3.0, 1.0, 1.0), (1.5, 2.5, 1.5)]


def side(segmentation: Segmentation, name: str = "right") -> SideMeasures:
    measures = getattr(measure(segmentation), name)
    assert measures is not None
    return measures


@pytest.mark.parametrize("spacing_mm", SPACINGS, ids=str)
@pytest.mark.parametrize("gap_mm", [12.0, 30.0])
def test_lateral_pocket(two_balls, spacing_mm, gap_mm) -> None:
    """A lung ball that touches the cavity medially leaves a lateral gap of twice the difference of the radii."""
    measures = side(two_balls(right=((0, 0, -75 + gap_mm / 2), 60 - gap_mm / 2), spacing_mm=spacing_mm))
    assert measures.radial_depth is not None
    assert measures.radial_depth.depth_mm == pytest.approx(gap_mm, abs=1.2 * max(spacing_mm))
    assert measures.radial_depth.wall_lps_mm[0] < measures.radial_depth.inner_lps_mm[0] < 0, "the wall lies outside"
    assert measures.radial_depth_at_hilum is not None
    assert measures.radial_depth_at_hilum.depth_mm == pytest.approx(gap_mm, abs=1.2 * max(spacing_mm))
    assert measures.rim_at_hilum_mm == pytest.approx(gap_mm, abs=1.01 * spacing_mm[2])
    assert measures.apex_to_cupola_mm == pytest.approx(gap_mm / 2, abs=spacing_mm[0])
    assert measures.light is not None
    assert measures.light.percent == pytest.approx(100 * (1 - (1 - gap_mm / 120) ** 3), abs=3)
    # What the cap of the lung ball leaves of the lateral half of the cavity.
    lung_mm, cap_mm = 60 - gap_mm / 2, 60 - gap_mm
    lateral = 2 / 3 * 60**3 - cap_mm**2 * (3 * lung_mm - cap_mm) / 3
    assert measures.location.lateral == pytest.approx(lateral / (4 / 3 * (60**3 - lung_mm**3)), abs=0.01)
    assert "lateral" in measures.location.words


@pytest.mark.parametrize(
    ("centre", "words", "share"),
    [
        ((0, 20, 75), "anterior", "anterior"),
        ((0, -20, 75), "posterior", "posterior"),
        ((20, 0, 75), "apical", "apical"),
        ((-20, 0, 75), "basal", "basal"),
        ((0, 0, 95), "medial", "medial"),
    ],
)
def test_location_on_the_left(two_balls, centre, words, share) -> None:
    measures = side(two_balls(left=(centre, 60.0)), "left")
    assert words in measures.location.words
    assert getattr(measures.location, share) > 0.55
    location = measures.location
    assert location.anterior + location.posterior == pytest.approx(1)
    assert location.lateral + location.medial == pytest.approx(1)
    assert location.apical + location.mid + location.basal == pytest.approx(1)


def test_apical_pocket_and_collins(two_balls) -> None:
    """The lung ball of 40 mm hangs 40 mm below the cupola; chords at a quarter of it from its ends give B and C."""
    measures = side(two_balls(right=((20, 0, -75), 40.0), spacing_mm=(1.25, 1.25, 1.25)))
    assert measures.apex_to_cupola_mm == pytest.approx(40, abs=1)
    assert measures.radial_depth is not None
    assert measures.radial_depth.depth_mm == pytest.approx(40, abs=1.5)
    assert measures.radial_depth.wall_lps_mm[2] > 55, "the cupola is wall"

    def gap(d_mm: float) -> float:
        return np.sqrt(60**2 - d_mm**2) - np.sqrt(40**2 - (d_mm - 20) ** 2)

    expected = [40 / 10, gap(0.0) / 10, gap(40.0) / 10]
    assert measures.collins is not None
    assert [measures.collins.a_cm, measures.collins.b_cm, measures.collins.c_cm] == pytest.approx(expected, abs=0.12)
    assert measures.collins.percent == pytest.approx(4.2 + 4.7 * sum(expected), abs=1.5)
    assert measures.collins.level_b_z_mm == pytest.approx(0.0, abs=1.5)
    assert measures.collins.level_c_z_mm == pytest.approx(-40.0, abs=1.5)
    assert measures.hilum_level_z_mm == pytest.approx(0.0, abs=1.0)


def test_concentric_shell_is_as_deep_as_it_is_thick(two_balls) -> None:
    measures = side(two_balls(right=((0, 0, -75), 45.0)))
    assert measures.radial_depth is not None
    assert measures.radial_depth.depth_mm == pytest.approx(15, rel=0.12, abs=1.5)


def test_a_sheet_of_lung_hides_the_wall_behind_it(two_balls) -> None:
    """Air on both sides of an upright sheet: its medial face must not be measured through it to the lateral wall."""
    base = two_balls(right=((0, 0, -75), 0.1))
    labels, air = np.array(base.labels), np.array(base.air_side)
    w = (np.arange(labels.shape[2]) - (labels.shape[2] - 1) / 2) * 2.0
    sheet = (labels == 3) & (np.abs(w + 55) < 5)[None, None, :]  # 40 mm of air lateral to it, 40 mm medial
    labels[sheet], air[sheet] = 1, 0
    measures = side(Segmentation(labels, air, base.affine))
    assert measures.radial_depth is not None
    x_inner, x_wall = measures.radial_depth.inner_lps_mm[0], measures.radial_depth.wall_lps_mm[0]
    assert not x_wall < -60 < -50 <= x_inner, "the line would cross the sheet"
    # The lateral face lies 15 mm from the cavity's centre: 75 mm to the far wall, but at most 60 + 15 from it.
    assert measures.radial_depth.depth_mm < 76
    assert measures.location.lateral > 0.5


def test_no_lung_on_a_side(two_balls) -> None:
    base = two_balls(right=((0, 0, -75), 0.1))
    labels = np.where(base.labels == 1, 0, base.labels).astype(np.uint8)
    measures = side(Segmentation(labels, base.air_side, base.affine))
    assert measures.apex_to_cupola_mm is None and measures.rim_at_hilum_mm is None and measures.collins is None
    assert measures.light is not None and measures.light.percent == 100.0
    assert any("no lung was found" in note for note in measures.notes)


def test_a_healthy_chest_has_no_sides_and_an_empty_one_nothing(two_balls) -> None:
    healthy = measure(two_balls())
    assert healthy.sides == () and healthy.mediastinum is not None
    nothing = np.zeros((4, 4, 4), np.uint8)
    empty = measure(Segmentation(nothing, nothing.copy(), np.eye(4)))
    assert (empty.right, empty.left, empty.mediastinum, empty.cut) == (None, None, None, ())


def test_one_voxel_of_air_is_measured_without_failing(two_balls) -> None:
    base = two_balls()
    labels, air = np.array(base.labels), np.array(base.air_side)
    d, h, w = np.argwhere(labels == 1)[0]
    labels[d, h, w], air[d, h, w] = 3, 1
    measures = side(Segmentation(labels, air, base.affine))
    assert measures.radial_depth is None or measures.radial_depth.depth_mm < 6


@settings(deadline=None, max_examples=4)
@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_the_stored_orientation_does_not_matter(two_balls, order, flips) -> None:
    base = two_balls(right=((10, 5, -68), 48.0), spacing_mm=(4.0, 3.0, 3.5))
    turn = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    for new, old in enumerate(order):
        matrix[old, new] = -1 if flips[new] else 1
        matrix[old, 3] = base.shape[old] - 1 if flips[new] else 0
    turned = Segmentation(
        np.ascontiguousarray(base.labels.transpose(order)[turn]),
        np.ascontiguousarray(base.air_side.transpose(order)[turn]),
        base.affine @ matrix,
    )
    straight, chest = side(base), measure(turned)
    other = chest.right
    assert chest.left is None and other is not None
    assert other.radial_depth is not None and straight.radial_depth is not None
    assert other.radial_depth.wall_lps_mm == pytest.approx(straight.radial_depth.wall_lps_mm)
    for name in ("apex_to_cupola_mm", "rim_at_hilum_mm", "hilum_level_z_mm"):
        assert getattr(other, name) == pytest.approx(getattr(straight, name))
    assert other.location == straight.location


def test_mirroring_the_patient_swaps_the_sides_and_the_shift(two_balls) -> None:
    base = two_balls(right=((0, 0, -65), 50.0))
    labels = np.array(base.labels)[..., ::-1]
    other_side = np.array([0, 2, 1, 3], np.uint8)
    mirrored = Segmentation(other_side[labels], other_side[np.array(base.air_side)[..., ::-1]], base.affine)
    original, mirror = measure(base), measure(mirrored)
    assert original.left is None and mirror.right is None
    assert original.right is not None and mirror.left is not None
    assert mirror.left.location == original.right.location
    assert mirror.left.rim_at_hilum_mm == pytest.approx(original.right.rim_at_hilum_mm)
    assert original.mediastinum is not None and mirror.mediastinum is not None
    assert mirror.mediastinum.offset_mm == pytest.approx(-original.mediastinum.offset_mm, abs=1e-9)


@pytest.mark.parametrize("moved_mm", [-30.0, 0.0, 30.0])
def test_mediastinal_shift(moved_mm) -> None:
    """Two boxes with a mediastinum 40 mm wide between them, `moved_mm` to the left of the midline; air on the right."""
    labels, air = np.zeros((60, 40, 150), np.uint8), np.zeros((60, 40, 150), np.uint8)
    w = (np.arange(150) - 74.5) * 2.0
    right, left = (w > -120) & (w < moved_mm - 20), (w < 120) & (w > moved_mm + 20)
    labels[5:55, 5:35, right], labels[5:55, 5:35, left] = 1, 2
    labels[5:55, 5:8, right], air[5:55, 5:8, right] = 3, 1
    affine = np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [-2.0, 0, 0, 0], [0, 0, 0, 1]])
    shift = measure(Segmentation(labels, air, affine)).mediastinum
    assert shift is not None
    assert shift.offset_mm == pytest.approx(moved_mm, abs=1)
    assert shift.shift_mm == pytest.approx(moved_mm - USUAL_OFFSET_MM, abs=1)
    expected = {-30.0: ("right", False), 0.0: ("none", None), 30.0: ("left", True)}[moved_mm]
    assert (shift.direction, shift.away_from_air) == expected
    assert abs(0.0 - USUAL_OFFSET_MM) < 2 * USUAL_SPREAD_MM


def test_a_cut_scan_is_noticed(two_balls) -> None:
    base = two_balls(right=((0, 0, -65), 50.0))
    cut = Segmentation(base.labels[20:].copy(), base.air_side[20:].copy(), base.affine)
    chest = measure(cut)
    assert chest.cut == ("head",)
    assert chest.right is not None
    assert any("apex" in note for note in chest.right.notes)
    assert chest.right.radial_depth is not None
    assert chest.right.radial_depth.depth_mm == pytest.approx(20, abs=2.5), "the cut face is no wall"


def test_the_frame_is_a_small_box(two_balls) -> None:
    frame = chest_frame(two_balls(spacing_mm=(4.0, 4.0, 4.0)))
    assert frame is not None
    assert all(n <= e for n, e in zip(frame.labels.shape, (34, 34, 72), strict=True))
    assert frame.cut == ()
