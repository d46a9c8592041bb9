"""The DICOM series in a list of files or a zip, read from headers only, and the choice of one series per study."""

from __future__ import annotations

import contextlib
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xrecon.errors import InputError
from xrecon.io.dicom.pixels import guarded, text
from xrecon.io.dicom.slices import DicomFile, dicom_file, files_in_zip, rejection
from xrecon.io.guards.archives import open_zip

_MIN_SLICES = 8
"""A series with fewer images is an overview or a leftover."""


@dataclass
class SeriesFiles:
    """The CT images of one SeriesInstanceUID. Holds identifiers: lives in memory only, and is never written."""

    uid: str
    study: str
    patient: str
    acquisition_planes: int = 0
    files: list[str] = field(default_factory=list)
    axial: bool = True


@dataclass
class DicomIndex:
    """CT series by UID, and how many files were something else, by reason."""

    series: dict[str, SeriesFiles] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)

    def merge(self, other: DicomIndex) -> None:
        """Add what another folder holds; a series may be spread over folders."""
        self.skipped += other.skipped
        for uid, part in other.series.items():
            whole = self.series.setdefault(uid, SeriesFiles(uid, part.study, part.patient, axial=part.axial))
            whole.files += part.files
            whole.acquisition_planes += part.acquisition_planes


def index_files(paths: Sequence[str]) -> DicomIndex:
    """Index local DICOM files."""
    entries = []
    for path in paths:
        with Path(path).open("rb") as stream:
            entries.append(dicom_file(Path(path), stream.read(1024)))
    return _index(entries, lambda entry: entry.name)


def index_zip(path: Path) -> DicomIndex:
    """Index the DICOM members of a zip. Raises InputError for a damaged or hostile one."""
    with contextlib.ExitStack() as stack:
        archive: zipfile.ZipFile = stack.enter_context(open_zip(path))
        return _index(files_in_zip(archive, path), lambda entry: entry.name)


def _index(entries: Iterable[DicomFile], name_of: Any) -> DicomIndex:
    index = DicomIndex()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every odd value, also of those that nobody uses
        for entry in entries:
            try:
                with guarded(entry.name):
                    header = entry.header()
                    reason = rejection(header, entry.name)
            except InputError:
                index.skipped["damaged header"] += 1
                continue
            if reason is not None:
                index.skipped[reason] += 1
                continue
            uid = str(header.get("SeriesInstanceUID") or "")
            series = index.series.get(uid)
            if series is None:
                series = index.series[uid] = _series(uid, header)
            series.files.append(name_of(entry))
            series.acquisition_planes += int(header.get("NumberOfFrames") or 1)
    return index


def _series(uid: str, header: Any) -> SeriesFiles:
    study = str(header.get("StudyInstanceUID") or "")
    # A patient without an ID is as many patients as studies: better two names for one than one name for two.
    patient = text(header, "PatientID").strip() or f"study {study or uid}"
    return SeriesFiles(uid, study or uid, patient, axial=_is_axial(header))


def _is_axial(header: Any) -> bool:
    try:
        row, column = ([float(v) for v in header.ImageOrientationPatient[i : i + 3]] for i in (0, 3))
    except (AttributeError, TypeError, ValueError):
        return True  # multi-frame, or damaged: the reader will say
    return abs(row[0] * column[1] - row[1] * column[0]) >= 0.7


def choose_series(index: DicomIndex, *, every: bool) -> tuple[list[SeriesFiles], list[tuple[SeriesFiles, str]]]:
    """(series to prepare, the others with the reason): of each study the axial series with most images, or all."""
    taken: list[SeriesFiles] = []
    left: list[tuple[SeriesFiles, str]] = []
    studies: dict[tuple[str, str], list[SeriesFiles]] = {}
    for series in sorted(index.series.values(), key=lambda s: s.uid):
        if series.acquisition_planes < _MIN_SLICES:
            left.append((series, f"a series of {series.acquisition_planes} images: an overview, no volume"))
        elif not series.axial:
            left.append((series, "not axial: a reformatted series of the study"))
        else:
            studies.setdefault((series.patient, series.study), []).append(series)
    for group in studies.values():
        best = max(group, key=lambda s: s.acquisition_planes)
        for series in group:
            if every or series is best:
                taken.append(series)
            else:
                counts = f"{best.acquisition_planes} images against {series.acquisition_planes}"
                left.append(
                    (series, f"another series of the same study was taken ({counts}); --every-series takes all")
                )
    return taken, left
