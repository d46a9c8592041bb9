"""NIfTI in and out. The affine is RAS in the file and LPS everywhere in xrecon.

The header is parsed with nibabel; the data are read here, because every size must be checked before anything is
allocated and a gzip stream must be read to its end for its checksum to be verified.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel
import numpy as np
from numpy.typing import DTypeLike, NDArray

from xrecon.errors import InputError
from xrecon.io.guards.arrays import check_count, check_finite
from xrecon.io.guards.files import DEFLATE_MAX_RATIO, check_file, read_exactly
from xrecon.io.guards.grids import check_affine
from xrecon.io.guards.hounsfield import check_hu
from xrecon.io.guards.wrapped import StoredScale
from xrecon.io.nifti_place import RAS_TO_LPS as RAS_TO_LPS
from xrecon.io.nifti_place import affine_lps as place
from xrecon.io.output.atomic import atomic_path
from xrecon.io.raw import RawVolume
from xrecon.io.slice_grid import orientation_notes, remove_shear
from xrecon.io.source_grid import SHEAR_REMOVED, NiftiForms, SourceGrid, as_triple

nib: Any = nibabel  # only partly annotated

MAX_EXTENSION_BYTES = 64 * 2**20
COMMENT_CODE = 6
SYNTHETIC_MARK = "SYNTHETIC"


def read_nifti(path: Path, *, hu: bool = True) -> RawVolume:
    """Read a NIfTI-1 or -2 volume (`.nii`, `.nii.gz`).

    Args:
        path: the file.
        hu: the values must be HU of a CT (checked); False for label maps, masks and other quantities.

    Returns: the values [i, j, k] as stored, scaled by scl_slope and scl_inter, with the affine in LPS mm.

    Raises:
        InputError: damaged, truncated, of absurd size or geometry, not finite, or not HU.
    """
    path = Path(path)
    check_file(path)
    compressed = _is_gzip(path)
    with cast(BinaryIO, gzip.open(path) if compressed else path.open("rb")) as stream:
        header, head_bytes = _read_header(stream, path)
        shape = _checked_shape(header, path)
        dtype = _checked_dtype(header, path)
        offset = _checked_offset(header, head_bytes, path)
        count = check_count(shape, path) * dtype.itemsize
        _check_plausible_size(path, offset + count, compressed=compressed)
        extension = bytes(read_exactly(stream, offset - head_bytes, path))
        data = read_exactly(stream, count, path)
        if compressed:
            _verify_rest(stream, path)
    affine, notes = place(header, shape, path)
    values = _scaled(np.frombuffer(data, dtype=dtype).reshape(shape, order="F"), header, path)
    grid = SourceGrid(shape, affine, NiftiForms.of_header(header, 2 if head_bytes == 540 else 1))
    synthetic = SYNTHETIC_MARK.encode() in bytes(header["descrip"].tobytes()) + extension
    if synthetic:
        notes += ("the file says that it is synthetic (computed, not measured)",)
    if hu:
        across = int(np.argmax(np.abs(affine[2, :3]) / np.linalg.norm(affine[:3, :3], axis=0)))
        values, more = check_hu(values, path, scale=_stored_scale(header), axis=across, synthetic=synthetic)
        values, affine, sheared = remove_shear(values, affine, path)
        notes += more + sheared + orientation_notes(values.shape, affine)
        if sheared:
            grid = SourceGrid(as_triple(values.shape), affine, resampled=SHEAR_REMOVED)
    else:
        check_finite(values, path, what="voxels")
    return RawVolume(values, affine, path, notes, synthetic, grid)


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def _read_header(stream: BinaryIO, path: Path) -> tuple[Any, int]:
    block = bytes(read_exactly(stream, 348, path))
    size = {int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big")}
    if 540 in size:
        block += bytes(read_exactly(stream, 192, path))
        kind, magic = nib.Nifti2Header, block[4:7]
    else:
        kind, magic = nib.Nifti1Header, block[344:347]
    if magic in (b"ni1", b"ni2"):
        raise InputError(f"{path}: is the header of a NIfTI pair (.hdr/.img); convert the pair to one .nii or .nii.gz")
    if magic not in (b"n+1", b"n+2") or not size & {348, 540}:
        raise InputError(
            f"{path}: does not start like a NIfTI file (magic {magic!r}, expected b'n+1' or b'n+2'); is it another "
            f"kind of file with a NIfTI name, or damaged? export it again"
        )
    try:
        return kind(block, check=False), len(block)
    except Exception as error:  # nibabel raises several unrelated types on damaged headers
        raise InputError(f"{path}: the NIfTI header is damaged ({error}); export the file again") from error


def _checked_shape(header: Any, path: Path) -> tuple[int, int, int]:
    dim = [int(v) for v in header["dim"]]
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
        raise InputError(f"{path}: the NIfTI field dim is {dim}, which is impossible: damaged; export it again")
    shape = dim[1 : dim[0] + 1]
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        raise InputError(
            f"{path}: the NIfTI field dim gives the shape {tuple(shape)}; expected three axes (more only of length 1): "
            f"save the one volume that you want as a 3-D file"
        )
    return shape[0], shape[1], shape[2]


def _checked_dtype(header: Any, path: Path) -> np.dtype[Any]:
    code = int(header["datatype"])
    try:
        dtype: np.dtype[Any] = np.dtype(header.get_data_dtype())
    except Exception as error:  # nibabel raises HeaderDataError, KeyError or TypeError by version
        raise InputError(f"{path}: the NIfTI field datatype is {code}, which is unknown; export as int16") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(f"{path}: the NIfTI datatype is {code} ({dtype}); expected real numbers: export as int16 HU")
    return dtype


def _checked_offset(header: Any, head_bytes: int, path: Path) -> int:
    offset = float(header["vox_offset"])
    if not np.isfinite(offset) or not head_bytes <= offset <= MAX_EXTENSION_BYTES:
        raise InputError(
            f"{path}: the NIfTI field vox_offset is {offset:g}, expected {head_bytes} to {MAX_EXTENSION_BYTES}; the "
            f"header is damaged, export the file again"
        )
    return int(offset)


def _check_plausible_size(path: Path, expected: int, *, compressed: bool) -> None:
    stored = path.stat().st_size
    if stored * (DEFLATE_MAX_RATIO if compressed else 1.0) < expected:
        kind = f"more than gzip can pack into {stored} bytes" if compressed else f"the file has {stored} bytes"
        raise InputError(
            f"{path}: the header promises {expected} bytes, {kind}; the file is truncated or hostile, copy it again"
        )


def _verify_rest(stream: BinaryIO, path: Path) -> None:
    # Reading to the end makes gzip compare its checksum; a flipped bit is silent otherwise.
    for _ in range(MAX_EXTENSION_BYTES // 2**20):
        try:
            if not stream.read(2**20):
                return
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: the gzip data are damaged or truncated ({error}); copy it again") from error
    raise InputError(f"{path}: much more data than the header promises: damaged; export the file again")


def _stored_scale(header: Any) -> StoredScale:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    return StoredScale() if slope == 0 or np.isnan(slope) else StoredScale(slope, inter)


def _scaled(stored: NDArray[Any], header: Any, path: Path) -> NDArray[np.float32]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    values = stored.astype(np.float32)
    if slope == 0 or np.isnan(slope):  # by the standard, slope 0 means "not scaled"; NaN is nibabel's "unset"
        return values
    if not (np.isfinite(slope) and np.isfinite(inter)):
        raise InputError(
            f"{path}: scl_slope {slope:g} and scl_inter {inter:g} must be finite; export the file "
            f"again, or, if the stored values are HU, set scl_slope to 1 and scl_inter to 0"
        )
    if (slope, inter) != (1.0, 0.0):
        values *= np.float32(slope)
        values += np.float32(inter)
    return values


def write_nifti(
    path: Path,
    data: NDArray[Any],
    affine_lps: NDArray[np.float64],
    *,
    description: str,
    overwrite: bool = False,
    dtype: DTypeLike | None = None,
    grid: SourceGrid | None = None,
) -> Path:
    """Write a volume as NIfTI, atomically; the same input gives the same bytes.

    The axes are permuted and flipped, never resampled: to those of `grid` where the voxels are its own, else to x to
    the left, y to the back, z to the head, the order that most tools expect. The affine says where every voxel lies,
    in both sform and qform; on the grid of a NIfTI file, its own header fields say it.

    Args:
        path: ends in `.nii` or `.nii.gz`.
        data: three axes. HU as float become int16 by rounding where they fit; integers and bool keep or get a small
            integer type (labels: uint8).
        affine_lps: 4 x 4; index of `data` to LPS mm.
        description: kept in full in a comment extension, its first 79 characters also in `descrip`.
        overwrite: replace an existing file.
        dtype: stored type, e.g. float32 for values that are not HU; no rounding to int16 then.
        grid: of the file that the volume was read from.

    Raises:
        OutputExistsError: the file exists.
        InputError: another suffix, not three axes, values not finite or out of the type's range, no space to write.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"{path}: a volume is written as NIfTI; let the name end in .nii or .nii.gz")
    array = np.asarray(data)
    if array.ndim != 3:
        raise InputError(f"{path}: a volume has three axes, got shape {array.shape}")
    if max(array.shape) > np.iinfo(np.int16).max:
        raise InputError(f"{path}: an axis of {max(array.shape)} voxels does not fit into NIfTI-1; crop the volume")
    check_finite(array, path, what="voxels")
    affine = check_affine(affine_lps, array.shape, path, tag="the volume's affine")
    image = _placed_image(_stored(array, dtype, path), affine, grid)
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    image.header.extensions.append(nib.nifti1.Nifti1Extension(COMMENT_CODE, description.encode("utf-8")))
    with atomic_path(path, overwrite=overwrite) as temporary, temporary.open("wb") as stream:
        if path.name.endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=stream, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(stream)
    return path


def _placed_image(array: NDArray[Any], affine: NDArray[np.float64], grid: SourceGrid | None) -> Any:
    """An image of nibabel with the array on the axes of `grid` (where it lies there), and its header's places."""
    placed = None if grid is None else grid.arranged(array, affine)
    if grid is not None and placed is not None:
        array, affine = placed, grid.affine
    else:
        array, affine = _to_lps_order(array, affine)
    if grid is not None and placed is not None and grid.forms is not None:
        # Without an affine, nibabel leaves the header's places as they are; it would mend some when it copies one.
        image = (nib.Nifti2Image if grid.forms.version == 2 else nib.Nifti1Image)(array, None)
        grid.forms.copy_to(image.header)
        return image
    image = nib.Nifti1Image(array, RAS_TO_LPS @ affine)
    image.set_sform(RAS_TO_LPS @ affine, code=1)
    image.set_qform(RAS_TO_LPS @ affine, code=1)
    image.header.set_xyzt_units("mm")
    return image


def _stored(array: NDArray[Any], dtype: DTypeLike | None, path: Path) -> NDArray[Any]:
    if dtype is None:
        dtype = _natural_dtype(array)
    target = np.dtype(dtype)
    if target.kind in "iu" and array.size:
        rounded = np.rint(array) if array.dtype.kind == "f" else array
        limits = np.iinfo(target)
        low, high = float(rounded.min()), float(rounded.max())
        if low < limits.min or high > limits.max:
            raise InputError(f"{path}: values from {low:g} to {high:g} do not fit into {target}; choose another dtype")
        return np.asarray(rounded.astype(target))
    return np.asarray(array.astype(target))


def _natural_dtype(array: NDArray[Any]) -> np.dtype[Any]:
    if array.dtype.kind == "b":
        return np.dtype(np.uint8)
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind in "iu":
        if array.dtype in (np.uint8, np.int16, np.int32):
            return array.dtype
        candidates = (np.uint8, np.int16, np.int32)
        fitting = [t for t in candidates if np.iinfo(t).min <= low and high <= np.iinfo(t).max]
        return np.dtype(fitting[0] if fitting else np.float64)
    limits = np.iinfo(np.int16)
    fits = limits.min <= np.rint(low) and np.rint(high) <= limits.max
    return np.dtype(np.int16 if fits else np.float32)


def _to_lps_order(array: NDArray[Any], affine: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The same voxels with axes nearest to x, y, z of LPS, each ascending."""
    codes = nib.orientations.io_orientation(affine)  # rows: stored axes -> (world axis, direction)
    out = np.asarray(nib.orientations.apply_orientation(array, codes))
    return out, affine @ nib.orientations.inv_ornt_aff(codes, array.shape)
