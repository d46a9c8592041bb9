"""The catalogue of metrics: one entry each, and every table and order that is read from it."""

from __future__ import annotations

import math

import pytest

from xrecon.evaluation.metrics.anatomy import ANATOMY_METRICS
from xrecon.evaluation.metrics.catalogue import CATALOGUE, HEADLINE, PAIR_METRICS, SECONDS, TESTED, section
from xrecon.evaluation.metrics.metric import Metric
from xrecon.evaluation.metrics.structures import STRUCTURE_METRICS
from xrecon.evaluation.tables import format_value, label


def test_no_two_metrics_share_a_name_or_a_heading() -> None:
    metrics = [*PAIR_METRICS, *ANATOMY_METRICS, *STRUCTURE_METRICS, SECONDS]
    assert list(CATALOGUE.values()) == metrics
    assert len({metric.heading for metric in metrics}) == len(metrics)


def test_headline_and_tests_in_their_order() -> None:
    assert [metric.name for metric in HEADLINE] == [
        "psnr_2500_db", "psnr_x2ct_slices_db", "ssim_unit_3d", "mae_hu", "mae_body_hu", "bias_body_hu", "lungs_dice",
    ]  # fmt: skip
    assert [metric.headline for metric in HEADLINE] == list(range(1, len(HEADLINE) + 1))
    assert [metric.name for metric in TESTED] == ["psnr_2500_db", "ssim_unit_3d", "mae_body_hu", "lungs_dice"]
    assert not [metric.name for metric in CATALOGUE.values() if metric.tested and not metric.headline]


def test_sections_hold_what_was_measured_in_the_order_of_the_report() -> None:
    anatomy = section("anatomy", CATALOGUE)
    assert anatomy[:4] == ["lungs_dice", "right_lung_dice", "left_lung_dice", "lungs_hd95_mm"]
    assert anatomy[-4:] == ["body_dice", "bone_dice", "occupancy_error_pp", "ctr_error"]
    assert section("structure", CATALOGUE) == [metric.name for metric in STRUCTURE_METRICS]
    assert section("anatomy", ["mae_hu", "ctr_error", "lungs_dice"]) == ["lungs_dice", "ctr_error"]
    for group in ("anatomy", "structure"):
        places = [metric.section for metric in CATALOGUE.values() if metric.group == group and metric.section]
        assert sorted(places) == list(range(1, len(places) + 1)), group


def test_directions() -> None:
    higher = ("psnr_", "ssim_", "ms_ssim", "cosine")
    for name, metric in CATALOGUE.items():
        signed = name.startswith("bias_") or name.endswith(("error_ml", "error_pp", "ctr_error"))
        best = None if signed else name.startswith(higher) or name.endswith(("dice", "iou", "nsd"))
        assert metric.higher_is_better is best, name


@pytest.mark.parametrize(
    ("name", "value", "other"), [("psnr_2500_db", 30.0, 29.0), ("mae_hu", 5.0, 6.0), ("bias_hu", -1.0, 2.0)]
)
def test_better_follows_the_direction(name: str, value: float, other: float) -> None:
    assert CATALOGUE[name].better(value, other)
    assert not CATALOGUE[name].better(other, value)
    assert not CATALOGUE[name].better(value, value)


def test_values_and_headings_for_people() -> None:
    metric = Metric("x_mm", "Width", "mm", 1, higher_is_better=False, region="body", convention="Width, mm.")
    assert (metric.heading, metric.text(1.25), metric.text(None)) == ("Width (mm)", "1.2", "-")
    assert label("mae_hu") == "MAE, whole volume (HU)" and label("ssim_3d") == "SSIM, 3D"
    assert (label("seconds"), format_value("seconds", 1.26)) == ("Time (s)", "1.3")
    assert (label("unknown"), format_value("unknown", 0.123456)) == ("unknown", "0.1235")
    assert [format_value("mae_hu", v) for v in (math.inf, -math.inf, math.nan)] == ["inf", "-inf", "-"]
    assert format_value("unknown", math.nan) == "-"
