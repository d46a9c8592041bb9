"""A library of simulated films with exact thickness maps: one folder, one file per anatomy.

`library.json` says how it was made. `anatomies/CASE_NUMBER.npz` holds several samples of one anatomy (healthy, with
confounders, with a pneumothorax): lengths of water-like and bone-like material along every ray of a PA and a lateral
film, and lengths of free pleural air and of lung by side, all in hundredths of a millimetre (uint16).
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError

LIBRARY_NAME = "library.json"
ANATOMIES_FOLDER = "anatomies"
STEP_MM = 0.01
"""Length that one unit of the stored numbers stands for, mm."""
_LONGEST_MM = 65535 * STEP_MM
_FILE_NAME = re.compile(r"(?P<case>[^.].*)_(?P<number>\d{5})\.npz")
"""Names that begin with a dot are files that are being written, or were when their run was killed."""
_DAMAGE = (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
"""What the standard library raises while it reads a damaged archive."""
_LEVEL = 1
"""Of deflate: higher ones gain a tenth and take five times as long."""


@dataclass(frozen=True)
class AnatomyFile:
    """One file of the library.

    Attributes:
        case: the source CT.
        number: of the anatomy in the library.
        path: of the file.
    """

    case: str
    number: int
    path: Path


@dataclass(frozen=True, eq=False)
class FilmSample:
    """One film pair, lengths in mm along the rays.

    Attributes:
        water, bone: [2 views, rows, cols] float32; views PA, lateral. Water is negative behind metal.
        air, lung: [2 views, 2 sides, rows, cols] float32; sides right, left.
        meta: of the sample; `kind` is "healthy" or "pneumothorax".
    """

    water: NDArray[np.float32]
    bone: NDArray[np.float32]
    air: NDArray[np.float32]
    lung: NDArray[np.float32]
    meta: Mapping[str, Any]


class FilmLibrary:
    """Reads a library, also while it grows."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open a folder.

        Raises:
            InputError: no library there, or a damaged description.
        """
        self.folder = Path(folder)
        path = self.folder / LIBRARY_NAME
        try:
            self.information: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{self.folder}: no film library: {LIBRARY_NAME} is missing or cannot be read") from error
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON ({error}); make the library again with prepare-films") from error

    def anatomies(self) -> tuple[AnatomyFile, ...]:
        """The files that are there now, by number."""
        return anatomy_files(self.folder)

    @staticmethod
    def meta(anatomy: AnatomyFile) -> Mapping[str, Any]:
        """What is known of an anatomy and its samples. Raises InputError for a damaged file."""
        with _opened(anatomy.path) as archive:
            return _meta(archive, anatomy.path)

    @staticmethod
    def read(anatomy: AnatomyFile, sample: int, *, factor: int = 1) -> FilmSample:
        """One sample; `factor` x `factor` pixels are averaged to one.

        Raises:
            InputError: a damaged file, no such sample, or a size that `factor` does not divide.
        """
        with _opened(anatomy.path) as archive:
            meta = _meta(archive, anatomy.path)
            if not 0 <= sample < len(meta["samples"]):
                raise InputError(f"{anatomy.path.name} has {len(meta['samples'])} samples; there is no number {sample}")
            water, bone, lung = (_lengths(archive, f"{name}_{sample}", factor) for name in ("water", "bone", "lung"))
            has_air = f"air_{sample}.npy" in archive.namelist()
            air = _lengths(archive, f"air_{sample}", factor) if has_air else np.zeros_like(lung)
        return FilmSample(water, bone, air, lung, meta["samples"][sample])


def anatomy_files(folder: Path) -> tuple[AnatomyFile, ...]:
    """The finished anatomies of a library, by number."""
    anatomies = []
    for path in (folder / ANATOMIES_FOLDER).glob("*.npz"):
        match = _FILE_NAME.fullmatch(path.name)
        if match is not None:
            anatomies.append(AnatomyFile(match["case"], int(match["number"]), path))
    return tuple(sorted(anatomies, key=lambda anatomy: anatomy.number))


def anatomy_name(case: str, number: int) -> str:
    """File name of an anatomy."""
    return f"{case}_{number:05d}.npz"


def anatomy_bytes(samples: Sequence[FilmSample], meta: Mapping[str, Any]) -> bytes:
    """Content of an anatomy's file; the same samples give the same bytes.

    Args:
        samples: of one anatomy; `samples[i].meta` is stored in `meta["samples"]`.
        meta: of the anatomy, JSON values.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        text = json.dumps({**meta, "samples": [dict(sample.meta) for sample in samples]})
        _store(archive, "meta", np.frombuffer(text.encode("utf-8"), dtype=np.uint8))
        for number, sample in enumerate(samples):
            for name in ("water", "bone", "air", "lung"):
                values = getattr(sample, name)
                if name == "air" and not values.any():
                    continue
                _store(archive, f"{name}_{number}", _units(values))
    return buffer.getvalue()


def _units(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Hundredths of a mm; lengths below 0 (water behind metal) become 0."""
    return np.asarray(np.rint(np.clip(values, 0.0, _LONGEST_MM) / STEP_MM), dtype=np.uint16)


def _store(archive: zipfile.ZipFile, name: str, values: NDArray[Any]) -> None:
    entry = zipfile.ZipInfo(f"{name}.npy")  # the oldest date that zip knows: bytes do not depend on the clock
    entry.compress_type = zipfile.ZIP_DEFLATED
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(values), allow_pickle=False)
    archive.writestr(entry, buffer.getvalue(), compresslevel=_LEVEL)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path.name}: cannot be read as a film anatomy ({error}); delete it and go on") from error


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as stream:
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _meta(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(_array(archive, "meta").tobytes().decode("utf-8"))
        return {**meta, "samples": list(meta["samples"])}
    except _DAMAGE as error:
        raise InputError(f"{path.name}: its description is damaged ({error}); delete it and go on") from error


def _lengths(archive: zipfile.ZipFile, name: str, factor: int) -> NDArray[np.float32]:
    try:
        units = _array(archive, name)
    except _DAMAGE as error:
        file = Path(archive.filename or "").name
        raise InputError(f"{file}: its part {name} is damaged ({error}); delete the file and go on") from error
    rows, cols = units.shape[-2:]
    if rows % factor or cols % factor:
        raise InputError(f"films of {rows} x {cols} pixels cannot be averaged by {factor}")
    if factor > 1:
        blocks = units.reshape(*units.shape[:-2], rows // factor, factor, cols // factor, factor)
        return np.asarray(blocks.sum(axis=(-3, -1), dtype=np.uint32) * np.float32(STEP_MM / factor**2), np.float32)
    return np.asarray(units * np.float32(STEP_MM), dtype=np.float32)
