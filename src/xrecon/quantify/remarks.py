"""Published size thresholds, stated beside the measured values. What follows from them is a clinician's matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from xrecon.quantify.canonical import SideName
from xrecon.quantify.measures import ChestMeasures, SideMeasures

SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "BTS 2010": "MacDuff A, Arnold A, Harvey J. Management of spontaneous pneumothorax: British Thoracic Society "
        "pleural disease guideline 2010. Thorax 2010;65(Suppl 2):ii18-ii31.",
        "BTS 2023": "Roberts ME, Rahman NM, Maskell NA, et al. British Thoracic Society guideline for pleural disease. "
        "Thorax 2023;78(Suppl 3):s1-s42.",
        "ACCP 2001": "Baumann MH, Strange C, Heffner JE, et al. Management of spontaneous pneumothorax: an American "
        "College of Chest Physicians Delphi consensus statement. Chest 2001;119:590-602.",
        "35 mm": "Bou Zein Eddine S, Boyle KA, Dodgion CM, et al. Observing pneumothoraces: the 35-millimeter rule is "
        "safe for both blunt and penetrating chest trauma. J Trauma Acute Care Surg 2019;86:557-564.",
        "Collins 1995": "Collins CD, Lopez A, Mathie A, et al. Quantification of pneumothorax size on chest "
        "radiographs using interpleural distances. AJR 1995;165:1127-1130.",
        "Light": "Light RW. Pleural Diseases. 3rd ed. Baltimore: Williams & Wilkins, 1995.",
    }
)
"""Short name to reference."""


@dataclass(frozen=True)
class Remark:
    """One published threshold beside the value measured here.

    Attributes:
        side: the patient's side; None for a remark on the whole chest.
        measure: JSON key of the value; empty where none belongs to it.
        value: as measured, in `unit`; None where none belongs to it.
        threshold: of the source, in `unit`; None where the source sets none.
        unit: "mm" or "".
        text: the comparison in a sentence, and how this measurement differs from the source's.
        source: reference.
    """

    side: SideName | None
    measure: str
    value: float | None
    threshold: float | None
    unit: str
    text: str
    source: str


def remarks_on(measures: ChestMeasures) -> tuple[Remark, ...]:
    """The thresholds that apply to what was measured; nothing for a chest without free air."""
    remarks = [remark for side in measures.sides for remark in _side_remarks(side)]
    if remarks or measures.sides:
        remarks.append(
            Remark(
                side=None,
                measure="",
                value=None,
                threshold=None,
                unit="",
                text="BTS 2023 considers symptoms and the patient's risks, and for a spontaneous pneumothorax with "
                "minimal symptoms conservative management regardless of size. None of these is known to this program.",
                source=SOURCES["BTS 2023"],
            )
        )
    return tuple(remarks)


def _side_remarks(side: SideMeasures) -> Iterator[Remark]:
    if side.rim_at_hilum_mm is not None:
        yield _compared(
            side,
            "rim_at_hilum_mm",
            side.rim_at_hilum_mm,
            20.0,
            "BTS 2010",
            "BTS 2010 calls a pneumothorax large from a rim of 2 cm at the level of the hilum on a frontal film.",
            "Here the rim is that of the CT's frontal projection, in the position of the scan, without magnification.",
        )
    if side.apex_to_cupola_mm is not None:
        yield _compared(
            side,
            "apex_to_cupola_mm",
            side.apex_to_cupola_mm,
            30.0,
            "ACCP 2001",
            "ACCP 2001 calls a pneumothorax large from 3 cm between apex and cupola on an upright frontal film.",
            "Lying down, air leaves the apex: in a supine CT this distance is smaller than upright.",
        )
    if side.radial_depth is not None:
        yield _compared(
            side,
            "radial_depth.depth_mm",
            side.radial_depth.depth_mm,
            35.0,
            "35 mm",
            "In chest trauma, 35 mm of radial distance on axial CT images has been studied as a limit of observation.",
            "Here the perpendicular is that of the curved wall in three dimensions, never longer than in a slice.",
        )


def _compared(
    side: SideMeasures, key: str, value: float, threshold: float, source: str, text: str, difference: str
) -> Remark:
    relation = "at or above" if value >= threshold else "below"
    words = f"{text} Measured: {value:.1f} mm, {relation} {threshold:g} mm. {difference}"
    return Remark(side.side, f"{side.side}.{key}", value, threshold, "mm", words, SOURCES[source])
