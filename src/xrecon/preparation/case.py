"""From one CT to one prepared case: centred on the lungs, without the table, with films and masks on the same frame."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.body import body_mask, without_table
from xrecon.anatomy.frame import framed, thorax_centre
from xrecon.data.case_file import CaseData, scan_box
from xrecon.films.simulation import simulate
from xrecon.geometry import VIEWS, ConeBeam
from xrecon.preparation.checks import Thorax, check_thorax, hemithoraces
from xrecon.preparation.settings import PrepareSettings
from xrecon.ptxseg.pipeline import segment
from xrecon.radiograph import Radiograph
from xrecon.segmentation import Segmentation
from xrecon.volume import RESEARCH_NOTICE, Volume

HU_RANGE = (-1024, 3071)
_OUTSIDE_FRAME_ML = 20.0
"""Lung volume outside the frame, mL, above which a warning is given."""
_LEAST_CORRELATION = 0.3
"""A film that correlates less with the one simulated from the CT is inverted, or of another patient."""

LungFinder = Callable[[Volume, str], Segmentation]
"""Lungs and free air of a CT, by a model of that name."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """One case made from a CT, with what its manifest entry says about it.

    Attributes:
        case: the arrays to store.
        thorax: lung volumes and warnings.
        source_sha256: digest of the CT's voxels.
        source_shape: [D, H, W] of the CT.
        source_spacing_mm: (D, H, W).
        lung_model: name of the model that found the lungs.
        notes: what was assumed or repaired when the CT and the films were read.
    """

    case: CaseData
    thorax: Thorax
    source_sha256: str
    source_shape: tuple[int, int, int]
    source_spacing_mm: tuple[float, float, float]
    lung_model: str
    notes: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """The fields of a `CaseRecord` that follow from the content."""
        return {
            "source_sha256": self.source_sha256,
            "source_shape": self.source_shape,
            "source_spacing_mm": self.source_spacing_mm,
            "right_lung_ml": round(self.thorax.right_ml, 1),
            "left_lung_ml": round(self.thorax.left_ml, 1),
            "air_ml": round(self.thorax.air_ml, 1),
            "films": self.case.quantity,
            "lung_model": self.lung_model,
            "warnings": self.thorax.warnings,
            "notes": self.notes,
        }


def prepare_volume(
    ct: Volume,
    settings: PrepareSettings,
    *,
    films: tuple[Radiograph, Radiograph] | None = None,
    centre_mm: NDArray[np.float64] | None = None,
    has_table: bool = True,
    find_lungs: LungFinder | None = None,
) -> Prepared:
    """Make one case of a data set from a CT: check it, cut the table, centre it, and add films and masks.

    Args:
        ct: HU, any orientation.
        settings: size, geometry and all else that decides the values.
        films: the patient's own (PA, lateral); None: simulated from the CT.
        centre_mm: LPS position of the isocentre where it is known; None: by the settings.
        has_table: False where the table is known to be gone, so that the skin is not cut twice.
        find_lungs: called with the CT and the name of the lung model; None: PTX-Seg.

    Raises:
        InputError: no chest CT in HU, or not both lungs in it.
        MissingPartError: the lung model needs something that is not installed.
    """
    ct = ct.canonical()
    lungs = (find_lungs or _ptxseg)(ct, settings.lung_model)
    body = body_mask(ct)
    thorax = check_thorax(ct, lungs, body, allow_partial=settings.allow_partial)
    if centre_mm is None:
        centre_mm = ct.centre_mm if settings.centre == "volume" else thorax_centre(ct)
    centre = np.asarray(centre_mm, dtype=np.float64)
    bare = ct if settings.keep_table or not has_table else without_table(ct, mask=body)
    frame = framed(bare, settings.size, centre_mm=centre, frame_mm=settings.frame_mm)
    sides = hemithoraces(lungs)
    on_frame = _onto_frame(ct, sides, lungs.air_side > 0, body, centre, settings)
    beams = beams_for(settings)
    simulated = simulate(
        bare, size=settings.size, geometry=beams, keep_table=True, centre_mm=centre, energy_kev=settings.energy_kev
    )
    warnings = [*thorax.warnings, *_outside(sides, ct, centre, settings)]
    pa, lateral = simulated
    if films is not None:
        pa, lateral = (film.resampled(beam) for film, beam in zip(films, beams, strict=True))
        warnings += _compare_films((pa, lateral), simulated)
    case = CaseData(
        ct=np.clip(np.rint(frame.hu), *HU_RANGE).astype(np.int16),
        pa=pa.image.astype(np.float32),
        lateral=lateral.image.astype(np.float32),
        **on_frame,
        affine=np.array(frame.affine),
        scan_box=scan_box(ct, frame),
        beams=beams,
        quantity=pa.quantity,
    )
    notes = (*ct.notes, *(() if films is None else (*films[0].notes, *films[1].notes)))
    return Prepared(
        case,
        Thorax(thorax.right_ml, thorax.left_ml, thorax.air_ml, tuple(warnings)),
        voxel_sha256(ct),
        ct.shape,
        ct.spacing_mm,
        str(lungs.findings.get("lung_model", settings.lung_model)),
        tuple(note for note in dict.fromkeys(notes) if note != RESEARCH_NOTICE),
    )


def beams_for(settings: PrepareSettings) -> tuple[ConeBeam, ConeBeam]:
    """Geometry of the PA and the lateral film, relative to the centre of the frame."""
    pa, lateral = (
        ConeBeam.preset(settings.geometry, view, size=settings.size, frame_mm=settings.frame_mm) for view in VIEWS
    )
    return pa, lateral


def voxel_sha256(ct: Volume) -> str:
    """Digest of the HU in whole numbers, canonical axes, and of the spacing: the same for a CT in any file format."""
    ct = ct.canonical()
    digest = hashlib.sha256()
    spacing = [round(100 * s) for s in ct.spacing_mm]
    digest.update(f"{ct.shape}:{spacing}".encode())
    # Padding differs between formats (-1024, -2000, -3024), what was measured does not.
    digest.update(np.clip(np.rint(ct.hu), -1000, 3071).astype("<i2").tobytes())
    return digest.hexdigest()


def _ptxseg(ct: Volume, lung_model: str) -> Segmentation:
    return segment(ct, lung_model=lung_model)


def _onto_frame(
    ct: Volume,
    sides: NDArray[np.uint8],
    air: NDArray[np.bool_],
    body: NDArray[np.bool_],
    centre: NDArray[np.float64],
    settings: PrepareSettings,
) -> dict[str, NDArray[np.uint8]]:
    """The masks resampled to the frame: a voxel belongs to a mask that fills more than half of it."""
    shape = (settings.size,) * 3
    pitch = settings.frame_mm / settings.size

    def share(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        if not mask.any():
            return np.zeros(shape, dtype=np.float32)
        return ct.with_hu(mask.astype(np.float32)).resampled(shape, pitch, centre_mm=centre, fill_hu=0.0).hu

    right, left = share(sides == 1), share(sides == 2)
    inside = right + left > 0.5
    on_frame = np.where(inside, np.where(right >= left, np.uint8(1), np.uint8(2)), np.uint8(0)).astype(np.uint8)
    return {
        "sides": on_frame,
        "air": ((share(air) > 0.5) & inside).astype(np.uint8),
        "body": ((share(body) > 0.5) | inside).astype(np.uint8),
    }


def _outside(sides: NDArray[np.uint8], ct: Volume, centre: NDArray[np.float64], settings: PrepareSettings) -> list[str]:
    """A warning where more than `_OUTSIDE_FRAME_ML` of the lungs lies outside the frame, counted on the CT's voxels."""
    middle = np.linalg.solve(ct.affine[:3, :3], centre - ct.affine[:3, 3])  # (d, h, w) index of the isocentre
    box = []
    for axis, (length, pitch) in enumerate(zip(ct.shape, ct.spacing_mm, strict=True)):
        reach = settings.frame_mm / 2 / pitch
        first, end = np.clip(np.ceil([middle[axis] - reach, middle[axis] + reach]), 0, length).astype(int)
        box.append(slice(int(first), int(end)))
    whole = float(np.count_nonzero(sides)) * ct.voxel_ml
    lost = whole - float(np.count_nonzero(sides[tuple(box)])) * ct.voxel_ml
    if lost > _OUTSIDE_FRAME_ML:
        return [f"{lost:.0f} mL of {whole:.0f} mL of the lungs lie outside the {settings.frame_mm:g} mm frame"]
    return []


def _compare_films(films: tuple[Radiograph, Radiograph], simulated: tuple[Radiograph, Radiograph]) -> list[str]:
    """Warnings where a user's film does not look like the one simulated from the CT: mirrored, inverted or foreign."""
    out = []
    for film, expected in zip(films, simulated, strict=True):
        upright = _correlation(film.image, expected.image)
        mirrored = _correlation(film.image[:, ::-1], expected.image)
        if upright < _LEAST_CORRELATION:
            out.append(
                f"the {film.view} film hardly looks like the CT (correlation {upright:.2f}): inverted, or another "
                "patient?"
            )
        elif mirrored > upright + 0.02:
            out.append(
                f"the {film.view} film fits the CT better mirrored (correlation {mirrored:.2f} against {upright:.2f})"
            )
    return out


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Pearson correlation of two images of the same shape."""
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
