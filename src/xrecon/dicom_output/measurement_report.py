"""Findings as a structured report, TID 1500: occupancy, volumes and depths with codes and units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from xrecon import __version__
from xrecon.dicom_output import measurement_codes as codes
from xrecon.dicom_output.highdicom_parts import finish, highdicom
from xrecon.dicom_output.identifiers import derived_uid
from xrecon.dicom_output.segments import LATERALITY, LUNG, PLEURA, PNEUMOTHORAX, SegmentKind
from xrecon.dicom_output.study import MANUFACTURER, MODEL_NAME, SeriesPlace, StudyContext
from xrecon.quantify.depth import Depth
from xrecon.quantify.findings import Findings
from xrecon.quantify.measures import SideMeasures
from xrecon.segmentation import Label, Side

PLACE = SeriesPlace("SR", 9003, "SR", "Measurements")


@dataclass(frozen=True, eq=False)
class MeasuredObjects:
    """What the report refers to; all of one study.

    Attributes:
        slices: data sets of the CT.
        segmentation: the Segmentation; None where no label has a voxel.
        kinds: its segments, in the order of their numbers.
    """

    slices: Sequence[Dataset]
    segmentation: Dataset | None
    kinds: Sequence[SegmentKind]


def measurement_report(findings: Findings, objects: MeasuredObjects, study: StudyContext) -> Dataset:
    """A Comprehensive 3D SR: preliminary, unverified, with the notice as a comment.

    Raises:
        MissingPartError: highdicom is not installed.
    """
    hd = highdicom()
    writer = _Writer(hd, study)
    groups = [writer.chest(findings)]
    groups += [writer.side(findings, side) for side in (Side.RIGHT, Side.LEFT)]
    if findings.mediastinum is not None:
        groups.append(writer.mediastinum(findings.mediastinum.shift_mm))
    if objects.segmentation is not None:
        groups += [
            writer.segment(findings, kind, number, objects) for number, kind in enumerate(objects.kinds, start=1)
        ]
    report = hd.sr.MeasurementReport(
        observation_context=_observer(hd),
        procedure_reported=writer.code(codes.CT_PROCEDURE),
        imaging_measurements=groups,
    )
    for sentence in (PLACE.notice, findings.detection_limit.statement, *findings.warnings):
        report[0].ContentSequence.append(
            hd.sr.TextContentItem(writer.code(codes.COMMENT), sentence, relationship_type="CONTAINS")
        )
    evidence = [*objects.slices, *([] if objects.segmentation is None else [objects.segmentation])]
    instance = hd.sr.Comprehensive3DSR(
        evidence=evidence,
        content=report,
        series_instance_uid=study.mint.uid("SR series"),
        series_number=PLACE.number,
        sop_instance_uid=study.mint.uid("SR instance 1"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    scheme = Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeName = codes.SCHEME, codes.SCHEME_NAME
    scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
    instance.CodingSchemeIdentificationSequence = [scheme]
    return finish(instance, study, PLACE)


def _observer(hd: Any) -> Any:
    attributes = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", __version__),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=f"{MODEL_NAME} {__version__}",
    )
    device = hd.sr.CodedConcept("121007", "DCM", "Device")
    context = hd.sr.ObserverContext(observer_type=device, observer_identifying_attributes=attributes)
    return hd.sr.ObservationContext(observer_device_context=context)


@dataclass(frozen=True)
class _Writer:
    """Writes one group of the report after the other.

    Attributes:
        hd: the package highdicom.
        study: where the report belongs.
    """

    hd: Any
    study: StudyContext

    def code(self, code: codes.Code) -> Any:
        return self.hd.sr.CodedConcept(*code)

    def chest(self, findings: Findings) -> Any:
        measurements = self._numbers(
            (codes.OCCUPANCY, _percent(findings.occupancy.whole_chest), codes.PERCENT),
            (codes.VOLUME, findings.volumes_ml.air, codes.MILLILITRE),
        )
        site = self.hd.sr.FindingSite(self.code(codes.CHEST))
        answer = codes.PRESENT if findings.air_found else codes.ABSENT
        return self._group("Whole chest", measurements, site, answer=answer)

    def side(self, findings: Findings, side: Side) -> Any:
        name = side.name.lower()
        measures: SideMeasures | None = getattr(findings, name)
        measurements = self._numbers(
            (codes.OCCUPANCY, _percent(getattr(findings.occupancy, name)), codes.PERCENT),
            (codes.VOLUME, getattr(findings.volumes_ml, f"{name}_air"), codes.MILLILITRE),
        )
        for entry in codes.SIDE_MEASURES:
            value = None if measures is None else entry.value(measures)
            if measures is not None and value is not None:
                measurements.append(self._number(entry.code, value, entry.unit, entry.line(measures)))
        site = self.hd.sr.FindingSite(self.code(PLEURA), laterality=self.code(LATERALITY[side]))
        answer = codes.PRESENT if measures is not None else codes.ABSENT
        if getattr(findings.occupancy, name) is None:  # neither lung nor air on this side
            answer = codes.UNDETERMINED
        return self._group(f"{name.capitalize()} pleural space", measurements, site, answer=answer)

    def mediastinum(self, shift_mm: float) -> Any:
        measurements = self._numbers((codes.MEDIASTINAL_SHIFT, shift_mm, codes.MILLIMETRE))
        site = self.hd.sr.FindingSite(self.code(codes.MEDIASTINUM))
        return self._group("Mediastinum", measurements, site, answer=None)

    def segment(self, findings: Findings, kind: SegmentKind, number: int, objects: MeasuredObjects) -> Any:
        segmentation, first = objects.segmentation, objects.slices[0]
        assert segmentation is not None
        what = "air" if kind.label == Label.AIR else "lung"
        volume = getattr(findings.volumes_ml, f"{kind.side.name.lower()}_{what}")
        sr = self.hd.sr
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._tracking(kind.name),
            referenced_segment=sr.ReferencedSegment(
                sop_class_uid=segmentation.SOPClassUID,
                sop_instance_uid=segmentation.SOPInstanceUID,
                segment_number=number,
                source_series=sr.SourceSeriesForSegmentation(first.SeriesInstanceUID),
            ),
            finding_type=self.code(PNEUMOTHORAX if kind.label == Label.AIR else LUNG),
            finding_sites=[sr.FindingSite(self.code(kind.region or LUNG), laterality=self.code(LATERALITY[kind.side]))],
            measurements=self._numbers((codes.VOLUME, volume, codes.MILLILITRE)),
        )

    def _group(self, name: str, measurements: list[Any], site: Any, *, answer: codes.Code | None) -> Any:
        sr, question = self.hd.sr, self.code(PNEUMOTHORAX)
        return sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._tracking(name),
            finding_type=None if answer is None else question,
            finding_sites=[site],
            measurements=measurements,
            qualitative_evaluations=[] if answer is None else [sr.QualitativeEvaluation(question, self.code(answer))],
        )

    def _tracking(self, name: str) -> Any:
        return self.hd.sr.TrackingIdentifier(uid=self.study.mint.uid(f"tracking {name}"), identifier=name)

    def _numbers(self, *entries: tuple[codes.Code, float | None, codes.Code]) -> list[Any]:
        return [self._number(code, value, unit) for code, value, unit in entries if value is not None]

    def _number(self, code: codes.Code, value: float, unit: codes.Code, line: Depth | None = None) -> Any:
        sr = self.hd.sr
        coordinates = None if line is None else [
            sr.CoordinatesForMeasurement3D(
                graphic_type="POLYLINE",
                graphic_data=np.array([line.inner_lps_mm, line.wall_lps_mm]),
                frame_of_reference_uid=self.study.frame_of_reference,
                purpose=self.code(codes.PATH),
            )
        ]  # fmt: skip
        return sr.Measurement(
            name=self.code(code), value=round(value, 4), unit=self.code(unit), referenced_coordinates=coordinates
        )


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share
