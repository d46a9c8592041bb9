"""A chest radiograph: one image, its view and the geometry under which it was (or is assumed to be) taken."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.geometry import VIEWS as VIEWS
from xrecon.geometry import ConeBeam
from xrecon.geometry import View as View
from xrecon.resample import resample_separable

if TYPE_CHECKING:
    from xrecon.io.raw import RawFilm

Quantity = Literal["line_integral", "display"]


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One radiograph: its image, its view, and the geometry in which it was taken.

    Attributes:
        image: [rows, cols] float32; rows from head to feet. PA columns run from the patient's right to the left,
            lateral columns from front to back. Dense tissue is bright.
        view: "pa" or "lateral".
        geometry: source, detector and pose.
        quantity: "line_integral" (dimensionless, integral of mu dl) or "display" (0..1, unknown gain and offset).
        notes: what a reader assumed; shown to the user.
        inversion_asked: the user said whether dense tissue is dark in the file: no check changes that.

    Raises:
        InputError: not 2-D, not finite, constant, an unknown view, or a detector of another shape than the image.
    """

    image: NDArray[np.float32]
    view: str
    geometry: ConeBeam
    quantity: Quantity = "line_integral"
    notes: tuple[str, ...] = field(default=())
    inversion_asked: bool = False

    def __post_init__(self) -> None:
        image = np.asarray(self.image, dtype=np.float32)
        if image.ndim != 2:
            raise InputError(f"a radiograph has two axes [rows, cols], got an array of shape {image.shape}")
        if not np.isfinite(image).all():
            raise InputError(f"{int((~np.isfinite(image)).sum())} pixels of the {self.view} film are NaN or infinite")
        if image.shape != self.geometry.detector_shape:
            raise InputError(
                f"the {self.view} film has {image.shape} pixels, its geometry {self.geometry.detector_shape}"
            )
        if self.view not in VIEWS:
            raise InputError(f"unknown view {self.view!r}; choose pa or lateral")
        if float(np.ptp(image)) <= 0:
            raise InputError(f"the {self.view} film is constant (all pixels {float(image.flat[0]):g}): an empty image?")
        image = image.view()
        image.flags.writeable = False
        object.__setattr__(self, "image", image)

    @property
    def is_quantitative(self) -> bool:
        """Whether pixel values are line integrals, not display values of unknown gain and offset."""
        return self.quantity == "line_integral"

    def resampled(self, geometry: ConeBeam) -> Radiograph:
        """The same film seen by another detector of the same source: antialiased; outside, the nearest edge value.

        Positions are matched at the isocentre plane, so a film taken at other distances is scaled by its own
        magnification (exact at the isocentre, approximate in front of and behind it).
        """
        old, new = self.geometry.pixel_at_isocentre_mm, geometry.pixel_at_isocentre_mm
        scale = (new[0] / old[0], new[1] / old[1])
        moved = [
            b / geometry.magnification - a / self.geometry.magnification
            for a, b in zip(self.geometry.detector_shift_mm, geometry.detector_shift_mm, strict=True)
        ]
        sizes = list(zip(self.image.shape, geometry.detector_shape, strict=True))
        offset = [
            (n - 1) / 2 - s * (m - 1) / 2 + shift / pitch
            for (n, m), s, shift, pitch in zip(sizes, scale, moved, old, strict=True)
        ]
        # Pad by the edge so that a smaller film ends in its own border values, not in a black frame.
        pads = [
            max(0, int(np.ceil(max(-o, o + s * (m - 1) - (n - 1)) + 2 * s + 2)))
            for (n, m), o, s in zip(sizes, offset, scale, strict=True)
        ]
        padded = np.pad(self.image, [(p, p) for p in pads], mode="edge")
        image = resample_separable(
            padded,
            geometry.detector_shape,
            scale=scale,
            offset=tuple(o + p for o, p in zip(offset, pads, strict=True)),
            fill=0.0,
        )
        return replace(self, image=image, geometry=geometry)

    def save(self, stem: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write `<stem>.tiff` (float, lossless), `<stem>.png` (16 bits, for the eye) and `<stem>.json` (geometry).

        Returns the TIFF's path; `load_radiograph` reads it back exactly. Raises OutputExistsError, InputError.
        """
        from xrecon.io.film_file import write_film
        from xrecon.volume import RESEARCH_NOTICE

        return write_film(
            Path(stem),
            self.image,
            view=self.view,
            geometry=self.geometry,
            notice=RESEARCH_NOTICE,
            quantity=self.quantity,
            notes=self.notes,
            overwrite=overwrite,
        ).tiff

    def __repr__(self) -> str:
        rows, cols = self.image.shape
        low, high = float(self.image.min()), float(self.image.max())
        return f"Radiograph({self.view}, {self.quantity}, {rows}x{cols}, {low:.3g}..{high:.3g}; {self.geometry})"


def load_radiograph(
    path: str | os.PathLike[str],
    view: str,
    *,
    geometry: str | ConeBeam = "chest",
    pixel_mm: float | None = None,
    invert: bool | None = None,
    mirror: bool = False,
) -> Radiograph:
    """Read a film from PNG, JPEG, TIFF, DICOM CR/DX, or the float film that `xrecon simulate` writes.

    Distances, spacing and inversion come from the file where it states them, else from `geometry`; the
    notes say which. Without any spacing the image's longer edge is taken to be 384 mm at the isocentre.

    Args:
        path: image file.
        view: "pa" or "lateral".
        geometry: preset name or geometry, for what the file does not state.
        pixel_mm: pixel pitch at the detector, mm; overrides the file.
        invert: True if dense tissue is dark in the file; None reads it from the file, else assumes bright bone.
        mirror: flip left and right (a lateral film that faces right, a PA film hung mirrored).

    Raises:
        InputError: the file is missing, damaged, of an unknown kind, constant, or contradicts `view`.
    """
    from xrecon.io.film_geometry import beam_of, geometry_from_tags, hang
    from xrecon.io.formats import read_film

    if view not in VIEWS:
        raise InputError(f"{os.fspath(path)}: unknown view {view!r}; choose pa or lateral")
    raw = read_film(Path(path))
    pixels, notes = _with_inversion(raw, invert)
    if raw.geometry is not None:  # written by xrecon simulate, hung and measured exactly
        beam_of(raw.tags, view, raw.source)
        beam = raw.geometry if pixel_mm is None else replace(raw.geometry, pixel_mm=(pixel_mm, pixel_mm))
    else:
        pixels, tags, hung = hang(pixels, raw.tags, view, raw.source)
        rows, cols = pixels.shape
        beam, assumed = geometry_from_tags(
            tags, (rows, cols), view=view, default=geometry, pixel_mm=pixel_mm, source=raw.source
        )
        notes += hung + assumed
    if mirror:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
        notes += ("mirrored left to right, as asked",)
    return Radiograph(pixels, view, beam, quantity=raw.quantity, notes=notes, inversion_asked=invert is not None)


def _with_inversion(raw: RawFilm, invert: bool | None) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Pixels with dense tissue bright, and the notes: inverted as the file states, or as the user says."""
    if invert is None or invert == raw.inverted:
        return raw.pixels, raw.notes
    if raw.quantity == "line_integral":
        raise InputError(f"{raw.source}: holds line integrals, which have no inverse; leave out invert")
    stored = "dark" if invert else "bright"
    return 1.0 - raw.pixels, (
        *raw.notes,
        f"dense tissue is {stored} in the file, as asked",
    )
