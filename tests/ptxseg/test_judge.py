"""What a candidate is taken for, by its measurements."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.voxel_shapes import LEVELS
from xrecon.ptxseg import judge
from xrecon.ptxseg.features import Features
from xrecon.ptxseg.levels import AirLevels

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
    verdict = judge.judge(Features(**(FEATURES | change)), LEVELS, pitch_mm=1.8)
    assert verdict.kind == kind
    assert 0.0 < verdict.confidence <= 1.0
    assert verdict.reason


def test_what_bulges_into_the_lung_is_counted_with_little_confidence_and_the_reason() -> None:
    plain, bulging = (
        judge.judge(Features(**(FEATURES | {"lung_share": share})), LEVELS, pitch_mm=1.8) for share in (0.5, 0.58)
    )
    assert plain.kind == bulging.kind == judge.PNEUMOTHORAX
    assert plain.confidence > 0.6 and bulging.confidence <= 0.3
    assert "bulges into the lung (58% lung" in bulging.reason and "bulges" not in plain.reason
    on_wall = judge.judge(Features(**(FEATURES | {"lung_share": 0.58, "wall_share": 0.6})), LEVELS, pitch_mm=1.8)
    assert on_wall.confidence > 0.6 and "bulges" not in on_wall.reason


def test_air_without_a_pleural_line_is_counted_with_little_confidence_and_the_reason() -> None:
    plain, lineless = (
        judge.judge(Features(**(FEATURES | {"edge_hu": rise})), LEVELS, pitch_mm=1.8) for rise in (440.0, 150.0)
    )
    assert plain.kind == lineless.kind == judge.PNEUMOTHORAX
    assert plain.confidence > 0.6 and lineless.confidence <= 0.3
    assert "no pleural line is seen (HU rise by 150" in lineless.reason and "pleural line" not in plain.reason


def test_what_bulges_into_the_lung_and_has_no_pleural_line_is_a_bulla() -> None:
    both = Features(**(FEATURES | {"edge_hu": 150.0, "lung_share": 0.58}))
    verdict = judge.judge(both, LEVELS, pitch_mm=1.8)
    assert verdict.kind == judge.BULLA
    assert "bulges into the lung" in verdict.reason and "no pleural line" in verdict.reason
    between_slices = judge.judge(both, replace(LEVELS, spread=(1, 0, 0)), pitch_mm=5.0)
    assert between_slices.kind == judge.PNEUMOTHORAX and between_slices.confidence <= 0.3


def test_in_smooth_images_thin_lung_is_not_told_from_air() -> None:
    smooth = AirLevels(-975.0, 5.0, -880.0, smooth=True)
    assert judge.judge(Features(**FEATURES), smooth, pitch_mm=1.8).kind == judge.UNCERTAIN


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
    features = Features(**(FEATURES | {"edge_hu": 200.0, "wall_share": 0.65} | change))
    verdict = judge.judge(features, smooth, pitch_mm=6.0)
    assert verdict.kind == kind, verdict
