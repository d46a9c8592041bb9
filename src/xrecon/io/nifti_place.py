"""Where a NIfTI file's voxels lie: sform, qform or voxel sizes, and what is wrong with them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.io.guards.grids import check_affine, check_spacing, lost_spacing_notes

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_UNIT_NAMES = {1: "metres", 3: "micrometres"}
_NO_FORM = "to have the voxel sizes of pixdim and RAS axes assumed, set sform_code and qform_code to 0"


def affine_lps(header: Any, shape: tuple[int, int, int], path: Path) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Index to LPS mm, and notes.

    The sform goes before the qform, as the standard says; an sform of zeros counts as none, with a note.

    Raises:
        InputError: an unknown unit, no usable form, or an impossible spacing or affine.
    """
    unit = int(header["xyzt_units"]) & 0x07
    if unit not in _UNITS_MM:
        raise InputError(f"{path}: the NIfTI field xyzt_units gives the unknown space unit {unit}; expected mm (2)")
    scale = _UNITS_MM[unit]
    ras, tag, notes = _chosen_form(header, path)
    if unit in _UNIT_NAMES:
        notes = (*notes, f"the NIfTI is in {_UNIT_NAMES[unit]}; converted to mm")
    ras[:3] *= scale
    checked = check_affine(ras, shape, path, tag=tag)
    if _states_sform(header) and int(header["qform_code"]) > 0:
        notes += _compare_forms(ras, header, path, scale=scale)
    notes += lost_spacing_notes(checked, shape)
    return RAS_TO_LPS @ checked, notes


def _chosen_form(header: Any, path: Path) -> tuple[NDArray[np.float64], str, tuple[str, ...]]:
    """The affine to RAS in the file's unit, the name of its source for messages, and notes."""
    if _states_sform(header):
        hint = "; if the qform is right, set sform_code to 0" if int(header["qform_code"]) > 0 else ""
        return _sform(header), f"the sform affine (srow_x, srow_y, srow_z{hint})", ()
    notes: tuple[str, ...] = ()
    code = int(header["sform_code"])
    if code > 0:
        if int(header["qform_code"]) <= 0:
            raise InputError(
                f"{path}: the sform affine (srow_x, srow_y, srow_z) is empty although sform_code is {code}, and there "
                f"is no qform (qform_code 0); export the file again, or, {_NO_FORM}"
            )
        notes = ("the sform is empty (zeros) although its code promises one; the qform was used",)
    if int(header["qform_code"]) > 0:
        return _qform(header, path), "the qform affine (quatern, pixdim)", notes + _qfac_notes(header)
    spacing = check_spacing(header["pixdim"][1:4], path, tag="pixdim")
    assumed = "the NIfTI states no orientation (sform and qform codes are 0): assumed RAS; check left and right"
    return np.diag([*spacing, 1.0]), "pixdim", (assumed,)


def _sform(header: Any) -> NDArray[np.float64]:
    return np.vstack([header["srow_x"], header["srow_y"], header["srow_z"], [0, 0, 0, 1]]).astype(np.float64)


def _states_sform(header: Any) -> bool:
    return int(header["sform_code"]) > 0 and bool(_sform(header)[:3, :3].any())


def _qfac(header: Any) -> float:
    """Direction of the third axis: -1 where pixdim[0] is negative, else 1 (the standard reads 0 as 1)."""
    return -1.0 if float(header["pixdim"][0]) < 0 else 1.0


def _qfac_notes(header: Any) -> tuple[str, ...]:
    stored = float(header["pixdim"][0])
    if stored in (-1.0, 0.0, 1.0):
        return ()
    return (f"pixdim[0] (qfac) is {stored:g}, expected -1 or 1: read as {_qfac(header):g}; check head and feet",)


def _qform(header: Any, path: Path) -> NDArray[np.float64]:
    check_spacing(header["pixdim"][1:4], path, tag="pixdim")
    mended = header.copy()
    mended["pixdim"][0] = _qfac(header)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            affine = np.array(mended.get_qform(), dtype=np.float64)
    except Exception as error:  # ValueError for an impossible quaternion, HeaderDataError for pixdim
        raise InputError(
            f"{path}: the qform (quatern_b, _c, _d) is impossible ({error}); export the file again, or, {_NO_FORM}"
        ) from error
    return affine


def _compare_forms(sform: NDArray[np.float64], header: Any, path: Path, *, scale: float) -> tuple[str, ...]:
    try:
        qform = _qform(header, path)
    except InputError:
        return ("the qform is damaged; the sform was used",)
    qform[:3] *= scale
    if np.abs(qform[:3, :3] - sform[:3, :3]).max() > 0.02 * np.abs(sform[:3, :3]).max():
        return ("sform and qform disagree on axes or spacing; the sform was used: check left and right",)
    return ()
