"""The structured report: every number of the findings with its code, unit and side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.dicom_results import small_chest, small_result
from xrecon.dicom_output.measurement_codes import SCHEME, SIDE_MEASURES
from xrecon.quantify.findings import build_findings
from xrecon.volume import RESEARCH_NOTICE

hd = pytest.importorskip("highdicom")


@pytest.fixture(scope="module")
def report() -> Any:
    return hd.sr.Comprehensive3DSR.from_dataset(small_result().report)


def numbers(group: Any) -> dict[str, tuple[float, str]]:
    return {
        measurement.name.value: (float(measurement.value), measurement.unit.value)
        for measurement in group.get_measurements()
    }


def groups_by_name(report: Any) -> dict[str, Any]:
    found = [
        *report.content.get_image_measurement_groups(),
        *report.content.get_volumetric_roi_measurement_groups(),
    ]
    return {group.tracking_identifier: group for group in found}


def test_every_measure_is_there_with_its_unit(report: Any) -> None:
    _, segmentation = small_chest()
    findings = build_findings(segmentation)
    groups = groups_by_name(report)
    chest = numbers(groups["Whole chest"])
    assert chest["occupancy"] == (pytest.approx(100 * findings.occupancy.whole_chest, abs=1e-3), "%")
    assert chest["118565006"] == (pytest.approx(findings.volumes_ml.left_air, abs=1e-3), "mL")
    left = numbers(groups["Left pleural space"])
    assert left["occupancy"][0] == pytest.approx(50.0, abs=0.01)
    assert findings.left is not None and findings.left.radial_depth is not None
    assert left["depth-radial"] == (pytest.approx(findings.left.radial_depth.depth_mm, abs=1e-3), "mm")
    for entry in SIDE_MEASURES:
        value = entry.value(findings.left)
        assert (entry.code[0] in left) == (value is not None)
        assert entry.code[1] == SCHEME and len(entry.code[0]) <= 16 and len(entry.code[2]) <= 64
    for name, volume in (
        ("Right lung", "right_lung"),
        ("Left lung", "left_lung"),
        ("Free pleural air, left", "left_air"),
    ):
        assert numbers(groups[name])["118565006"][0] == pytest.approx(getattr(findings.volumes_ml, volume), abs=1e-3)


def test_sides_and_presence_are_coded(report: Any) -> None:
    groups = groups_by_name(report)
    for side, answer in (("Right", "Absent"), ("Left", "Present")):
        group = groups[f"{side} pleural space"]
        assert group.finding_sites[0].laterality.meaning == side
        (evaluation,) = group.get_qualitative_evaluations()
        assert (evaluation.name.meaning, evaluation.value.meaning) == ("Pneumothorax", answer)
        assert group.finding_type.value == "36118008"


def test_the_depth_comes_with_the_line_that_was_measured(report: Any) -> None:
    _, segmentation = small_chest()
    depth = build_findings(segmentation).left.radial_depth  # type: ignore[union-attr]
    (line, *_) = list(hd.sr.utils.find_content_items(report, value_type="SCOORD3D", recursive=True))
    assert [tuple(point) for point in line.value] == [
        pytest.approx(depth.inner_lps_mm, abs=1e-3), pytest.approx(depth.wall_lps_mm, abs=1e-3)
    ]  # fmt: skip


def test_segment_groups_refer_to_the_segments(report: Any) -> None:
    result = small_result()
    groups = groups_by_name(report)
    segment = groups["Free pleural air, left"].referenced_segment
    assert segment.referenced_sop_instance_uid == result.segmentation.SOPInstanceUID  # type: ignore[union-attr]
    assert list(segment.referenced_segment_numbers) == [3]


def test_it_is_preliminary_and_says_what_it_is_not_for(report: Any) -> None:
    assert (report.PreliminaryFlag, report.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    comments = [item.TextValue for item in report.ContentSequence if item.ValueType == "TEXT"]
    assert RESEARCH_NOTICE in comments
    assert any("detection limit" in text for text in comments)
    assert RESEARCH_NOTICE in report.SeriesDescription
    assert [item.CodingSchemeDesignator for item in report.CodingSchemeIdentificationSequence] == [SCHEME]


def test_a_side_without_lung_and_air_is_undetermined() -> None:
    from support.dicom_results import small_study
    from xrecon.dicom_output.result import Measured, dicom_result

    volume, segmentation = small_chest()
    labels, sides = segmentation.labels.copy(), segmentation.air_side.copy()
    labels[labels >= 2], sides[:] = 0, 0
    half = replace(segmentation, labels=labels, air_side=sides)
    result = dicom_result(volume, small_study(), description="CT", measured=Measured(half, build_findings(half)))
    groups = groups_by_name(hd.sr.Comprehensive3DSR.from_dataset(result.report))
    (evaluation,) = groups["Left pleural space"].get_qualitative_evaluations()
    assert evaluation.value.meaning == "Undetermined"
    assert "occupancy" not in numbers(groups["Left pleural space"])
