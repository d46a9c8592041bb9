"""Films from PNG, JPEG and TIFF: one grey image, 8 or 16 bits (or float), with whatever its container adds."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from xrecon.errors import InputError
from xrecon.io.guards.arrays import MAX_PIXELS, check_count, check_finite, check_not_constant
from xrecon.io.guards.files import check_file
from xrecon.io.raw import FilmTags, RawFilm

MIN_SIDE = 8
GREY_TOLERANCE = 12
"""Largest difference between channels (of 255) that JPEG's colour compression leaves in a grey picture."""
COLOURED_SHARE = 0.01
MIN_GREYS = 16
"""Grey levels of a grey picture below which it is said that it is dithered or posterised."""
MIN_LEVELS = 32
"""Fewest grey levels of a colour picture that bring no note."""
_EXIF_ORIENTATION = 0x0112
_TIFF_PHOTOMETRIC = 262
Notes = tuple[str, ...]
_FULL_SCALE = {"1": 1.0, "L": 255.0, "LA": 255.0, "I;16": 65535.0, "I;16L": 65535.0, "I;16B": 65535.0}


def read_image_film(path: Path) -> RawFilm:
    """Read a film from PNG, JPEG or TIFF.

    Colour pictures are accepted when their channels agree; alpha is dropped; the EXIF orientation is honoured. The
    pixels are scaled by the full range of their type, 0..1 (float pictures by their own range).

    Raises:
        InputError: damaged, truncated, of absurd size, several pages, coloured, constant, not finite.
    """
    path = Path(path)
    check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures; the cap here is stricter
            with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as image:
                rows, cols = image.height, image.width
                pictures = _check_header(image, path)
                white_is_zero = _white_is_zero(image)
                image.load()
                turned = _upright(image)
                mode = image.mode
                pixels, notes = _grey(turned, path)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path}: the header claims more pixels than the limit of {MAX_PIXELS:.3g} (a decompression bomb?); shrink "
            f"the image"
        ) from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: the image is damaged, or its pixels are of a kind that is not read (as 64-bit floats and 16-bit "
            f"colours in a TIFF); export it again as grey PNG of 8 or 16 bits"
        ) from error
    except Exception as error:  # Pillow's decoders raise many unrelated types on damaged files
        raise InputError(
            f"{path}: the image is damaged or truncated ({type(error).__name__}: {error}); export it again as PNG"
        ) from error
    notes = pictures + notes
    if turned is not image:
        notes += (f"turned upright by its EXIF orientation (stored as {rows} x {cols})",)
    if white_is_zero and mode.startswith("I;16"):
        pixels = 1.0 - pixels  # Pillow does this itself for 8 bits only
        notes += ("TIFF photometric 'white is zero': inverted",)
    check_finite(pixels, path, what="pixels")
    check_not_constant(pixels, path, what="pixels")
    return RawFilm(np.ascontiguousarray(pixels, dtype=np.float32), FilmTags(), path, notes)


def _check_header(image: Any, path: Path) -> Notes:
    """What is to be said of a file with several pictures. Raises InputError for absurd sizes and several pages."""
    check_count((image.height, image.width), path, limit=MAX_PIXELS, what="pixels")
    if min(image.height, image.width) < MIN_SIDE:
        raise InputError(f"{path}: the image has only {image.height} x {image.width} pixels; give the film itself")
    frames = int(getattr(image, "n_frames", 1))
    if frames == 1:
        return ()
    if image.format != "MPO":
        raise InputError(f"{path}: holds {frames} pages or frames, expected one film; export the one that you want")
    # The first picture of an MPO file is the photograph; further ones are previews, depth or brightness maps.
    return (f"the JPEG holds {frames} pictures, as telephones write them (MPO): the first was read",)


def _white_is_zero(image: Any) -> bool:
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(_TIFF_PHOTOMETRIC) == 0


def _upright(image: Any) -> Any:
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    return ImageOps.exif_transpose(image) if orientation in range(2, 9) else image


def _grey(image: Any, path: Path) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    if image.mode == "LA":
        notes, image = _dropped_alpha(image), image.getchannel("L")
    elif image.mode == "RGBA":
        notes, image = _dropped_alpha(image), image.convert("RGB")
    if image.mode == "RGB":
        grey = _grey_of_colour(np.asarray(image), path)
        return grey, notes + _few_levels(np.asarray(image))
    if image.mode in _FULL_SCALE:
        values = np.asarray(image)
        return values.astype(np.float32) / np.float32(_FULL_SCALE[image.mode]), notes + _few_greys(values)
    if image.mode in ("I", "F"):
        return _by_own_range(np.asarray(image), image.mode, path)
    raise InputError(f"{path}: the image mode {image.mode!r} is not supported; export the film as a grey PNG")


def _dropped_alpha(image: Any) -> tuple[str, ...]:
    low, _ = image.getchannel("A").getextrema()
    return () if low == 255 else ("the image is partly transparent; transparency was ignored",)


def _grey_of_colour(rgb: NDArray[np.uint8], path: Path) -> NDArray[np.float32]:
    coloured = float(np.mean(rgb.max(axis=2).astype(np.int16) - rgb.min(axis=2) > GREY_TOLERANCE))
    if coloured > COLOURED_SHARE:
        raise InputError(
            f"{path}: a colour picture ({100 * coloured:.0f} % of its pixels are coloured), expected a grey film; "
            f"export the film itself, without overlays, as grey PNG"
        )
    return np.asarray(rgb.mean(axis=2, dtype=np.float32) / np.float32(255), dtype=np.float32)


def _few_levels(rgb: NDArray[np.uint8]) -> tuple[str, ...]:
    """A note where little is left of a picture in colour: 12 bits in 16 have 16 levels when read as 8."""
    levels = int(np.count_nonzero(np.bincount(rgb[..., 1].ravel(), minlength=256)))
    if levels >= MIN_LEVELS:
        return ()
    note = f"only {levels} grey levels are left of the colour picture (16-bit colours are read as 8 bits)"
    return (f"{note}: fine detail is lost; export the film as grey PNG",)


def _few_greys(values: NDArray[Any]) -> tuple[str, ...]:
    """A note where a grey picture is dithered or posterised: a film has hundreds of grey levels."""
    levels = int(np.count_nonzero(np.bincount(values.ravel())))
    if levels >= MIN_GREYS:
        return ()
    return (f"only {levels} grey levels: markings of the lung are lost; export the film with 8 bits or more",)


def _by_own_range(values: NDArray[Any], mode: str, path: Path) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    check_finite(values, path, what="pixels")
    low, high = float(values.min()), float(values.max())
    if mode == "I" and low >= 0 and high <= 65535:  # how some Pillow versions hold 16-bit PNG
        return values.astype(np.float32) / np.float32(65535), ()
    check_not_constant(values, path, what="pixels")
    note = f"values from {low:g} to {high:g} without a stated range; scaled by their own range"
    return ((values.astype(np.float64) - low) / (high - low)).astype(np.float32), (note,)
