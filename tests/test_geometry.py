"""ConeBeam: validation, presets, and what it writes into a side-car."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrecon.errors import GeometryError
from xrecon.geometry import FRAME_MM, PRESETS, VIEW_POSITIONS, ConeBeam

BEAM = ConeBeam(541.0, 949.0, (48, 64), (2.0, 1.5), angle_deg=10.0, translation_mm=(1.0, 2.0, 3.0), mirrored=True)
finite = st.floats(-1e3, 1e3)


@settings(deadline=None, max_examples=30)
@given(angle=finite, tilt=finite, x=finite, shift=finite, mirrored=st.booleans(), rows=st.integers(1, 4096))
def test_round_trip_through_json(angle: float, tilt: float, x: float, shift: float, mirrored: bool, rows: int) -> None:
    beam = ConeBeam(
        1600.0,
        1800.0,
        (rows, 7),
        (0.139, 0.143),
        angle_deg=angle,
        tilt_deg=tilt,
        translation_mm=(x, 0.0, -x),
        detector_shift_mm=(shift, 0.5),
        mirrored=mirrored,
        name="film 12",
    )
    read = ConeBeam.from_dict(json.loads(json.dumps(beam.to_dict())))
    assert read == beam and hash(read) == hash(beam)


def test_lists_and_numpy_scalars_become_plain_values() -> None:
    loose = ConeBeam(
        np.float32(541),
        949,
        [np.int64(48), 64],
        np.array([2.0, 1.5]),
        angle_deg=10,
        translation_mm=[1, 2, 3],
        mirrored=True,
    )
    assert loose == BEAM and hash(loose) == hash(BEAM)
    assert json.loads(json.dumps(loose.to_dict()))["detector_shape"] == [48, 64]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"detector_size": (3, 3)}, "detector_size"),
        ({"detector_shape": 5}, "detector_shape.*5"),
        ({"detector_shape": (0, 4)}, "detector_shape.*0, 4"),
        ({"detector_shape": (4,)}, "detector_shape"),
        ({"detector_shape": (4.5, 4)}, "detector_shape.*4.5"),
        ({"pixel_mm": (1.0,)}, "pixel_mm"),
        ({"pixel_mm": (1.0, 0.0)}, "pixel_mm must be positive"),
        ({"pixel_mm": (1.0, math.inf)}, "pixel_mm.*inf"),
        ({"angle_deg": math.nan}, "angle_deg.*nan"),
        ({"tilt_deg": "steep"}, "tilt_deg.*steep"),
        ({"roll_deg": None}, "roll_deg"),
        ({"translation_mm": (1.0, 2.0)}, "translation_mm must hold 3"),
        ({"detector_shift_mm": (1.0, math.nan)}, "detector_shift_mm"),
        ({"source_to_isocentre_mm": -1.0}, "source_to_isocentre_mm must be positive"),
        ({"source_to_detector_mm": 541.0}, "source_to_detector_mm=541"),
        ({"mirrored": "false"}, "mirrored.*false"),
    ],
)
def test_bad_values_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(GeometryError, match=named):
        ConeBeam.from_dict({**BEAM.to_dict(), **change})


def test_missing_key_is_named() -> None:
    values = BEAM.to_dict()
    del values["pixel_mm"]
    with pytest.raises(GeometryError, match="pixel_mm"):
        ConeBeam.from_dict(values)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("view", VIEW_POSITIONS)
def test_presets(preset: str, view: str) -> None:
    beam = ConeBeam.preset(preset, view, size=96)
    assert beam.name == preset and beam.detector_shape == (96, 96) and beam.is_aligned
    assert (beam.angle_deg, beam.mirrored) == VIEW_POSITIONS[view]
    if preset != "prost":
        assert 96 * beam.pixel_at_isocentre_mm[1] == pytest.approx(FRAME_MM)


@pytest.mark.parametrize(("preset", "ratio"), [("chest", 1800 / 1540), ("x2ct", 949 / 541), ("prost", 700 / 300)])
def test_preset_magnification(preset: str, ratio: float) -> None:
    beam = ConeBeam.preset(preset)
    assert beam.magnification == pytest.approx(ratio)
    assert beam.pixel_mm[0] == pytest.approx(beam.pixel_at_isocentre_mm[0] * ratio)


def test_prost_keeps_its_own_detector() -> None:
    assert 128 * ConeBeam.preset("prost", size=128).pixel_mm[0] == pytest.approx(373.76)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"name": "Chest"}, "'Chest'.*chest, x2ct, prost"),
        ({"name": "chest", "view": "oblique"}, "'oblique'.*pa, ap"),
        ({"name": "chest", "size": 0}, "size.*0"),
        ({"name": "chest", "frame_mm": 0.0}, "pixel_mm"),
    ],
)
def test_unknown_presets_are_named(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(GeometryError, match=named):
        ConeBeam.preset(**arguments)


def test_with_detector_keeps_the_area() -> None:
    finer = BEAM.with_detector((96, 16))
    for axis in range(2):
        area = BEAM.detector_shape[axis] * BEAM.pixel_mm[axis]
        assert finer.detector_shape[axis] * finer.pixel_mm[axis] == pytest.approx(area)
    assert replace(finer, detector_shape=BEAM.detector_shape, pixel_mm=BEAM.pixel_mm) == BEAM
    with pytest.raises(GeometryError, match=r"detector_shape.*0, 3"):
        BEAM.with_detector((0, 3))


def test_moved_adds_to_the_pose() -> None:
    moved = BEAM.moved(angle_deg=5.0, tilt_deg=-2.0, roll_deg=1.0, translation_mm=(1.0, -2.0, 0.5))
    assert (moved.angle_deg, moved.tilt_deg, moved.roll_deg) == (15.0, -2.0, 1.0)
    assert moved.translation_mm == (2.0, 0.0, 3.5)
    assert BEAM.moved() == BEAM


@pytest.mark.parametrize("pose", [(0.0, 0.0, 0.0), (33.0, -12.0, 71.0)])
def test_rotation_is_proper_and_turns_about_the_long_axis_first(pose: tuple[float, float, float]) -> None:
    angle, tilt, roll = pose
    rotation = BEAM.moved(angle_deg=angle - 10.0, tilt_deg=tilt, roll_deg=roll).rotation
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    towards_source = rotation[:, 1]
    expected = [-math.sin(math.radians(angle)), math.cos(math.radians(angle))]
    np.testing.assert_allclose(towards_source[:2] / math.cos(math.radians(tilt)), expected, atol=1e-12)
    assert towards_source[2] == pytest.approx(math.sin(math.radians(tilt)))


@pytest.mark.parametrize(
    ("change", "aligned"),
    [
        ({}, False),
        ({"angle_deg": 0.0}, True),
        ({"angle_deg": -450.0}, True),
        ({"angle_deg": 90.0, "roll_deg": 1e-6}, False),
    ],
)
def test_is_aligned(change: dict[str, float], aligned: bool) -> None:
    assert replace(BEAM, **change).is_aligned is aligned


def test_text_names_what_differs_from_a_plain_film() -> None:
    text = str(BEAM.moved(tilt_deg=3.0))
    for words in ("541 mm", "949 mm", "48x64", "angle 10", "tilt 3", "moved", "mirrored"):
        assert words in text
