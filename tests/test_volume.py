"""Volume: invariants, the one orientation, resampling, saving and loading."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrecon.errors import InputError, OutputExistsError
from xrecon.volume import CANONICAL, OUTSIDE_HU, Volume, load_ct

SPACING = (5.0, 2.0, 1.5)  # D, H, W
ORIENTATIONS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def thorax() -> Volume:
    """Body with lungs; bone marker at the patient's right, front, top; a smaller one at the left, back, bottom."""
    hu = np.full((16, 20, 24), -1000, dtype=np.float32)
    hu[1:-1, 3:-3, 3:-3] = 40
    hu[4:-4, 6:-6, 6:-6] = -850
    hu[1:3, 3:6, 3:6] = 900
    hu[-3:-1, -5:-3, -6:-3] = 500
    return Volume.centred(hu, SPACING)


def stored_as(volume: Volume, order: tuple[int, ...], signs: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The same anatomy as an array with permuted and flipped axes, and its RAS affine."""
    array, affine = volume.hu.transpose(order), volume.affine[:, [*order, 3]].copy()
    for axis, sign in enumerate(signs):
        if sign < 0:
            array = np.flip(array, axis)
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
    return np.ascontiguousarray(array), np.diag([-1, -1, 1, 1]) @ affine


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS, ids=str)
def test_all_48_orientations_load_to_the_same_volume(
    tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    truth = thorax()
    array, ras = stored_as(truth, order, signs)
    nib.save(nib.Nifti1Image(array.astype(np.int16), ras), tmp_path / "a.nii")
    loaded = load_ct(tmp_path / "a.nii")
    assert np.array_equal(loaded.hu, truth.hu)
    assert np.allclose(loaded.affine, truth.affine, atol=1e-4)
    assert loaded.is_canonical
    d, h, w = np.argwhere(loaded.hu == 900).mean(axis=0)
    assert (d, h, w) == (1.5, 4, 4)  # head, front, patient's right
    x, y, z = (loaded.affine @ [d, h, w, 1])[:3]
    assert (x < 0, y < 0, z > 0) == (True, True, True)


def test_the_48_are_all_different() -> None:
    codes = {nib.aff2axcodes(stored_as(thorax(), *orientation)[1]) for orientation in ORIENTATIONS}
    assert len(codes) == 48


@pytest.mark.parametrize("degrees", [-20, 10, 40])
def test_oblique_scans_keep_their_affine(degrees: float) -> None:
    angle = np.radians(degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(SPACING)[:, [2, 1, 0]]
    volume = Volume(thorax().hu, affine)
    canonical = volume.canonical()
    assert canonical.is_canonical
    assert canonical.spacing_mm == pytest.approx(sorted(volume.spacing_mm, reverse=True), abs=4)
    for index in ((0, 0, 0), (3, 4, 5), (15, 19, 23)):
        place = volume.affine @ [*index, 1]
        voxel = np.rint(np.linalg.solve(canonical.affine, place)[:3]).astype(int)
        assert canonical.hu[tuple(voxel)] == volume.hu[index]


@pytest.mark.parametrize(
    ("hu", "affine", "words"),
    [
        (np.zeros((2, 2)), np.eye(4), "three axes"),
        (np.zeros((0, 2, 2)), np.eye(4), "three axes"),
        (np.zeros((2, 2, 2)), np.eye(3), "4 x 4"),
        (np.zeros((2, 2, 2)), np.zeros((4, 4)), "singular"),
        (np.zeros((2, 2, 2)), np.full((4, 4), np.nan), "not finite"),
        (np.full((2, 2, 2), np.inf), np.eye(4), "8 values"),
    ],
)
def test_impossible_volumes_are_refused(hu: np.ndarray, affine: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Volume(hu, affine)


def test_a_volume_is_frozen_and_does_not_freeze_its_source() -> None:
    source = np.zeros((2, 3, 4), dtype=np.float32)
    volume = Volume(source, np.eye(4))
    source[0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        volume.hu[0, 0, 0] = 5
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 0] = 5
    with pytest.raises(InputError, match="expected values of shape"):
        volume.with_hu(np.zeros((1, 1, 1), dtype=np.float32))


def test_spacing_centre_and_voxel_volume() -> None:
    volume = thorax()
    assert volume.spacing_mm == pytest.approx(SPACING)
    assert volume.voxel_ml == pytest.approx(5 * 2 * 1.5 / 1000)
    assert np.allclose(volume.centre_mm, 0)
    assert np.allclose(volume.affine[:3, :3], CANONICAL * SPACING)
    assert "16x20x24" in repr(volume)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.integers(0, 47))
def test_canonical_is_idempotent_and_keeps_every_voxel(seed: int, which: int) -> None:
    shape = tuple(np.random.default_rng(seed).integers(1, 6, 3))
    hu = np.random.default_rng(seed).normal(0, 300, shape).astype(np.float32)
    array, ras = stored_as(Volume.centred(hu, SPACING), *ORIENTATIONS[which])
    volume = Volume(array, np.diag([-1, -1, 1, 1]) @ ras)
    once = volume.canonical()
    assert np.array_equal(once.hu, hu)
    assert np.array_equal(once.canonical().hu, once.hu)
    assert np.allclose(once.canonical().affine, once.affine)


def test_resampling_onto_its_own_grid_changes_nothing() -> None:
    volume = thorax()
    same = volume.resampled(volume.shape, volume.spacing_mm)
    assert np.allclose(same.hu, volume.hu, atol=1e-3)
    assert np.allclose(same.affine, volume.affine)


def test_resample_round_trip_of_a_smooth_volume() -> None:
    d, h, w = np.meshgrid(*(np.linspace(-1, 1, n) for n in (16, 20, 24)), indexing="ij")
    hu = (-200 + 300 * np.exp(-(d**2 + h**2 + w**2) * 2)).astype(np.float32)
    volume = Volume.centred(hu, SPACING)
    fine = volume.resampled((32, 40, 48), (2.5, 1.0, 0.75), fill_hu=-200)
    back = fine.resampled(volume.shape, SPACING, fill_hu=-200)
    assert np.abs(back.hu - volume.hu)[2:-2, 2:-2, 2:-2].max() < 12
    assert np.allclose(back.affine, volume.affine)


def test_resampling_keeps_places_and_fills_air() -> None:
    volume = thorax()
    cube = volume.resampled((40, 40, 40), 3.0, centre_mm=np.array([3.0, -6.0, 9.0]))
    assert cube.spacing_mm == pytest.approx((3, 3, 3))
    assert np.allclose(cube.centre_mm, [3, -6, 9])
    assert cube.hu[0, 0, 0] == pytest.approx(OUTSIDE_HU)
    before = volume.affine @ [*np.argwhere(volume.hu == 900).mean(axis=0), 1]
    after = cube.affine @ [*np.argwhere(cube.hu > 450)[:, :3].astype(float).mean(axis=0), 1]
    heavy = np.argwhere((cube.hu > 450) & (np.arange(40)[:, None, None] < 20)).mean(axis=0)
    assert np.allclose((cube.affine @ [*heavy, 1])[:3], before[:3], atol=2.5)
    assert np.isfinite(after).all()


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_save_and_load_round_trip(tmp_path: Path, name: str) -> None:
    volume = thorax()
    path = volume.save(tmp_path / "new" / name)
    again = load_ct(path)
    assert np.array_equal(again.hu, volume.hu)
    assert np.allclose(again.affine, volume.affine, atol=1e-5)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        volume.save(path)
    assert volume.save(path, overwrite=True) == path


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**31))
def test_save_rounds_to_whole_hu(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    volume = Volume.centred(rng.uniform(-1024, 3000, (5, 6, 7)).astype(np.float32), SPACING)
    again = load_ct(volume.save(tmp_path_factory.mktemp("v") / "a.nii.gz"))
    assert np.abs(again.hu - volume.hu).max() <= 0.5


def test_synthetic_volumes_say_so(tmp_path: Path) -> None:
    volume = Volume.centred(thorax().hu, SPACING, synthetic=True)
    header = nib.load(volume.save(tmp_path / "a.nii.gz")).header
    assert b"SYNTHETIC" in bytes(header["descrip"].tobytes())
    assert "SYNTHETIC" in str(header.extensions[0].get_content())
    assert "is synthetic" in " ".join(load_ct(tmp_path / "a.nii.gz").notes)
