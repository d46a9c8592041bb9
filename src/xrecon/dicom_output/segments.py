"""Labels as a DICOM Segmentation: which segments there are, their codes and colours, and the object itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from xrecon import __version__
from xrecon.dicom_output.highdicom_parts import finish, highdicom
from xrecon.dicom_output.origin import slice_place
from xrecon.dicom_output.study import MANUFACTURER, MODEL_NAME, SeriesPlace, StudyContext, code_item, put_shared_modules
from xrecon.errors import InputError
from xrecon.segmentation import Label, Segmentation, Side

PLACE = SeriesPlace("SEG", 9002, "SEG", "Lungs, free air")
ANATOMICAL = ("91723000", "SCT", "Anatomical Structure")
ABNORMAL = ("49755003", "SCT", "Morphologically Abnormal Structure")
LUNG = ("39607008", "SCT", "Lung")
PNEUMOTHORAX = ("36118008", "SCT", "Pneumothorax")
PLEURA = ("3120008", "SCT", "Pleura")
LATERALITY = {Side.RIGHT: ("24028007", "SCT", "Right"), Side.LEFT: ("7771000", "SCT", "Left")}
_EVEN_MM = 0.1
"""Largest distance between a slice of the source and its plane in the labels."""


@dataclass(frozen=True)
class SegmentKind:
    """One structure that the labels can hold.

    Attributes:
        name: label for people.
        label: value of `Segmentation.labels`.
        side: the patient's side.
        category: code of SegmentedPropertyCategory.
        kind: code of SegmentedPropertyType; its modifier is the side.
        region: code of the anatomic region, None where the kind says it.
        colour: red, green, blue, 0..255.
    """

    name: str
    label: Label
    side: Side
    category: tuple[str, str, str]
    kind: tuple[str, str, str]
    region: tuple[str, str, str] | None
    colour: tuple[int, int, int]

    def mask(self, segmentation: Segmentation) -> NDArray[np.bool_]:
        """[D, H, W], true inside."""
        if self.label == Label.AIR:
            return np.asarray(segmentation.air_side == self.side)
        return np.asarray(segmentation.labels == self.label)


KINDS = (
    SegmentKind("Right lung", Label.RIGHT_LUNG, Side.RIGHT, ANATOMICAL, LUNG, None, (86, 140, 220)),
    SegmentKind("Left lung", Label.LEFT_LUNG, Side.LEFT, ANATOMICAL, LUNG, None, (92, 184, 122)),
    SegmentKind("Free pleural air, right", Label.AIR, Side.RIGHT, ABNORMAL, PNEUMOTHORAX, PLEURA, (222, 70, 60)),
    SegmentKind("Free pleural air, left", Label.AIR, Side.LEFT, ABNORMAL, PNEUMOTHORAX, PLEURA, (236, 132, 40)),
)
"""Every segment, in the order of their numbers; those without a voxel are left out and the rest count on."""


def segments_of(segmentation: Segmentation) -> tuple[SegmentKind, ...]:
    """The kinds of which the labels hold at least one voxel; item k is segment number k + 1."""
    return tuple(kind for kind in KINDS if kind.mask(segmentation).any())


def planes_on_slices(segmentation: Segmentation, slices: Sequence[Dataset]) -> NDArray[np.uint8] | None:
    """Segment numbers [slice, row, column] on the slices of a source CT; None where the labels lie on another grid.

    Args:
        segmentation: labels on the grid of that CT.
        slices: headers by position along the slice normal (`Origin.ct_headers`).
    """
    grid = segmentation.source_grid
    if grid is None or grid.resampled or len(slices) != grid.shape[2]:
        return None
    placed = grid.arranged(segment_numbers(segmentation), segmentation.affine)
    normal = grid.affine[:3, 2] / np.linalg.norm(grid.affine[:3, 2])
    places = (grid.affine[:3, 3] @ normal) + np.arange(grid.shape[2]) * np.linalg.norm(grid.affine[:3, 2])
    if placed is None or np.abs(places - [slice_place(header) for header in slices]).max() > _EVEN_MM:
        return None
    return np.ascontiguousarray(placed.transpose(2, 1, 0))


def bare_slices(slices: Sequence[Dataset], study: StudyContext) -> list[Dataset]:
    """Slices of a source CT with what a reference to them needs, whatever else their files hold or lack.

    Args:
        slices: headers of the source.
        study: the source's own study, kept.
    """
    distance_mm = (slice_place(slices[-1]) - slice_place(slices[0])) / max(1, len(slices) - 1)
    return [_bare(header, study, distance_mm) for header in slices]


def _bare(header: Dataset, study: StudyContext, distance_mm: float) -> Dataset:
    bare = Dataset()
    put_shared_modules(bare, study, PLACE)
    for keyword in (
        "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient",
        "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns",
    ):  # fmt: skip
        setattr(bare, keyword, header[keyword].value)
    bare.Modality, bare.SliceThickness = "CT", round(distance_mm, 6)
    return bare


def segment_numbers(segmentation: Segmentation) -> NDArray[np.uint8]:
    """[D, H, W], number of the segment at every voxel, 0 for none."""
    numbers = np.zeros(segmentation.shape, dtype=np.uint8)
    for number, kind in enumerate(segments_of(segmentation), start=1):
        numbers[kind.mask(segmentation)] = number
    return numbers


def segmentation_object(
    segmentation: Segmentation,
    slices: Sequence[Dataset],
    study: StudyContext,
    *,
    numbers: NDArray[np.uint8] | None = None,
    algorithm: str = "PTX-Seg",
) -> Dataset | None:
    """A Segmentation (binary, one frame per segment and slice) that refers to the slices of a CT.

    Args:
        segmentation: labels.
        slices: the CT's data sets, pixels not needed; from the head to the feet as `ct_series` writes them.
        study: where it belongs.
        numbers: segment numbers slice by slice as `planes_on_slices` gives them, where `slices` are a source's.
        algorithm: what drew the labels.

    Returns: None where no label has a voxel, for then there is no segment to store.

    Raises:
        InputError: the labels do not lie on the slices.
        MissingPartError: highdicom is not installed.
    """
    kinds = segments_of(segmentation)
    if not kinds:
        return None
    pixels = segment_numbers(segmentation) if numbers is None else numbers
    if len(slices) != len(pixels) or pixels.shape[1:] != (slices[0].Rows, slices[0].Columns):
        raise InputError(f"labels of shape {pixels.shape} do not lie on {len(slices)} slices of the CT")
    hd = highdicom()
    instance = hd.seg.Segmentation(
        source_images=list(slices),
        pixel_array=pixels,
        segmentation_type="BINARY",
        segment_descriptions=[_description(hd, kind, number, algorithm) for number, kind in enumerate(kinds, start=1)],
        series_instance_uid=study.mint.uid("SEG series"),
        series_number=PLACE.number,
        sop_instance_uid=study.mint.uid("SEG instance 1"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=__version__,
        device_serial_number=__version__,
        content_label="LUNGS_FREE_AIR",
        content_description=PLACE.notice,
    )
    return finish(instance, study, PLACE)


def _description(hd: Any, kind: SegmentKind, number: int, algorithm: str) -> Any:
    code = hd.sr.CodedConcept
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=kind.name,
        segmented_property_category=code(*kind.category),
        segmented_property_type=code(*kind.kind),
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=algorithm, family=code("123104", "DCM", "Morphological Operations"), version=__version__
        ),
        anatomic_regions=None if kind.region is None else [code(*kind.region)],
        display_color=hd.color.CIELabColor.from_rgb(*kind.colour),
    )
    side = code_item(*LATERALITY[kind.side])
    description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    if kind.region is not None:
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [side]
    return description
