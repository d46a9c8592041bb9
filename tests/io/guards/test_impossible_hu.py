"""HU that cannot be: wrapped numbers, fill round the field of view, and scales that were lost or applied twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from support.dicom_factory import write_series
from xrecon.errors import InputError
from xrecon.films.simulation import simulate
from xrecon.volume import load_ct

AFFINE = np.diag([-3.0, -3.0, 8.0, 1.0])
SHAPE = (12, 64, 64)
CIRCLE = np.hypot(*(np.indices(SHAPE[1:]) - 31.5)) > 32.0


def chest() -> np.ndarray:
    """HU [k, row, column] with noise: air, a body with fat, two lungs, bone and a little metal."""
    rows, columns = np.indices(SHAPE[1:]) - 31.5
    hu = np.full(SHAPE, -1000.0)
    for k, plane in enumerate(hu):
        plane[np.hypot(rows / 22, columns / 28) < 1] = -90
        plane[np.hypot(rows / 19, columns / 25) < 1] = 45
        for side in (-12, 12):
            plane[np.hypot(rows / (15 - 0.5 * k), (columns - side) / (11 - 0.4 * k)) < 1] = -830
        plane[np.hypot((rows - 15) / 4, columns / 4) < 1] = 500
    hu += np.random.default_rng(3).normal(0, 15, SHAPE)
    hu[5, 46, 32] = 3071
    return np.rint(np.maximum(hu, -1024))


def filled(value: float) -> np.ndarray:
    hu = chest()
    hu[:, CIRCLE] = value
    return hu


def save(path: Path, stored: np.ndarray, dtype: Any = np.int16) -> Path:
    nib.save(nib.Nifti1Image(stored.astype(np.int64).astype(dtype).T, AFFINE), path)
    return path


def save_dicom(folder: Path, stored: np.ndarray, *, bits: int = 16, signed: int = 0, intercept: float = -1024) -> Path:
    def edit(data: Any, k: int) -> None:
        data.BitsStored, data.HighBit, data.PixelRepresentation = bits, bits - 1, signed
        data.RescaleSlope, data.RescaleIntercept = 1, intercept
        data.PixelData = (stored[k].astype(np.int64) & 0xFFFF).astype("<u2").tobytes()

    return write_series(folder, np.zeros(SHAPE), spacing=(8, 3, 3), edit=edit)


def check_chest(path: Path, truth: np.ndarray, note: str | None) -> None:
    """The volume is `truth`, and a note says what was mended."""
    ct = load_ct(path)
    assert np.array_equal(ct.hu, truth[::-1])
    assert note is None or any(note in words for words in ct.notes), ct.notes
    if note is None:
        assert not any("HU" in words or "wrapped" in words for words in ct.notes), ct.notes


def test_good_files_are_left_alone(tmp_path: Path) -> None:
    check_chest(save(tmp_path / "a.nii", chest()), chest(), None)
    check_chest(save_dicom(tmp_path / "ct", chest() + 1024), chest(), None)
    metal = chest()
    metal[5, 40:44, 30:34] = 20000
    check_chest(save(tmp_path / "b.nii", metal, np.int32), metal, None)
    saturated = np.minimum(chest(), 400)
    saturated[5, 40:44, 30:34] = 3071
    check_chest(save(tmp_path / "c.nii", saturated), saturated, None)


@pytest.mark.parametrize("padding", [-2000, -3024, -32768, -1])
@pytest.mark.parametrize("bits", [16, 12])
def test_padding_in_unsigned_dicom_is_air(tmp_path: Path, padding: int, bits: int) -> None:
    stored = chest() + 1024
    stored[:, CIRCLE] = padding
    ct = load_ct(save_dicom(tmp_path / "ct", stored, bits=bits))
    expected = filled(-1024 if padding != -1 else -1025)
    assert np.array_equal(ct.hu, expected[::-1])
    assert max(float(film.image.max()) for film in simulate(ct, size=32)) < 10


def test_padding_beyond_12_signed_bits_is_air(tmp_path: Path) -> None:
    stored = filled(-3024)
    check_chest(save_dicom(tmp_path / "ct", stored, bits=12, signed=1, intercept=0), filled(-1024), "padding")


def test_an_overlay_in_the_unused_bits_is_no_sign(tmp_path: Path) -> None:
    stored = (chest() + 1024).astype(np.int64)
    stored[:, 5:9, 5:9] |= 1 << 12
    check_chest(save_dicom(tmp_path / "ct", stored, bits=12), chest(), None)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("truth", [chest(), filled(-2000)], ids=["plain", "padded"])
def test_a_signed_ct_relabelled_unsigned_is_mended(tmp_path: Path, dtype: Any, truth: np.ndarray) -> None:
    path = save(tmp_path / "a.nii", truth.astype(np.int64) & 0xFFFF, dtype)
    check_chest(path, np.where(truth == -2000, -1024, truth), "wrapped round")


def test_signed_numbers_of_12_bits_relabelled_unsigned_are_mended(tmp_path: Path) -> None:
    truth = np.minimum(chest(), 2000)
    check_chest(save(tmp_path / "a.nii", truth.astype(np.int64) & 0xFFF), truth, "12 bits")
    check_chest(save_dicom(tmp_path / "ct", truth.astype(np.int64) & 0xFFF, bits=12, intercept=0), truth, "12 bits")


def test_large_values_without_explanation_are_refused(tmp_path: Path) -> None:
    odd = chest()
    odd[5:7, 30:40, 25:40] = np.random.default_rng(0).integers(33000, 60000, (2, 10, 15))
    with pytest.raises(InputError, match=r"wrapped round.*signed int16"):
        load_ct(save(tmp_path / "a.nii", odd, np.int32))
    odd = chest()
    odd[5, 30:34, 30:34] = 32767
    with pytest.raises(InputError, match="set them to -1024"):
        load_ct(save(tmp_path / "b.nii", odd))
    odd[odd == 32767] = -1024  # the advice
    check_chest(save(tmp_path / "c.nii", odd), odd, None)


@pytest.mark.parametrize("value", [0, 1072, 24, 3500])
@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_fill_round_the_field_of_view_is_air(tmp_path: Path, value: int, kind: str) -> None:
    truth = filled(value)
    truth[:, 26:30, 20:24] = 0  # tissue of exactly the same value, inside
    path = save(tmp_path / "a.nii", truth) if kind == "nifti" else save_dicom(tmp_path / "ct", truth + 1024)
    expected = np.where(CIRCLE, -1024, truth)
    check_chest(path, expected, "round the field of view")


def test_fill_round_a_masked_body_and_in_whole_slices_is_air(tmp_path: Path) -> None:
    """The body cut out with zeros: no jump to air, but the rest has noise; two slices hold nothing."""
    rows, columns = np.indices(SHAPE[1:]) - 31.5
    outside = np.hypot(rows / 22, columns / 28) >= 1
    truth = chest()
    truth[:, outside] = 0
    truth[[0, -1]] = 0
    expected = np.where(outside, -1024, truth)
    expected[[0, -1]] = -1024
    check_chest(save(tmp_path / "a.nii", truth), expected, "round the field of view")


def test_clipped_windows_and_even_phantoms_are_no_padding(tmp_path: Path) -> None:
    """A value that fills the corners, but is the end of a window, or tissue of a phantom without noise."""
    narrow = np.clip(chest(), -160, 240)
    ct = load_ct(save(tmp_path / "a.nii", narrow))
    assert np.array_equal(ct.hu, narrow[::-1])
    water = np.zeros(SHAPE)
    for side in (14, 40):
        water[:, 20:40, side : side + 10] = -850
    water[:, 50:54, 30:34] = 900
    water[6, 30, 18] = -1000
    assert np.array_equal(load_ct(save(tmp_path / "b.nii", water)).hu, water[::-1])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda hu: hu + 1024, "subtract 1024"),
        (lambda hu: np.where(CIRCLE, -2000, hu + 1024), "subtract 1024"),
        (lambda hu: hu - 1024, "applied twice"),
        (lambda hu: np.rint((hu + 1024) / 2) - 1024, "soft tissue"),
        (lambda hu: 2 * (hu + 1024) - 1024, "soft tissue gathers near 1"),
        (lambda hu: np.maximum(hu, 0), "cut off"),
    ],
    ids=["intercept lost", "lost beside padding", "intercept twice", "slope 2 lost", "slope 0.5 lost", "cut at 0"],
)
def test_lost_and_repeated_scales_are_refused_by_name(tmp_path: Path, damage: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_ct(save(tmp_path / "a.nii", damage(chest()), np.int32))
    with pytest.raises(InputError, match=words):
        load_ct(save_dicom(tmp_path / "ct", damage(chest()), signed=1, intercept=0))


def test_the_advice_on_scales_mends_the_file(tmp_path: Path) -> None:
    """Subtract 1024, or set RescaleIntercept to -1024; add 1024 where it was applied twice."""
    lost, twice = chest() + 1024, chest() - 1024
    with pytest.raises(InputError, match="subtract 1024"):
        load_ct(save(tmp_path / "lost.nii", lost))
    check_chest(save(tmp_path / "a.nii", lost - 1024), chest(), None)
    with pytest.raises(InputError, match="set RescaleIntercept to -1024"):
        load_ct(save_dicom(tmp_path / "lost", lost, intercept=0))
    check_chest(save_dicom(tmp_path / "mended", lost, intercept=-1024), chest(), None)
    with pytest.raises(InputError, match="add 1024"):
        load_ct(save(tmp_path / "twice.nii", twice))
    check_chest(save(tmp_path / "b.nii", twice + 1024), chest(), None)


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
def test_mha_and_nrrd_are_judged_alike(tmp_path: Path, suffix: str) -> None:
    sitk = pytest.importorskip("SimpleITK")

    def write(values: np.ndarray, dtype: Any) -> Path:
        image = sitk.GetImageFromArray(values.astype(np.int64).astype(dtype))
        image.SetSpacing((3.0, 3.0, 8.0))
        sitk.WriteImage(image, str(tmp_path / f"ct.{suffix}"))
        return tmp_path / f"ct.{suffix}"

    check_chest(write(chest().astype(np.int64) & 0xFFFF, np.uint16), chest(), "wrapped round")
    check_chest(write(filled(0), np.int16), filled(-1024), "round the field of view")
    with pytest.raises(InputError, match="subtract 1024"):
        load_ct(write(chest() + 1024, np.int16))
