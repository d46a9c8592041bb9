"""MHA, MHD and NRRD through SimpleITK, an optional part."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from xrecon.errors import InputError, MissingPartError
from xrecon.io.guards.arrays import check_count, check_finite
from xrecon.io.guards.files import DEFLATE_MAX_RATIO, check_file
from xrecon.io.guards.grids import check_affine, check_spacing, lost_spacing_notes
from xrecon.io.guards.hounsfield import check_hu
from xrecon.io.raw import RawVolume
from xrecon.io.slice_grid import orientation_notes, remove_shear
from xrecon.io.source_grid import SHEAR_REMOVED, SourceGrid, as_triple

HEADER_BYTES = 64 * 1024
_SPACING_FIELD = "ElementSpacing (MHA, MHD) or space directions (NRRD)"
_NO_FIELD = "a field is missing, as DimSize, ElementType or ElementDataFile"
_NO_SUCH_FILE = "No such file or directory"
_DATA_FILE = re.compile(rb"^\s*(?:ElementDataFile\s*=|data ?file:)[ \t]*(.*?)\s*$", re.IGNORECASE | re.MULTILINE)


def read_itk(path: Path, *, hu: bool = True) -> RawVolume:
    """Read MHA, MHD or NRRD.

    Args:
        path: the file; the data file of a detached header must lie in the same folder.
        hu: the values must be HU of a CT (checked); False for label maps and other quantities.

    Returns: values [k, j, i] with the affine in LPS mm (the formats' own world frame).

    Raises:
        MissingPartError: SimpleITK is not installed.
        InputError: damaged, truncated, of absurd size or geometry, not 3-D, not finite, or not HU.
    """
    path = Path(path)
    check_file(path)
    sitk = _simpleitk(path)
    stored = _stored_bytes(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size, dimension = tuple(map(int, reader.GetSize())), int(reader.GetDimension())
        components = int(reader.GetNumberOfComponents())
        value_bytes = int(sitk.GetPixelIDValueAsString(reader.GetPixelIDValue()).partition("-")[0]) // 8
    except RuntimeError as error:
        raise InputError(
            f"{path}: the header is damaged or ends early ({_reason(error, _NO_FIELD)}); export the file again"
        ) from error
    if dimension != 3 or components != 1:
        raise InputError(
            f"{path}: has {dimension} axes and {components} values per voxel; expected 3 and 1: export one volume"
        )
    voxels = check_count(size, path)
    if voxels > stored * DEFLATE_MAX_RATIO:
        raise InputError(f"{path}: the header claims {voxels} voxels, the data have {stored} bytes; copy it again")
    check_spacing(reader.GetSpacing(), path, tag=_SPACING_FIELD)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        cut = f"the header promises {voxels * value_bytes} bytes of voxels, unpacked, and {stored} are stored"
        raise InputError(f"{path}: the data are damaged or truncated ({_reason(error, cut)}); copy it again") from error
    return _to_raw(sitk, image, path, hu=hu)


def _simpleitk(path: Path) -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise MissingPartError(
            f"{path}: MHA, MHD and NRRD need SimpleITK, which is not installed: pip install 'xrecon[itk]', or convert "
            f"the file to NIfTI"
        ) from error
    return SimpleITK


def _stored_bytes(path: Path) -> int:
    """Size of the file with the voxels. A header that points outside its own folder is refused."""
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    if head.startswith(b"NRRD"):
        head = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0] + b"\n"
    match = _DATA_FILE.search(head)
    name = match.group(1).decode("utf-8", "replace") if match else "LOCAL"
    if name.upper() == "LOCAL":
        return path.stat().st_size
    if "LIST" in name.upper().split() or name.upper().startswith("LIST") or "%" in name:
        raise InputError(f"{path}: keeps its voxels in a list of files; convert it to one .mha, .nrrd or NIfTI file")
    if Path(name).name != name:
        raise InputError(f"{path}: its data file {name!r} is not in the same folder; put it there and mend the header")
    data = path.parent / name
    if not data.is_file():
        raise InputError(f"{path}: its data file {name!r} is missing; copy it into the same folder")
    return check_file(data).stat().st_size


def _to_raw(sitk: Any, image: Any, path: Path, *, hu: bool) -> RawVolume:
    values = sitk.GetArrayFromImage(image)
    if values.dtype.kind not in "iuf":
        raise InputError(f"{path}: holds values of type {values.dtype}; expected real numbers: export as int16 HU")
    values = values.astype(np.float32)
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(image.GetDirection()).reshape(3, 3) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    affine[:3, :3] = affine[:3, 2::-1]  # the array's axes are [k, j, i]
    affine = check_affine(affine, values.shape, path, tag="spacing and direction")
    notes = lost_spacing_notes(affine, values.shape)
    if hu:
        across = int(np.argmax(np.abs(affine[2, :3]) / np.linalg.norm(affine[:3, :3], axis=0)))
        values, more = check_hu(values, path, axis=across)
        values, affine, sheared = remove_shear(values, affine, path)
        notes += more + sheared + orientation_notes(values.shape, affine)
    else:
        sheared = ()
        check_finite(values, path, what="voxels")
    grid = SourceGrid(
        as_triple(values.shape[::-1]), affine[:, [2, 1, 0, 3]], resampled=SHEAR_REMOVED if sheared else ""
    )
    return RawVolume(values, affine, path, notes, grid=grid)


def _reason(error: RuntimeError, otherwise: str) -> str:
    """The last line of an error of SimpleITK, or `otherwise`: of a file that ends early it says that there is none."""
    if "Refusing to change spacing" in str(error):
        return f"{_SPACING_FIELD} holds a spacing that is no length; expected mm above 0"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines and not lines[-1].endswith(_NO_SUCH_FILE) else otherwise
