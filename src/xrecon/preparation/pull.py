"""Chest CTs from the public archive NCI Imaging Data Commons: what there is, how large, under which licence.

The query reads the index that the package `idc-index` ships, so it needs no network. The download is the package's own.
The licence of every series is recorded beside the files, where `xrecon prepare` finds it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from xrecon.errors import InputError, MissingPartError
from xrecon.io.guards.files import read_text_capped
from xrecon.io.output.atomic import write_json_atomic

RECORD_NAME = "xrecon-pull.json"
_INSTALL = "install it with: pip install idc-index"
_RECORD_LIMIT = 64 * 2**20
_FOLDERS = "%collection_id/%PatientID/%SeriesInstanceUID"


@dataclass(frozen=True)
class ArchivedSeries:
    """One CT series of the archive. Sizes in MB (10^6 bytes)."""

    series_uid: str
    patient: str
    collection: str
    images: int
    size_mb: float
    licence: str
    doi: str
    body_part: str


@dataclass(frozen=True)
class ArchiveCollection:
    """A collection of the archive and its CTs of the chest; `gb` in 10^9 bytes."""

    name: str
    patients: int
    series: int
    gb: float


@dataclass(frozen=True)
class PullPlan:
    """What would be downloaded, and what the archive holds beyond it."""

    series: tuple[ArchivedSeries, ...]
    series_in_all: int
    patients_in_all: int
    size_mb_in_all: float
    index_version: str

    @property
    def size_mb(self) -> float:
        """Size of the chosen series, MB."""
        return sum(series.size_mb for series in self.series)

    @property
    def patients(self) -> int:
        """Number of patients of the chosen series."""
        return len({series.patient for series in self.series})

    @property
    def images(self) -> int:
        """Number of images of the chosen series."""
        return sum(series.images for series in self.series)

    @property
    def dois(self) -> tuple[str, ...]:
        """DOIs of the collections, sorted: their terms are to be read before anything is published."""
        return tuple(sorted({series.doi for series in self.series if series.doi}))

    def licences(self) -> dict[str, int]:
        """Number of the chosen series by licence."""
        return dict(Counter(series.licence for series in self.series))


def collections_with_chest_ct(*, least_patients: int = 20) -> list[ArchiveCollection]:
    """Collections with CTs whose body part is the chest, most patients first; needs no network.

    Raises:
        MissingPartError: idc-index is not installed.
    """
    duckdb, index, _ = _index()
    rows = duckdb.execute(
        "SELECT collection_id, count(DISTINCT PatientID), count(*), sum(series_size_MB) / 1000 FROM read_parquet(?) "
        "WHERE Modality = 'CT' AND analysis_result_id IS NULL AND BodyPartExamined IN ('CHEST', 'LUNG', 'THORAX') "
        "GROUP BY 1 HAVING count(DISTINCT PatientID) >= ? ORDER BY 2 DESC",
        [index, least_patients],
    ).fetchall()
    return [ArchiveCollection(str(name), int(patients), int(series), float(gb)) for name, patients, series, gb in rows]


def plan_pull(
    collection: str,
    *,
    limit: int | None = None,
    per_patient: int = 1,
    licence: str | None = None,
    least_images: int = 40,
) -> PullPlan:
    """Choose CT series of a collection from the index that `idc-index` ships; no network.

    Of each patient the series with most images come first; patients in the order of their names.

    Args:
        collection: for example "lidc_idri".
        limit: number of series; None: all.
        per_patient: at most so many series of one patient.
        licence: only series whose licence starts like this, for example "CC BY" (which "CC BY-NC" does too: give
            "CC BY 3.0" or "CC BY 4.0" to be exact).
        least_images: fewer are an overview or a part.

    Raises:
        MissingPartError: idc-index is not installed.
        InputError: no such collection, or nothing in it fits.
    """
    duckdb, index, version = _index()
    totals = duckdb.execute(
        "SELECT count(*), count(DISTINCT PatientID), coalesce(sum(series_size_MB), 0) FROM read_parquet(?) "
        "WHERE collection_id = ? AND Modality = 'CT' AND analysis_result_id IS NULL",
        [index, collection],
    ).fetchone()
    if not totals or not totals[0]:
        raise InputError(_unknown(duckdb, index, collection))
    rows = duckdb.execute(
        "SELECT SeriesInstanceUID, PatientID, collection_id, instanceCount, series_size_MB, "
        "coalesce(license_short_name, ''), coalesce(source_DOI, ''), coalesce(BodyPartExamined, '') FROM ("
        "SELECT *, row_number() OVER (PARTITION BY PatientID ORDER BY instanceCount DESC, SeriesInstanceUID) AS place "
        "FROM read_parquet(?) WHERE collection_id = ? AND Modality = 'CT' AND analysis_result_id IS NULL "
        "AND instanceCount >= ? AND starts_with(coalesce(license_short_name, ''), ?)) "
        "WHERE place <= ? ORDER BY PatientID, place LIMIT ?",
        [index, collection, least_images, licence or "", per_patient, 10**9 if limit is None else limit],
    ).fetchall()
    if not rows:
        raise InputError(
            f"collection {collection}: none of its {totals[0]} CT series has {least_images} images or more"
            + (f" and a licence that starts with {licence!r}" if licence else "")
        )
    series = tuple(ArchivedSeries(*row) for row in rows)
    return PullPlan(series, int(totals[0]), int(totals[1]), float(totals[2]), version)


def _index() -> tuple[Any, str, str]:
    """(duckdb, path of the index, its version)."""
    try:
        duckdb, data = import_module("duckdb"), import_module("idc_index_data")
    except ImportError as error:
        raise MissingPartError(f"the public archive needs the package idc-index ({error}); {_INSTALL}") from error
    return duckdb, str(data.IDC_INDEX_PARQUET_FILEPATH), str(data.__version__)


def _unknown(duckdb: Any, index: str, collection: str) -> str:
    rows = duckdb.execute(
        "SELECT DISTINCT collection_id FROM read_parquet(?) WHERE Modality = 'CT' "
        "ORDER BY jaro_winkler_similarity(collection_id, ?) DESC LIMIT 3",
        [index, collection.lower()],
    ).fetchall()
    near = ", ".join(row[0] for row in rows)
    return f"collection {collection!r} holds no CT in the archive; close names: {near}; --list shows chest collections"


def download(plan: PullPlan, folder: Path) -> Path:
    """Fetch the series of a plan into `folder/<collection>/<patient>/<series>` and record their licences there.

    The record is written first, so that an interrupted download has it too; running again goes on.

    Returns: the record's path. Raises MissingPartError, InputError.
    """
    record = write_record(plan.series, folder, version=plan.index_version)
    try:
        client = import_module("idc_index").IDCClient()
    except (ImportError, FileNotFoundError) as error:
        raise MissingPartError(f"the download needs the package idc-index ({error}); {_INSTALL}") from error
    client.download_dicom_series(
        seriesInstanceUID=[series.series_uid for series in plan.series],
        downloadDir=str(folder),
        dirTemplate=_FOLDERS,
        use_s5cmd_sync=True,
    )
    return record


def write_record(series: Sequence[ArchivedSeries], folder: Path, *, version: str) -> Path:
    """Write or extend `xrecon-pull.json`: for every series its collection, licence and DOI."""
    path = Path(folder) / RECORD_NAME
    entries = read_record(path) if path.is_file() else {}
    entries.update({item.series_uid: asdict(item) for item in series})
    values = {"format": "xrecon-pull", "schema_version": 1, "index_version": version, "series": entries}
    return write_json_atomic(path, values, overwrite=True)


def read_record(path: Path) -> dict[str, dict[str, Any]]:
    """Series UID -> what was recorded of it. Raises InputError for a damaged file."""
    try:
        values = json.loads(read_text_capped(Path(path), limit=_RECORD_LIMIT))
        return {str(uid): dict(entry) for uid, entry in values["series"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a record of `xrecon pull` ({error}); delete it and pull again") from error
