"""What a candidate is taken for, by its measurements."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.voxel_shapes import LEVELS
from xrecon.ptxseg import judge
from xrecon.ptxseg.candidates.features import Features
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
    features = Features(**(FEATURES | {"edge_hu": 150.0, "lung_share": 0.58}))
    verdict = judge.judge(features, LEVELS, pitch_mm=1.8)
    assert verdict.kind == judge.BULLA
    assert "bulges into the lung" in verdict.reason and "no pleural line" in verdict.reason
    between_slices = judge.judge(features, replace(LEVELS, spread=(1, 0, 0)), pitch_mm=5.0)
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


SMOOTH = AirLevels(-975.0, 5.0, -800.0, smooth=True)


@pytest.mark.parametrize(
    ("rule", "change", "levels"),
    [
        ("too small", {"volume_ml": 1.0}, LEVELS),
        ("enclosed at the base", {"wall_share": 0.9, "edge_hu": 950.0, "top": 0.8}, LEVELS),
        ("enclosed and small", {"wall_share": 0.9, "edge_hu": 950.0, "volume_ml": 6.0}, LEVELS),
        ("enclosed and large", {"wall_share": 0.9, "edge_hu": 950.0}, LEVELS),
        ("inside the lung", {"wall_share": 0.02}, LEVELS),
        ("lung as dark as air in a smooth image", {}, replace(SMOOTH, lung_hu=-880.0)),
        ("rarefied lung", {"above_air_hu": 80.0}, LEVELS),
        ("uneven in a smooth image", {"depth_mm": 15.0, "spread_hu": 30.0}, SMOOTH),
        ("without an edge", {"edge_hu": 150.0, "above_air_hu": 30.0}, LEVELS),
        ("ball behind a sheet of tissue", {"sphericity": 0.9, "edge_hu": 900.0}, LEVELS),
        ("aerated lung beyond a sheet of tissue", {"edge_hu": 850.0, "top": 0.7, "bottom": 1.0}, LEVELS),
        ("round", {"sphericity": 0.9}, LEVELS),
        ("smaller foot than half a ball", {"wall_share": 0.3, "depth_mm": 12.0}, LEVELS),
        ("off the wall in a smooth image", {"wall_share": 0.5}, SMOOTH),
        ("doubted twice", {"edge_hu": 150.0, "lung_share": 0.58}, LEVELS),
        ("free air", {}, LEVELS),
    ],
)
def test_every_rule_of_the_table_decides_about_something(
    rule: str, change: dict[str, float], levels: AirLevels
) -> None:
    features, scan = Features(**(FEATURES | change)), judge.ScanContext(levels, 1.8)
    deciding = judge.deciding_rule(features, scan)
    assert deciding.name == rule
    verdict = judge.judge(features, levels, pitch_mm=1.8)
    expected = (deciding.kind, deciding.confidence(features, scan), deciding.reason(features, scan))
    assert (verdict.kind, verdict.confidence, verdict.reason) == expected


def test_the_rules_have_names_of_their_own_and_the_last_one_always_applies() -> None:
    names = [rule.name for rule in judge.RULES]
    assert len(set(names)) == len(names)
    nothing = Features(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert judge.RULES[-1].applies(nothing, judge.ScanContext(LEVELS, 1.0))


def test_a_rule_is_one_entry_and_stands_where_it_is_put(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = judge.Rule(
        "any air", lambda _f, _s: True, judge.OESOPHAGUS, lambda _f, _s: 0.1, lambda f, _s: f"{f.volume_ml:.0f} mL"
    )
    monkeypatch.setattr(judge, "RULES", (judge.RULES[0], rule, *judge.RULES[1:]))
    verdict = judge.judge(Features(**FEATURES), LEVELS, pitch_mm=1.8)
    assert verdict == judge.Verdict(judge.OESOPHAGUS, 0.1, "80 mL")
    small = Features(**(FEATURES | {"volume_ml": 1.0}))
    assert judge.judge(small, LEVELS, pitch_mm=1.8).kind == judge.UNCERTAIN


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, judge.PNEUMOTHORAX),
        ({"above_air_hu": 90.0, "depth_mm": 5.0}, judge.PNEUMOTHORAX),
        ({"slope_hu_mm": 60.0}, judge.UNCERTAIN),
        ({"wall_share": 0.3}, judge.UNCERTAIN),
        ({"edge_hu": 100.0}, judge.UNCERTAIN),
    ],
)
def test_air_drawn_into_a_smooth_image_is_told_by_its_steep_edge(change: dict[str, float], kind: str) -> None:
    levels = replace(LEVELS, usual_slope=80.0)
    features = Features(**(FEATURES | {"slope_hu_mm": 90.0, "wall_share": 0.55, "edge_hu": 200.0} | change))
    assert judge.judge(features, levels, pitch_mm=4.0).kind == kind


def test_what_is_darker_than_air_in_a_smooth_image_is_an_artefact() -> None:
    levels = replace(LEVELS, smooth=True, reach=4)
    usual = FEATURES | {"wall_share": 0.7, "depth_mm": 14.0}
    assert judge.judge(Features(**usual), levels, pitch_mm=4.0).kind == judge.PNEUMOTHORAX
    verdict = judge.judge(Features(**(usual | {"above_air_hu": -36.0})), levels, pitch_mm=4.0)
    assert verdict.kind == judge.UNCERTAIN and "below free air" in verdict.reason


def test_gas_below_a_raised_diaphragm_is_no_pneumothorax_and_the_reason_names_the_other_volume() -> None:
    dome = {"volume_ml": 350.0, "wall_share": 0.47, "edge_hu": 600.0, "step_hu": 230.0, "depth_mm": 25.0}
    dome |= {"sphericity": 0.68, "top": 0.55, "bottom": 0.98}
    verdict = judge.judge(Features(**(FEATURES | dome)), LEVELS, pitch_mm=1.8)
    assert verdict.kind == judge.BOWEL
    assert "cannot be told from a loculated pneumothorax of 350 mL" in verdict.reason
    for pocket in ({"edge_hu": 470.0}, {"sphericity": 0.4}, {"top": 0.3}, {"depth_mm": 10.0}):
        assert judge.judge(Features(**(FEATURES | dome | pocket)), LEVELS, pitch_mm=1.8).kind == judge.PNEUMOTHORAX
