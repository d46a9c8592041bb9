"""The films that `xrecon simulate` writes and reads back without loss.

Three files of one stem: `<stem>.tiff`, float32 line integrals, the measurement; `<stem>.png`, 16 bits, windowed for
the eye; `<stem>.json`, the side-car with view and exact geometry, for both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from xrecon.errors import InputError
from xrecon.geometry import VIEWS, ConeBeam
from xrecon.io.guards.arrays import check_finite, check_not_constant
from xrecon.io.guards.files import read_text_capped, sha256_of
from xrecon.io.image import read_image_film
from xrecon.io.output.atomic import atomic_path, check_absent, write_json_atomic
from xrecon.io.raw import FilmTags, RawFilm

SCHEMA = "xrecon-film/1"
WINDOW_PERCENT = (0.5, 99.5)
_DESCRIPTION_TAG = 270


@dataclass(frozen=True)
class FilmFiles:
    """Where one film was written."""

    tiff: Path
    png: Path
    json: Path


def write_film(
    stem: Path,
    image: NDArray[np.float32],
    *,
    view: str,
    geometry: ConeBeam,
    notice: str,
    quantity: Literal["line_integral", "display"] = "line_integral",
    notes: tuple[str, ...] = (),
    extra: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> FilmFiles:
    """Write a film as float TIFF, display PNG and JSON side-car, each atomically.

    Args:
        stem: folder and name without suffix, e.g. `out/pa`.
        image: [rows, cols] line integrals (dimensionless) or display values; dense tissue is large.
        view: "pa" or "lateral".
        geometry: its detector has the image's shape.
        notice: e.g. the research notice; goes into all three files.
        quantity: what the image holds.
        notes: kept in the side-car.
        extra: further plain values for the side-car.
        overwrite: replace existing files.

    Raises:
        OutputExistsError: any of the three exists (then none is written).
        InputError: not 2-D, not finite, constant, or of another shape than the geometry's detector.
    """
    stem = Path(stem)
    values = np.ascontiguousarray(image, dtype=np.float32)
    if values.shape != geometry.detector_shape:
        raise InputError(f"{stem}: the image has shape {values.shape}, its geometry {geometry.detector_shape}")
    check_finite(values, stem, what="pixels")
    check_not_constant(values, stem, what="pixels")
    files = FilmFiles(*(stem.with_name(stem.name + suffix) for suffix in (".tiff", ".png", ".json")))
    for path in (files.tiff, files.png, files.json):
        check_absent(path, overwrite=overwrite)
    with atomic_path(files.tiff, overwrite=overwrite) as temporary:
        Image.fromarray(values).save(temporary, format="TIFF", tiffinfo={_DESCRIPTION_TAG: notice})
    low, high = _window(values)
    display = np.rint(np.clip((values - low) / (high - low), 0, 1) * 65535).astype(np.uint16)
    comment = PngImagePlugin.PngInfo()
    comment.add_text("Comment", notice)
    with atomic_path(files.png, overwrite=overwrite) as temporary:
        Image.fromarray(display).save(temporary, format="PNG", pnginfo=comment)
    side_car = {
        **(extra or {}),
        "schema": SCHEMA,
        "notice": notice,
        "view": view,
        "quantity": quantity,
        "geometry": geometry.to_dict(),
        "display_window": [low, high],
        "sha256": {"tiff": sha256_of(files.tiff), "png": sha256_of(files.png)},
        "notes": list(notes),
    }
    write_json_atomic(files.json, side_car, overwrite=overwrite)
    return files


def _window(values: NDArray[np.float32]) -> tuple[float, float]:
    low, high = (float(v) for v in np.percentile(values, WINDOW_PERCENT))
    return (low, high) if high > low else (float(values.min()), float(values.max()))


def side_car_of(path: Path) -> Mapping[str, Any] | None:
    """The side-car beside an image, if there is one and it is ours. Raises InputError if it is ours but unusable."""
    side_car = path.with_suffix(".json")
    if not side_car.is_file():
        return None
    try:
        values = json.loads(read_text_capped(side_car))
    except (InputError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(
            f"{side_car}: the side-car of {path.name} cannot be read ({error}); write it again, or move the JSON away"
        ) from error
    schema = values.get("schema") if isinstance(values, dict) else None
    if not isinstance(schema, str) or not schema.startswith("xrecon-film/"):
        return None  # some other tool's JSON of the same name
    if schema != SCHEMA:
        raise InputError(f"{side_car}: has the schema {schema!r}, this version reads {SCHEMA!r}; update xrecon")
    return dict(values)


def read_film_file(path: Path, side_car: Mapping[str, Any]) -> RawFilm:
    """A film with the geometry of its side-car: float TIFF in the side-car's quantity, else display values.

    Raises:
        InputError: side-car and image do not belong together, or a key is missing or wrong.
    """
    where = path.with_suffix(".json")
    view, quantity = side_car.get("view"), side_car.get("quantity")
    if view not in VIEWS or quantity not in ("line_integral", "display"):
        raise InputError(
            f"{where}: view is {view!r} and quantity {quantity!r}; expected pa or lateral, and line_integral or "
            f"display; write the film again"
        )
    if not isinstance(side_car.get("geometry"), dict):
        raise InputError(f"{where}: the key 'geometry' is missing; write the film again with xrecon simulate")
    geometry = ConeBeam.from_dict(side_car["geometry"])
    _check_digest(path, side_car, where)
    film = read_image_film(path)
    values = _float_pixels(path)
    if values is not None:
        film = replace(film, pixels=values, quantity=quantity, notes=())
    if film.pixels.shape != geometry.detector_shape:
        raise InputError(
            f"{path}: has {film.pixels.shape} pixels, its side-car {where.name} says {geometry.detector_shape}; they "
            f"do not belong together: write the film again, or move the JSON away"
        )
    notes = (*film.notes, f"geometry taken from the side-car {where.name}")
    return replace(film, tags=FilmTags(view=view), geometry=geometry, notes=notes)


def _check_digest(path: Path, side_car: Mapping[str, Any], where: Path) -> None:
    digests = side_car.get("sha256")
    key = {".tiff": "tiff", ".tif": "tiff", ".png": "png"}.get(path.suffix.lower())
    expected = digests.get(key) if isinstance(digests, dict) else None
    if expected is not None and sha256_of(path) != expected:
        raise InputError(
            f"{path}: has changed since its side-car {where.name} was written (sha256 differs), so the geometry may no "
            f"longer fit; write the film again, or move the JSON away"
        )


def _float_pixels(path: Path) -> NDArray[np.float32] | None:
    """The values of a float TIFF as they are; None for integer images."""
    with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as image:
        return np.array(image, dtype=np.float32) if image.mode == "F" else None
