"""NaN outside the field of view is padding; NaN inside is damage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from xrecon.errors import InputError
from xrecon.io.guards.hounsfield import check_hu
from xrecon.phantoms.thorax import Phantom
from xrecon.volume import Volume, load_ct

SOURCE = Path("ct")


def circle(shape: tuple[int, int, int]) -> np.ndarray:
    """[H, W] True outside the circle that fills a slice."""
    rows, columns = np.ogrid[: shape[1], : shape[2]]
    return (rows - shape[1] / 2) ** 2 + (columns - shape[2] / 2) ** 2 > (shape[1] / 2) ** 2


def saved(ct: Volume, hu: np.ndarray, path: Path) -> Path:
    """A floating-point NIfTI on the grid of a CT."""
    place = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ct.affine
    nibabel.save(nibabel.Nifti1Image(hu.astype(np.float32), place), path)
    return path


def test_nan_round_a_circular_field_of_view_is_air_with_a_note(phantom64: Phantom, tmp_path: Path) -> None:
    ct = phantom64.volume
    hu = np.where(circle(ct.shape), np.nan, ct.hu)
    read = load_ct(saved(ct, hu, tmp_path / "ct.nii.gz"))
    assert np.isfinite(read.hu).all()
    assert float(read.hu[0, 0, 0]) == -1024
    assert any("NaN voxels, connected to the border of their slices, are padding" in note for note in read.notes)
    inside = ~circle(ct.shape)
    assert np.allclose(read.hu[:, inside], ct.hu[:, inside], atol=0.5)


def test_nan_columns_beside_a_narrow_scan_and_empty_slices_at_an_end(phantom64: Phantom) -> None:
    hu = phantom64.volume.hu.copy()
    hu[..., :5] = np.nan
    hu[:3] = np.nan
    mended, notes = check_hu(hu, SOURCE)
    assert (mended[:3] == -1024).all() and (mended[..., :5] == -1024).all()
    assert sum("NaN" in note for note in notes) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_missing_inside_the_body_stays_refused(phantom64: Phantom, value: float) -> None:
    hu = np.where(circle(phantom64.volume.shape), np.float32(np.nan), phantom64.volume.hu).astype(np.float32)
    hu[30:33, 30:34, 30:34] = value
    with pytest.raises(InputError, match=r"48 of .* voxels inside the field of view are NaN or infinite"):
        check_hu(hu, SOURCE)


def test_infinity_round_the_field_of_view_and_nothing_but_nan_are_refused(phantom64: Phantom) -> None:
    hu = np.where(circle(phantom64.volume.shape), np.float32(np.inf), phantom64.volume.hu).astype(np.float32)
    with pytest.raises(InputError, match="NaN or infinite"):
        check_hu(hu, SOURCE)
    with pytest.raises(InputError, match="NaN or infinite"):
        check_hu(np.full((20, 20, 20), np.nan, np.float32), SOURCE)


def test_a_chest_without_nan_has_no_note(phantom64: Phantom) -> None:
    assert not any("NaN" in note for note in check_hu(replace(phantom64.volume).hu.copy(), SOURCE)[1])
