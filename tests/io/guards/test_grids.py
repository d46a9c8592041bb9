"""Spacings and affines that no chest CT has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xrecon.errors import InputError
from xrecon.io.guards.grids import check_affine, check_spacing


def test_spacing_and_affine_guards() -> None:
    source = Path("scan.nii")
    assert check_spacing((1, 2), source, tag="T") == (1.0, 2.0)
    for bad in ((0, 1), (-1, 1), (np.nan, 1), (1e4, 1), (1e-3, 1)):
        with pytest.raises(InputError, match=r"scan\.nii: PixelSpacing"):
            check_spacing(bad, source, tag="PixelSpacing")
    flat = np.eye(4)
    flat[:3, 1] = flat[:3, 0]
    for matrix in (flat, np.full((4, 4), np.inf), np.eye(3)):
        with pytest.raises(InputError, match="sform"):
            check_affine(matrix, (4, 4, 4), source, tag="sform")
    with pytest.raises(InputError, match="5000 mm"):
        check_affine(np.diag([10, 1, 1, 1]), (500, 4, 4), source, tag="sform")
