"""The findings document: complete, strict JSON, readable again, and without advice."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from xrecon.errors import InputError
from xrecon.quantify.findings import FORMULAS, SCHEMA, Findings, build_findings
from xrecon.segmentation import Segmentation
from xrecon.volume import RESEARCH_NOTICE

COMPONENTS = [
    {"kind": "pneumothorax", "side": "right", "volume_ml": 300.0, "confidence": 0.9, "reason": "pleura", "area": 1.5},
    {"kind": "pneumothorax", "side": "right", "volume_ml": 100.0, "confidence": 0.5, "reason": "small"},
    {
        "kind": "bulla/emphysema",
        "side": "left",
        "volume_ml": np.float64(20.0),
        "confidence": 0.7,
        "reason": "in the lung",
    },
]


@pytest.fixture(scope="module")
def segmentation(two_balls) -> Segmentation:
    return two_balls(
        right=((15, 0, -70), 45.0), spacing_mm=(3.0, 3.0, 3.0), findings={"components": COMPONENTS, "x": math.nan}
    )


@pytest.fixture(scope="module")
def findings(segmentation) -> Findings:
    return build_findings(segmentation, detection_limit_ml=25.0, provenance={"settings": {"size": np.int64(3)}})


def test_the_document_is_strict_json_with_the_schema_first(findings: Findings) -> None:
    values = json.loads(findings.to_json(), parse_constant=lambda name: pytest.fail(name))
    assert next(iter(values)) == "schema"
    assert values["schema"] == SCHEMA
    assert values["notice"] == RESEARCH_NOTICE
    assert values["right"]["radial_depth"]["depth_mm"] > 20
    assert values["left"] is None
    assert values["air_found"] is True and values["bilateral"] is False
    assert values["occupancy"]["left"] == 0
    assert values["segmentation"]["x"] is None
    assert values["provenance"] == {"settings": {"size": 3}}
    assert set(values["formulas"]) == set(FORMULAS)


def test_what_is_written_reads_back(findings: Findings) -> None:
    again = Findings.from_json(findings.to_json())
    assert again.to_json() == findings.to_json()


@pytest.mark.parametrize("text", ["nothing", "{}", '{"schema": "xrecon.findings/9"}'])
def test_other_documents_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"xrecon\.findings/1"):
        Findings.from_json(text)


def test_confidence_is_weighted_by_volume_and_confounders_stay_apart(findings: Findings) -> None:
    confidence = findings.confidence
    assert confidence.right == pytest.approx((300 * 0.9 + 100 * 0.5) / 400)
    assert confidence.left is None
    assert [part.kind for part in confidence.confounders] == ["bulla/emphysema"]
    assert [part.volume_ml for part in confidence.counted] == [300.0, 100.0]
    assert confidence.counted[0].model_extra == {"area": 1.5}


@pytest.mark.parametrize(
    ("limit", "below", "bilateral"), [(None, (), True), (25.0, (), True), (1e4, ("right", "left"), False)]
)
def test_detection_limit(two_balls, limit, below, bilateral) -> None:
    both = two_balls(right=((0, 0, -70), 50.0), left=((0, 0, 70), 50.0), spacing_mm=(4.0, 4.0, 4.0))
    document = build_findings(both, detection_limit_ml=limit)
    assert document.bilateral is bilateral
    assert document.detection_limit.below == below
    assert ("No detection limit" in document.detection_limit.statement) == (limit is None)


def test_the_limit_of_the_segmenter_is_used_and_checked(two_balls) -> None:
    segmentation = two_balls(spacing_mm=(6.0, 6.0, 6.0), findings={"detection_limit_ml": 12})
    assert build_findings(segmentation).detection_limit.volume_ml == 12
    assert build_findings(segmentation, detection_limit_ml=3).detection_limit.volume_ml == 3
    with pytest.raises(InputError, match="at least 0 mL"):
        build_findings(segmentation, detection_limit_ml=-1)


def test_remarks_compare_and_cite_and_never_advise(findings: Findings) -> None:
    assert len(findings.remarks) == 4
    right = findings.right
    assert right is not None and right.radial_depth is not None
    by_threshold = {remark.threshold: remark for remark in findings.remarks}
    assert by_threshold[20.0].value == right.rim_at_hilum_mm
    assert by_threshold[30.0].value == right.apex_to_cupola_mm
    assert by_threshold[35.0].value == right.radial_depth.depth_mm
    for remark in findings.remarks:
        assert any(journal in remark.source for journal in ("Thorax", "Chest", "J Trauma"))
        if remark.threshold is not None and remark.value is not None:
            assert ("at or above" in remark.text) == (remark.value >= remark.threshold)
        for word in ("should", "must", "recommend", "drain", "tube", "aspirat", "treat"):
            assert word not in remark.text.lower()


def test_a_healthy_chest_has_no_remarks(two_balls) -> None:
    healthy = build_findings(two_balls(spacing_mm=(6.0, 6.0, 6.0)))
    assert healthy.remarks == () and not healthy.air_found and not healthy.bilateral
    assert healthy.occupancy.whole_chest == 0


def test_missing_sides_are_null_with_a_note() -> None:
    nothing = np.zeros((4, 4, 4), np.uint8)
    document = build_findings(Segmentation(nothing, nothing.copy(), np.eye(4), notes=("a note", RESEARCH_NOTICE)))
    assert document.occupancy.whole_chest is None
    assert document.notes[0] == "a note"
    assert sum("neither lung nor free air" in note for note in document.notes) == 2
    assert RESEARCH_NOTICE not in document.notes
    json.loads(document.to_json())


def test_every_key_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "quantification.md").read_text(encoding="utf-8")
    schema = Findings.model_json_schema()
    names = {"schema", *schema["properties"]} - {"schema_version"}
    for part in schema["$defs"].values():
        names |= set(part["properties"])
    missing = sorted(name for name in names if f"`{name}`" not in page)
    assert missing == []
