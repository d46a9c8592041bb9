"""One result as a set of DICOM instances: which there are, how they refer to each other, and their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from xrecon.dicom_output.capture import secondary_capture
from xrecon.dicom_output.ct_series import ct_series
from xrecon.dicom_output.highdicom_parts import highdicom
from xrecon.dicom_output.measurement_report import MeasuredObjects, measurement_report
from xrecon.dicom_output.segments import bare_slices, planes_on_slices, segmentation_object, segments_of
from xrecon.dicom_output.study import StudyContext
from xrecon.quantify.findings import Findings
from xrecon.segmentation import Segmentation
from xrecon.volume import Volume

FOLDER = "dicom"
"""Name of the folder in which a command puts its DICOM files."""


@dataclass(frozen=True, eq=False)
class DicomResult:
    """The instances of one result.

    Attributes:
        ct: slices from head to feet; () where the segmentation refers to the source CT itself.
        segmentation: None where nothing was segmented.
        report: None where nothing was measured.
        capture: None where there is no preview.
        notes: what was decided, for people to read.
    """

    ct: tuple[Dataset, ...] = ()
    segmentation: Dataset | None = None
    report: Dataset | None = None
    capture: Dataset | None = None
    notes: tuple[str, ...] = ()

    def files(self) -> Iterator[tuple[str, Dataset]]:
        """(path below the folder, instance), slices first."""
        for number, instance in enumerate(self.ct, start=1):
            yield f"ct/{number:04d}.dcm", instance
        named = {"segmentation": self.segmentation, "report": self.report, "preview": self.capture}
        yield from ((f"{name}.dcm", instance) for name, instance in named.items() if instance is not None)

    def write(self, folder: Path) -> list[Path]:
        """Write every instance below a new folder."""
        paths = []
        for name, instance in self.files():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            instance.save_as(path, enforce_file_format=True)
            paths.append(path)
        return paths


@dataclass(frozen=True, eq=False)
class Measured:
    """What was found in a CT, and by what.

    Attributes:
        segmentation: labels on the grid of the CT.
        findings: measures of them.
        algorithm: what drew the labels.
    """

    segmentation: Segmentation
    findings: Findings
    algorithm: str = "PTX-Seg"


def dicom_result(
    volume: Volume,
    study: StudyContext,
    *,
    description: str,
    measured: Measured | None = None,
    preview: NDArray[np.uint8] | None = None,
    source_slices: Sequence[Dataset] = (),
    burn_in: bool = False,
) -> DicomResult:
    """The instances of one result.

    Args:
        volume: CT.
        study: where everything belongs.
        description: of the CT series, at most 18 letters.
        measured: labels and measures; None for a CT alone.
        preview: picture [rows, columns, 3], 0..255.
        source_slices: headers of the source CT (`Origin.ct_headers`). Where the identity is kept and the labels lie on
            these slices, segmentation and report refer to them, and no copy of the CT is written.
        burn_in: draw the notice into the slices.

    Raises:
        InputError: the CT's axes are not at right angles, or its slices too small to burn text into.
        MissingPartError: highdicom is not installed, and there are labels.
    """
    capture = None if preview is None else secondary_capture(preview, study)
    if measured is None:
        return DicomResult(tuple(ct_series(volume, study, description=description, burn_in=burn_in)), capture=capture)
    notes: tuple[str, ...] = ()
    numbers = None
    if study.keeps_identity and source_slices and not burn_in:
        numbers = planes_on_slices(measured.segmentation, source_slices)
        if numbers is None:
            notes += ("the labels do not lie on the slices of the source: the CT is written as a series of its own",)
    if numbers is not None:
        slices = bare_slices(source_slices, study)
    else:
        slices = ct_series(volume, study, description=description, burn_in=burn_in)
    segmentation = segmentation_object(
        measured.segmentation, slices, study, numbers=numbers, algorithm=measured.algorithm
    )
    if segmentation is None:
        notes += ("neither lung nor free air was labelled: there is no segment to write",)
    kinds = segments_of(measured.segmentation)
    report = measurement_report(measured.findings, MeasuredObjects(slices, segmentation, kinds), study)
    ct = () if numbers is not None else tuple(slices)
    return DicomResult(ct, segmentation, report, capture, notes)


def check_installed() -> None:
    """Whether segmentations and reports can be written. Raises MissingPartError."""
    highdicom()
