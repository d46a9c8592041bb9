"""Pixels and numbers out of DICOM data sets, with messages that name file and tag. Used for CT and for films.

No message here repeats a value that could identify a patient: tags are named, never free text from the file.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.tag import Tag

from xrecon.errors import InputError, MissingPartError, XReconError
from xrecon.io.guards.arrays import MAX_PIXELS, MAX_VOXELS, check_count


def tag_name(keyword: str) -> str:
    """`Keyword (gggg,eeee)`, for messages."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    return f"{keyword} ({tag.group:04X},{tag.element:04X})"


@contextlib.contextmanager
def guarded(name: str) -> Iterator[None]:
    """Turns whatever pydicom and the decoders raise on damaged files into an InputError that names the file.

    pydicom converts values when they are first used and raises (or warns with) many unrelated types then.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (XReconError, MemoryError):
        raise
    except Exception as error:
        raise InputError(
            f"{name}: the DICOM file is damaged or truncated ({type(error).__name__}); copy it again, or remove it "
            f"from the folder if it does not belong there"
        ) from error


def read_dataset(stream: BinaryIO, name: str, *, header_only: bool, force: bool = False) -> Any:
    """A pydicom data set. Raises InputError, naming the file, if it is damaged."""
    with guarded(name):
        return pydicom.dcmread(stream, stop_before_pixels=header_only, force=force)


def text(dataset: Any, keyword: str) -> str:
    """A coded string (never free text), upper case, without padding; "" where absent."""
    try:
        value = dataset.get(keyword)
    except Exception:  # an undecodable value counts as absent
        return ""
    return "" if value is None else str(value).strip().upper()


def numbers(dataset: Any, keyword: str, count: int, name: str) -> tuple[float, ...] | None:
    """`count` finite numbers of a tag; None where it is absent or empty. Raises InputError for anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = dataset.get(keyword)
            if value is None or value == "" or (hasattr(value, "__len__") and len(value) == 0):
                return None
            many = value if hasattr(value, "__len__") and not isinstance(value, str) else [value]
            values = tuple(float(v) for v in many)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name}: {tag_name(keyword)} does not hold numbers; correct it or export again") from error
    if len(values) != count or not np.isfinite(values).all():
        raise InputError(
            f"{name}: {tag_name(keyword)} holds {values}; expected {count} finite number{'s' * (count > 1)}; correct "
            f"it or export again"
        )
    return values


def optional_number(dataset: Any, keyword: str) -> float | None:
    """One finite number of a tag that nothing depends on; None where it is absent or holds anything else."""
    try:
        values = numbers(dataset, keyword, 1, "")
    except InputError:
        return None
    return values[0] if values else None


def required_numbers(dataset: Any, keyword: str, count: int, name: str, *, remedy: str) -> tuple[float, ...]:
    """Like `numbers`, but an absent tag is an InputError that says how to correct it."""
    values = numbers(dataset, keyword, count, name)
    if values is None:
        raise InputError(f"{name}: the tag {tag_name(keyword)} is missing; {remedy}")
    return values


def stored_pixels(dataset: Any, name: str) -> NDArray[np.int32]:
    """Stored pixel values [frames?, rows, cols(, samples)] as int32, unused high bits removed, sign extended.

    Raises:
        MissingPartError: no decoder for the transfer syntax is installed.
        InputError: no pixels, a truncated or damaged pixel stream, an absurd size.
    """
    if "PixelData" not in dataset:
        raise InputError(f"{name}: has no {tag_name('PixelData')} of integers; it is no image, export the series again")
    frames = int(dataset.get("NumberOfFrames") or 1)
    shape = (frames, int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0))
    check_count(shape, Path(name), limit=MAX_VOXELS)
    check_count(shape[1:], Path(name), limit=MAX_PIXELS, what="pixels")
    _check_decoder(dataset, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = np.asarray(dataset.pixel_array)
    except Exception as error:  # each decoder has its own exceptions
        raise InputError(
            f"{name}: the pixel data are truncated or damaged ({type(error).__name__}); copy or export the file again"
        ) from error
    words = _signed_words(dataset)
    if words is not None and words.size == pixels.size:
        return words.reshape(pixels.shape)
    return _used_bits(pixels, dataset)


def _check_decoder(dataset: Any, name: str) -> None:
    from pydicom.pixels.decoders.base import get_decoder

    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is None:
        # A file without meta header is by tradition implicit little endian, uncompressed.
        dataset.file_meta = getattr(dataset, "file_meta", None) or pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise MissingPartError(
            f"{name}: its transfer syntax, {syntax.name} ({syntax}), needs a decoder that is not installed: "
            f"pip install 'xrecon[dicom]', or export the images uncompressed (Explicit VR Little Endian)"
        )


def _used_bits(pixels: NDArray[Any], dataset: Any) -> NDArray[np.int32]:
    """PS3.5, 8.1.1: only BitsStored bits below HighBit are the value; older files keep overlays above them."""
    values = pixels.astype(np.int64)
    allocated = int(dataset.get("BitsAllocated") or 16)
    stored = int(dataset.get("BitsStored") or allocated)
    if not 0 < stored < allocated:
        return values.astype(np.int32)
    values >>= max(0, int(dataset.get("HighBit", stored - 1)) + 1 - stored)
    values &= (1 << stored) - 1
    if int(dataset.get("PixelRepresentation") or 0) == 1:
        values -= (values >= 1 << (stored - 1)).astype(np.int64) << stored
    return values.astype(np.int32)


def _signed_words(dataset: Any) -> NDArray[np.int32] | None:
    """Whole 16-bit words of an uncompressed CT whose unused high bits repeat a sign; None for all others.

    Numbers outside the stated bits, such as padding of -2000 in 12, would become tissue without those bits. Two or more
    unused bits are then all set where a value is negative, clear elsewhere; an overlay sets one of them.
    """
    stored = int(dataset.get("BitsStored") or 16)
    syntax = dataset.file_meta.TransferSyntaxUID
    if text(dataset, "Modality") != "CT" or int(dataset.get("BitsAllocated") or 16) != 16 or not 0 < stored <= 14:
        return None
    if int(dataset.get("HighBit", stored - 1)) != stored - 1 or syntax.is_compressed or not syntax.is_little_endian:
        return None
    words = np.frombuffer(dataset.PixelData, dtype="<u2")
    words = words[: max(1, int(dataset.get("NumberOfFrames") or 1)) * int(dataset.Rows) * int(dataset.Columns)]
    unused = words >> stored
    full = unused == (1 << (16 - stored)) - 1
    if not full.any() or not (full | (unused == 0)).all():
        return None
    return words.view("<i2").astype(np.int32)


def padding_mask(dataset: Any, pixels: NDArray[np.int32]) -> NDArray[np.bool_] | None:
    """Which pixels are padding by PixelPaddingValue (and its range limit); None where there is none.

    A padding value that no image corner shows is ignored: some devices state 0, which would also hit real tissue.
    """
    try:
        first, last = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
        if first is None or first == "":
            return None
        ends = [int(first), int(first if last is None or last == "" else last)]
    except (TypeError, ValueError):
        return None
    bits = int(dataset.get("BitsAllocated") or 16)
    if int(dataset.get("PixelRepresentation") or 0) == 1:
        # Written as unsigned by some devices (63536 for -2000).
        ends = [e - (1 << bits) if e >= 1 << (bits - 1) else e for e in ends]
    else:
        ends = [e % (1 << bits) for e in ends]
    mask = (pixels >= min(ends)) & (pixels <= max(ends))
    if mask.all() or not mask[..., [0, 0, -1, -1], [0, -1, 0, -1]].any():
        return None
    return np.asarray(mask)
