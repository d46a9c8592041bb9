"""What a reader returns: pixel data, the file's own geometry, and notes on what was assumed or repaired."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xrecon.geometry import ConeBeam
from xrecon.io.source_grid import SourceGrid


@dataclass(frozen=True)
class RawVolume:
    """A CT as stored: any axis order, with the affine that says which.

    Attributes:
        hu: [i, j, k] float32, Hounsfield units.
        affine: 4 x 4; (i, j, k, 1) to LPS mm. Its columns are orthogonal (a gantry tilt is resampled away).
        source: the file or folder it came from.
        notes: what the reader assumed, picked or repaired, for the user to read.
        synthetic: the file says that its values were computed, not measured.
        grid: the file's own axes, to which labels return.
    """

    hu: NDArray[np.float32]
    affine: NDArray[np.float64]
    source: Path
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    grid: SourceGrid | None = None


@dataclass(frozen=True)
class StatedView:
    """The view that a film file states, in words of this package's own vocabulary.

    Attributes:
        beam: "pa", "ap", "frontal" (one of these two), "lateral", "right_lateral"; None where it is neither.
        words: what is stated, for messages; never free text of the file.
        is_unusual: another pose or beam than that of a standing PA or lateral film.
        is_unknown: something is stated, but nothing that is known here.
        is_contradictory: two statements exclude each other.
    """

    beam: str | None
    words: str
    is_unusual: bool = False
    is_unknown: bool = False
    is_contradictory: bool = False


@dataclass(frozen=True)
class FilmTags:
    """What a film file says of its own acquisition; None where it is silent. Distances mm, kVp kV.

    Values are as stored and unchecked: whoever uses one checks it, so that an absurd tag that the user overrides
    does no harm.
    """

    view: str | None = None  # "pa", "ap", "frontal", "lateral", "right_lateral"
    stated_view: StatedView | None = None  # all that the file says of its view; `view` is its beam
    source_to_detector_mm: float | None = None
    source_to_patient_mm: float | None = None
    imager_pixel_mm: tuple[float, float] | None = None  # (rows, cols), at the detector
    pixel_spacing_mm: tuple[float, float] | None = None  # (rows, cols), calibrated to the patient or not, see next
    pixel_spacing_calibration: str | None = None  # "GEOMETRY", "FIDUCIAL" or None
    magnification: float | None = None
    patient_orientation: tuple[str, str] | None = None  # of growing column, of growing row: ("L", "F")
    kvp: float | None = None
    log_relationship: str | None = None  # "LIN" or "LOG"; None when unknown
    intent: str | None = None  # "FOR PRESENTATION" or "FOR PROCESSING"


@dataclass(frozen=True)
class RawFilm:
    """A radiograph as stored, already turned so that dense tissue is bright.

    Attributes:
        pixels: [rows, cols] float32 (bright = dense); "display": in 0..1 of the stored bit range; "line_integral":
            dimensionless.
        tags: acquisition values found in the file.
        source: the file it came from.
        notes: what the reader assumed or repaired, for the user to read.
        inverted: the stored values had dense tissue dark and the reader inverted them.
        quantity: what the pixels are.
        geometry: the exact geometry, where a side-car of `xrecon simulate` states it.
    """

    pixels: NDArray[np.float32]
    tags: FilmTags
    source: Path
    notes: tuple[str, ...] = field(default=())
    inverted: bool = False
    quantity: Literal["line_integral", "display"] = "display"
    geometry: ConeBeam | None = None
