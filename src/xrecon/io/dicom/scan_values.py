"""Header values that tell pictures of one place apart, of a single slice or of one frame of an enhanced file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from xrecon.io.dicom.pixels import optional_number, text


@dataclass(frozen=True)
class ScanValues:
    """Header values that differ between pictures of one place: codes and numbers, never free text; "" where absent."""

    instance: int | None
    time: str
    phase: str
    kvp: str
    kernel: str
    thickness: str


_PHASES = (
    "TemporalPositionIdentifier", "TemporalPositionIndex", "TemporalPositionTimeOffset",
    "NominalPercentageOfCardiacPhase", "NominalPercentageOfRespiratoryPhase", "TriggerTime", "StackID",
)  # fmt: skip
_TIMES = ("AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime")
_FRAME_GROUPS = (
    "FrameContentSequence", "CardiacSynchronizationSequence", "RespiratorySynchronizationSequence",
    "TemporalPositionSequence", "PixelMeasuresSequence", "CTReconstructionSequence", "CTXRayDetailsSequence",
    "CTImageFrameTypeSequence",
)  # fmt: skip


def frame_parts(groups: Sequence[Any]) -> tuple[Any, ...]:
    """The data sets that describe one frame of an enhanced file: its own functional groups, then the shared ones."""
    return tuple(_items(groups))


def _items(groups: Sequence[Any]) -> Iterator[Any]:
    for group in groups:
        for keyword in _FRAME_GROUPS:
            sequence = None if group is None else group.get(keyword)
            if sequence:
                yield sequence[0]


def acquisition_number(header: Any, parts: Sequence[Any] = ()) -> str:
    """Of the frame, else of the file; "" where neither states it."""
    return next(filter(None, (_code(part, "FrameAcquisitionNumber") for part in parts)), "") or _code(
        header, "AcquisitionNumber"
    )


def scan_values(header: Any, parts: Sequence[Any] = ()) -> ScanValues:
    """The values of a slice; for a frame, `parts` (see `frame_parts`) go before the header of the file."""
    sources = (*parts, header)
    instance = optional_number(header, "InstanceNumber")
    thickness = next((t for t in (optional_number(source, "SliceThickness") for source in sources) if t), None)
    return ScanValues(
        instance=None if instance is None or parts else int(instance),
        time="" if parts else "".join(_code(header, keyword) for keyword in _TIMES),
        phase=" ".join(filter(None, (_first(sources, keyword) for keyword in _PHASES))),
        kvp=_first(sources, "KVP"),
        kernel=_first(sources, "ConvolutionKernel"),
        thickness="" if thickness is None else f"{thickness:.6g}",
    )


def _first(sources: Sequence[Any], keyword: str) -> str:
    return next(filter(None, (_code(source, keyword) for source in sources)), "")


def _code(header: Any, keyword: str) -> str:
    return "".join(c for c in text(header, keyword) if c.isalnum() or c in ".-")
