"""The figures of the robustness study, by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from xrecon.evaluation.studies.robustness_summary import METRICS, summarise_robustness
from xrecon.json_text import json_text


def row(case: str, kind: str, level: float, psnr: float) -> dict[str, Any]:
    values = dict(zip(METRICS, (psnr, 0.5, 100.0), strict=True))
    return {"case": case, "patient": case, "model": "m", "kind": kind, "level": level, **values}


def test_one_entry_per_model_disturbance_and_level() -> None:
    rows = [row("a", "none", 0.0, 20.0), row("b", "none", 0.0, 24.0), row("a", "angle", 5.0, 18.0)]
    plain, turned = summarise_robustness(rows)
    assert (plain.kind, plain.level, plain.n) == ("none", 0.0, 2)
    assert plain.means["psnr_2500_db"].value == pytest.approx(22.0)
    assert plain.means["psnr_2500_db"].low == pytest.approx(20.0)
    assert (turned.n, turned.means["psnr_2500_db"].low) == (1, None)  # one patient has no interval


def test_the_json_form_holds_the_metrics_beside_the_keys() -> None:
    (entry,) = summarise_robustness([row("a", "none", 0.0, 20.0)])
    values = json.loads(json_text(entry.to_dict()))
    assert list(values) == ["model", "kind", "level", "n", *METRICS]
    assert values["psnr_2500_db"] == {"value": 20.0, "low": None, "high": None}
