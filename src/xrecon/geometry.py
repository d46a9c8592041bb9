"""Cone-beam geometry of one radiograph: a frozen value that travels with every film.

World frame: LPS (x to the patient's left, y posterior, z superior), mm, origin at the isocentre. At angle 0 the
source stands behind the patient (+y) and the detector in front (-y): a PA film. Turning the rig by +90 degrees about
the patient's long axis gives the left lateral film (source at the patient's right, detector at the left).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import GeometryError

FRAME_MM = 384.0
"""Edge of the reconstruction cube, and width of a film at the isocentre plane (docs/geometry-and-conventions.md)."""

View = Literal["pa", "lateral"]
"""The two films of a study; every film is hung like one of them."""

VIEWS: tuple[Literal["pa"], Literal["lateral"]] = ("pa", "lateral")
"""The views in the order in which films are passed: PA first, lateral second."""

VIEW_POSITIONS: Mapping[str, tuple[float, bool]] = {
    "pa": (0.0, False),
    "ap": (180.0, True),
    "lateral": (90.0, False),
    "right_lateral": (-90.0, True),
}
"""View position (as DICOM calls it) -> (rotation of the rig in degrees, whether the film is hung mirrored)."""


@dataclass(frozen=True)
class _Preset:
    source_to_isocentre_mm: float
    source_to_detector_mm: float
    detector_mm: float | None  # None: the film covers FRAME_MM at the isocentre plane
    note: str


PRESETS: Mapping[str, _Preset] = {
    "chest": _Preset(1540.0, 1800.0, None, "clinical stand: 180 cm source-detector, patient at the detector (26 cm)"),
    "x2ct": _Preset(541.0, 949.0, None, "distances of the X2CT-GAN data recipe (Ying et al., CVPR 2019)"),
    "prost": _Preset(300.0, 700.0, 373.76, "distances and detector of the ProST projector (Gao et al., MICCAI 2020)"),
}


_SCALARS = ("source_to_isocentre_mm", "source_to_detector_mm", "angle_deg", "tilt_deg", "roll_deg")
_VECTORS = {"pixel_mm": 2, "translation_mm": 3, "detector_shift_mm": 2}


def _floats(key: str, values: Sequence[float], count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(v) for v in values)
    except (TypeError, ValueError) as error:
        raise GeometryError(f"{key} must be numeric, got {values!r}") from error
    if len(numbers) != count or not all(math.isfinite(v) for v in numbers):
        raise GeometryError(f"{key} must hold {count} finite number{'s' * (count > 1)}, got {values!r}")
    return numbers


def _detector_shape(shape: Sequence[int]) -> tuple[int, int]:
    try:
        rows, cols = (operator.index(n) for n in shape)
    except (TypeError, ValueError):
        rows = cols = 0
    if min(rows, cols) < 1:
        raise GeometryError(f"detector_shape must be two positive integers (rows, cols), got {shape!r}")
    return rows, cols


@dataclass(frozen=True)
class ConeBeam:
    """One point source, one flat detector.

    Attributes:
        source_to_isocentre_mm: distance from the focal spot to the isocentre.
        source_to_detector_mm: distance from the focal spot to the detector plane.
        detector_shape: detector pixels (rows, cols).
        pixel_mm: pixel pitch at the detector plane (along rows' direction down, along columns), mm.
        angle_deg: rotation of the rig about the patient's long axis, right-handed about +z; 0 is PA, 90 left lateral.
        tilt_deg: rotation about the detector's column axis (cranio-caudal tilt of the beam).
        roll_deg: rotation in the detector's plane, about the central ray.
        translation_mm: displacement (x, y, z; LPS) of the isocentre from the volume's centre.
        detector_shift_mm: displacement of the detector in its own plane (down the rows, along the columns).
        mirrored: the film is hung mirrored (AP and right lateral films, hung like PA and left lateral ones).
        name: preset or origin, for people to read.
    """

    source_to_isocentre_mm: float
    source_to_detector_mm: float
    detector_shape: tuple[int, int]
    pixel_mm: tuple[float, float]
    angle_deg: float = 0.0
    tilt_deg: float = 0.0
    roll_deg: float = 0.0
    translation_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    detector_shift_mm: tuple[float, float] = (0.0, 0.0)
    mirrored: bool = False
    name: str = "custom"

    def __post_init__(self) -> None:
        # Plain floats, ints and tuples, whatever came in (lists of a JSON file, numpy scalars): equal geometries
        # compare and hash equal, and write to JSON.
        for key in _SCALARS:
            object.__setattr__(self, key, _floats(key, (getattr(self, key),), 1)[0])
        for key, count in _VECTORS.items():
            object.__setattr__(self, key, _floats(key, getattr(self, key), count))
        object.__setattr__(self, "detector_shape", _detector_shape(self.detector_shape))
        for key in ("source_to_isocentre_mm", "source_to_detector_mm", "pixel_mm"):
            if np.min(getattr(self, key)) <= 0:
                raise GeometryError(f"{key} must be positive, got {getattr(self, key)}")
        if not isinstance(self.mirrored, bool):
            raise GeometryError(f"mirrored must be true or false, got {self.mirrored!r}")
        if self.source_to_detector_mm <= self.source_to_isocentre_mm:
            raise GeometryError(
                f"the detector must lie beyond the isocentre: source_to_detector_mm={self.source_to_detector_mm:g} "
                f"is not larger than source_to_isocentre_mm={self.source_to_isocentre_mm:g}"
            )

    @classmethod
    def preset(cls, name: str, view: str = "pa", *, size: int = 224, frame_mm: float = FRAME_MM) -> ConeBeam:
        """Geometry of a named preset (`chest`, `x2ct`, `prost`) for one view, with a `size` x `size` detector.

        The detector covers `frame_mm` at the isocentre plane (the `prost` preset keeps its own 373.76 mm detector).
        """
        if name not in PRESETS:
            raise GeometryError(f"unknown geometry preset {name!r}; choose one of {', '.join(PRESETS)}")
        if view not in VIEW_POSITIONS:
            raise GeometryError(f"unknown view {view!r}; choose one of {', '.join(VIEW_POSITIONS)}")
        if size < 1:
            raise GeometryError(f"size must be a positive number of pixels, got {size}")
        preset = PRESETS[name]
        magnification = preset.source_to_detector_mm / preset.source_to_isocentre_mm
        detector_mm = preset.detector_mm if preset.detector_mm is not None else frame_mm * magnification
        angle, mirrored = VIEW_POSITIONS[view]
        return cls(
            preset.source_to_isocentre_mm,
            preset.source_to_detector_mm,
            (size, size),
            (detector_mm / size, detector_mm / size),
            angle_deg=angle,
            mirrored=mirrored,
            name=name,
        )

    @property
    def magnification(self) -> float:
        """Magnification of an object at the isocentre: source-detector over source-isocentre distance."""
        return self.source_to_detector_mm / self.source_to_isocentre_mm

    @property
    def pixel_at_isocentre_mm(self) -> tuple[float, float]:
        """Pixel pitch (rows, cols) scaled to the isocentre plane, mm."""
        return self.pixel_mm[0] / self.magnification, self.pixel_mm[1] / self.magnification

    @property
    def rotation(self) -> NDArray[np.float64]:
        """3 x 3 rotation of the rig, acting on LPS column vectors: Rz(angle) Rx(tilt) Ry(roll)."""
        a, t, r = (math.radians(v) for v in (self.angle_deg, self.tilt_deg, self.roll_deg))
        rz = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
        rx = np.array([[1, 0, 0], [0, math.cos(t), -math.sin(t)], [0, math.sin(t), math.cos(t)]])
        ry = np.array([[math.cos(r), 0, math.sin(r)], [0, 1, 0], [-math.sin(r), 0, math.cos(r)]])
        return np.asarray(rz @ rx @ ry, dtype=np.float64)

    @property
    def is_aligned(self) -> bool:
        """Whether detector rows run along the patient's axis and columns along left-right or front-back."""
        turns = self.angle_deg / 90.0
        return self.tilt_deg == 0 and self.roll_deg == 0 and abs(turns - round(turns)) < 1e-9

    def with_detector(self, shape: tuple[int, int]) -> ConeBeam:
        """The same detector area sampled with `shape` = (rows, cols) pixels."""
        shape = _detector_shape(shape)
        scale = (self.detector_shape[0] / shape[0], self.detector_shape[1] / shape[1])
        return replace(self, detector_shape=shape, pixel_mm=(self.pixel_mm[0] * scale[0], self.pixel_mm[1] * scale[1]))

    def moved(
        self,
        *,
        angle_deg: float = 0.0,
        tilt_deg: float = 0.0,
        roll_deg: float = 0.0,
        translation_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> ConeBeam:
        """A copy with the pose changed by the given differences."""
        x, y, z = (a + b for a, b in zip(self.translation_mm, translation_mm, strict=True))
        return replace(
            self,
            angle_deg=self.angle_deg + angle_deg,
            tilt_deg=self.tilt_deg + tilt_deg,
            roll_deg=self.roll_deg + roll_deg,
            translation_mm=(x, y, z),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON side-car; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ConeBeam:
        """Geometry from the values of `to_dict`. Raises GeometryError on unknown or missing keys."""
        try:
            return cls(**values)
        except TypeError as error:
            raise GeometryError(f"not a cone-beam geometry: {error}") from error

    def __str__(self) -> str:
        rows, cols = self.detector_shape
        text = (
            f"{self.name}: source-isocentre {self.source_to_isocentre_mm:g} mm, source-detector "
            f"{self.source_to_detector_mm:g} mm, {rows}x{cols} pixels of "
            f"{self.pixel_mm[0]:.3f}x{self.pixel_mm[1]:.3f} mm, angle {self.angle_deg:g} deg"
        )
        extras = [(self.tilt_deg, f"tilt {self.tilt_deg:g} deg"), (self.roll_deg, f"roll {self.roll_deg:g} deg")]
        extras += [(any(self.translation_mm), f"moved {self.translation_mm} mm"), (self.mirrored, "mirrored")]
        return text + "".join(f", {words}" for value, words in extras if value)
