"""One prepared case as a safetensors file: written at once, read by mapping it into memory, without a copy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import CheckpointError, InputError
from xrecon.geometry import VIEWS, ConeBeam
from xrecon.io.guards.files import check_file
from xrecon.json_text import json_text
from xrecon.radiograph import Quantity, Radiograph
from xrecon.volume import RESEARCH_NOTICE, Volume

FORMAT = "xrecon-case"
SCHEMA_VERSION = "1"
_DTYPES = {"pa": "<f4", "lateral": "<f4", "ct": "<i2", "sides": "u1", "air": "u1", "body": "u1"}
"""In the order of the file: the wider types first, so that all stay aligned."""
_STORED_AS = {"<i2": "I16", "<f4": "F32", "u1": "U8"}
_MAX_HEADER_BYTES = 2**20


@dataclass(frozen=True, eq=False)
class CaseData:
    """The arrays of one case, on the frame's grid: D to the feet, H to the back, W to the patient's left.

    Axes and units are those of `docs/geometry-and-conventions.md`.

    Arrays that were read from a file are mapped copy-on-write: nothing is loaded before it is used, and writing to
    them does not change the file.

    Attributes:
        ct: [D, H, W] int16, HU, -1024..3071; outside the body and outside the scan -1024.
        pa: [rows, cols] float32 on the virtual detector, dense tissue bright; see `quantity`.
        lateral: [rows, cols] float32, the same.
        sides: [D, H, W] uint8: 0 outside, 1 right hemithorax, 2 left; lung and free pleural air.
        air: [D, H, W] uint8: 1 free pleural air (part of `sides`), else 0.
        body: [D, H, W] uint8: 1 inside the skin.
        affine: 4 x 4; (d, h, w, 1) to the LPS mm of the original CT.
        scan_box: (first, end) voxel index of the scanned part along D, H, W, cut to the grid; outside it nothing was
            measured.
        beams: geometry of the PA and the lateral film, relative to the centre of the grid.
        quantity: "line_integral", or "display" (0..1) where the films are a user's own.
    """

    ct: NDArray[np.int16]
    pa: NDArray[np.float32]
    lateral: NDArray[np.float32]
    sides: NDArray[np.uint8]
    air: NDArray[np.uint8]
    body: NDArray[np.uint8]
    affine: NDArray[np.float64]
    scan_box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    beams: tuple[ConeBeam, ConeBeam]
    quantity: Quantity = "line_integral"

    @property
    def size(self) -> int:
        """Voxels per edge."""
        return int(self.ct.shape[0])

    @property
    def spacing_mm(self) -> float:
        """Pitch of the cubic voxels, mm."""
        return float(np.linalg.norm(self.affine[:3, 0]))

    def measured(self) -> NDArray[np.bool_]:
        """[D, H, W]: voxels that the scanner covered."""
        out = np.zeros(self.ct.shape, dtype=np.bool_)
        out[tuple(slice(*edges) for edges in self.scan_box)] = True
        return out

    def volume(self) -> Volume:
        """The CT as a `Volume`."""
        return Volume(self.ct.astype(np.float32), self.affine)

    def films(self) -> tuple[Radiograph, Radiograph]:
        """(PA, lateral) as radiographs with their geometry."""
        pa, lateral = (
            Radiograph(np.array(image), view, beam, quantity=self.quantity)
            for image, view, beam in zip((self.pa, self.lateral), VIEWS, self.beams, strict=True)
        )
        return pa, lateral


def case_bytes(case: CaseData) -> bytes:
    """The file's content, in the safetensors format.

    Written without the safetensors library, whose header has another order each time, so that the same case gives the
    same bytes.

    Raises:
        InputError: an array has another type or shape than its kind.
    """
    size = case.size
    arrays = {}
    for name, dtype in _DTYPES.items():
        array = np.ascontiguousarray(getattr(case, name))
        expected = (size,) * (2 if name in VIEWS else 3)
        if array.shape != expected or array.dtype != np.dtype(dtype):
            raise InputError(
                f"{name} of a case of size {size} must be {np.dtype(dtype).name} {list(expected)}, got "
                f"{array.dtype.name} {list(array.shape)}"
            )
        arrays[name] = array
    metadata = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "notice": RESEARCH_NOTICE,
        "quantity": case.quantity,
        "affine": json_text(case.affine, indent=None),
        "scan_box": json_text(case.scan_box, indent=None),
        "pa": json_text(case.beams[0].to_dict(), indent=None),
        "lateral": json_text(case.beams[1].to_dict(), indent=None),
    }
    header: dict[str, Any] = {"__metadata__": metadata}
    start = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": _STORED_AS[_DTYPES[name]],
            "shape": list(array.shape),
            "data_offsets": [start, start + array.nbytes],
        }
        start += array.nbytes
    text = json_text(header, indent=None).encode("ascii")
    text += b" " * (-len(text) % 8)  # so that every array is aligned
    return b"".join([len(text).to_bytes(8, "little"), text, *(array.tobytes() for array in arrays.values())])


def read_case(path: Path) -> CaseData:
    """Map one case file into memory.

    Raises:
        InputError: the file is missing or empty.
        CheckpointError: it is damaged, or no case of this version.
    """
    path = Path(path)
    check_file(path)
    raw = np.memmap(path, dtype=np.uint8, mode="c")
    header, start = _header(raw, path)
    facts = header.pop("__metadata__", {})
    if facts.get("format") != FORMAT or facts.get("schema_version") != SCHEMA_VERSION:
        raise CheckpointError(
            f"{path}: expected a case of xrecon, schema {SCHEMA_VERSION}, found format {facts.get('format')!r}, schema "
            f"{facts.get('schema_version')!r}; prepare it again with `xrecon prepare`"
        )
    try:
        size = int(header["ct"]["shape"][0])
        arrays = {name: _mapped(raw, start, header[name], name, size) for name in _DTYPES}
        box = tuple((int(first), int(end)) for first, end in json.loads(facts["scan_box"]))
        affine = np.array(json.loads(facts["affine"]), dtype=np.float64)
        beams = (ConeBeam.from_dict(json.loads(facts["pa"])), ConeBeam.from_dict(json.loads(facts["lateral"])))
        if affine.shape != (4, 4) or len(box) != 3:
            raise ValueError(f"affine of shape {affine.shape}, box of {len(box)} axes")
        quantity: Quantity = "display" if facts["quantity"] == "display" else "line_integral"
    except (KeyError, ValueError, TypeError, IndexError, InputError) as error:
        raise CheckpointError(f"{path}: damaged or not a case ({error}); prepare it again") from error
    return CaseData(**arrays, affine=affine, scan_box=(box[0], box[1], box[2]), beams=beams, quantity=quantity)


def _header(raw: NDArray[np.uint8], path: Path) -> tuple[dict[str, Any], int]:
    """The JSON header of a safetensors file and where its data start."""
    length = int.from_bytes(raw[:8].tobytes(), "little")
    if raw.size < 8 or not 2 <= length <= min(_MAX_HEADER_BYTES, raw.size - 8):
        raise CheckpointError(f"{path}: not a safetensors file, or cut off ({raw.size} bytes); prepare it again")
    try:
        header = json.loads(raw[8 : 8 + length].tobytes())
    except ValueError as error:
        raise CheckpointError(f"{path}: the header is damaged ({error}); prepare it again") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the header is no mapping; prepare it again")
    return header, 8 + length


def _mapped(raw: NDArray[np.uint8], start: int, entry: dict[str, Any], name: str, size: int) -> NDArray[Any]:
    dtype = _DTYPES[name]
    shape = (size,) * (2 if name in VIEWS else 3)
    first, end = (start + int(offset) for offset in entry["data_offsets"])
    expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if entry["dtype"] != _STORED_AS[dtype] or tuple(entry["shape"]) != shape:
        raise ValueError(f"{name} is {entry['dtype']} {entry['shape']}, expected {_STORED_AS[dtype]} {list(shape)}")
    if not (start <= first <= end <= raw.size and end - first == expected):
        raise ValueError(f"{name} needs {expected} bytes, the file has {raw.size} from {first} to {end}")
    return np.asarray(raw[first:end]).view(dtype).reshape(shape)


def scan_box(scan: Volume, frame: Volume) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Voxels (first, end) of `frame` along D, H, W whose centres lie on the scan; the two share their axes' directions.

    `frame` is a grid made by `xrecon.anatomy.frame.framed` from `scan`.
    """
    to_frame = np.linalg.inv(frame.affine) @ scan.affine
    edges = []
    for axis in range(3):
        step, offset = to_frame[axis, axis], to_frame[axis, 3]
        low, high = offset - 0.5 * step, offset + (scan.shape[axis] - 0.5) * step
        limits = np.clip(np.ceil([low - 1e-6, high - 1e-6]), 0, frame.shape[axis]).astype(int)
        edges.append((int(limits[0]), int(max(limits))))
    return edges[0], edges[1], edges[2]
