"""The public archive, asked offline: the index that the package `idc-index` ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xrecon.errors import InputError, MissingPartError
from xrecon.preparation.pull import (
    RECORD_NAME,
    ArchivedSeries,
    collections_with_chest_ct,
    plan_pull,
    read_record,
    write_record,
)


@pytest.fixture
def index() -> None:
    pytest.importorskip("idc_index_data", reason="the extra [pull] is not installed")
    pytest.importorskip("duckdb", reason="the extra [pull] is not installed")


@pytest.mark.usefixtures("index")
def test_a_dry_run_says_number_size_and_licence() -> None:
    plan = plan_pull("lidc_idri", limit=50)
    assert len(plan.series) == 50
    assert plan.patients == 50
    assert plan.series[0].patient == "LIDC-IDRI-0001"
    assert plan.patients_in_all == 1010
    assert 1000 < plan.size_mb < 20_000
    assert plan.size_mb < plan.size_mb_in_all
    assert plan.licences() == {"CC BY 3.0": 50}
    assert all(series.images >= 40 and series.doi for series in plan.series)
    assert plan == plan_pull("lidc_idri", limit=50)


@pytest.mark.usefixtures("index")
def test_one_series_per_patient_is_its_largest() -> None:
    plan = plan_pull("nsclc_radiogenomics", limit=20)
    several = plan_pull("nsclc_radiogenomics", per_patient=9)
    largest: dict[str, int] = {}
    for series in several.series:
        largest[series.patient] = max(largest.get(series.patient, 0), series.images)
    assert all(series.images == largest[series.patient] for series in plan.series)
    assert len(several.series) > several.patients


@pytest.mark.usefixtures("index")
def test_wrong_questions_are_answered() -> None:
    with pytest.raises(InputError, match="close names: lidc_idri"):
        plan_pull("lidc_idr")
    with pytest.raises(InputError, match="starts with 'CC0'"):
        plan_pull("lidc_idri", licence="CC0")
    with pytest.raises(InputError, match="'; DROP TABLE x"):
        plan_pull("'; DROP TABLE x; --")


@pytest.mark.usefixtures("index")
def test_collections_with_chest_ct() -> None:
    counts = {item.name: (item.patients, item.series) for item in collections_with_chest_ct()}
    assert counts["lidc_idri"][0] == 1010
    assert all(patients >= 20 for patients, _ in counts.values())


def test_without_the_package_it_is_a_missing_part(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "idc_index_data", None)
    with pytest.raises(MissingPartError, match="pip install idc-index"):
        plan_pull("lidc_idri")


def series(uid: str, licence: str = "CC BY 4.0") -> ArchivedSeries:
    return ArchivedSeries(uid, "P1", "some_lungs", 120, 60.0, licence, "10.1/2", "CHEST")


def test_the_record_grows_and_reads_back(tmp_path: Path) -> None:
    write_record([series("1.2")], tmp_path, version="25")
    write_record([series("1.3", "CC BY 3.0")], tmp_path, version="25")
    known = read_record(tmp_path / RECORD_NAME)
    assert {uid: entry["licence"] for uid, entry in known.items()} == {"1.2": "CC BY 4.0", "1.3": "CC BY 3.0"}
    (tmp_path / RECORD_NAME).write_text(json.dumps([1]))
    with pytest.raises(InputError, match="not a record"):
        read_record(tmp_path / RECORD_NAME)
