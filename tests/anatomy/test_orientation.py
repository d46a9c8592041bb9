"""Landmarks of the chest against the axes that a file states."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from xrecon.anatomy.orientation import Landmarks, landmarks, orientation_warnings, with_orientation_notes
from xrecon.phantoms.thorax import Phantom, ThoraxParameters, thorax_phantom
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.preparation.checks import check_thorax
from xrecon.segmentation import Segmentation
from xrecon.volume import Volume, load_ct

WORDS = ("head and feet", "front and back", "mirrored")
"""By axis D, H, W."""


def turned(ct: Volume, *axes: int) -> Volume:
    """The voxels flipped under an unchanged affine."""
    return replace(ct, hu=np.ascontiguousarray(np.flip(ct.hu, axes))) if axes else ct


def contradicted(ct: Volume) -> list[int]:
    """Axes of which a warning speaks."""
    sentences = orientation_warnings(ct)
    axes = [axis for axis, words in enumerate(WORDS) if any(words in sentence for sentence in sentences)]
    assert len(axes) == len(sentences)
    return axes


@pytest.mark.parametrize("flips", list(product((0, 1), repeat=3)), ids=str)
def test_each_flipped_axis_is_named_and_no_other(phantom64: Phantom, flips: tuple[int, int, int]) -> None:
    axes = [axis for axis, flip in enumerate(flips) if flip]
    assert contradicted(turned(phantom64.volume, *axes)) == axes


@pytest.mark.parametrize("seed", range(4))
def test_other_patients_with_noise_are_not_warned_of_and_their_mirror_images_are(seed: int) -> None:
    parameters = replace(ThoraxParameters.sample(np.random.default_rng(seed)), noise_hu=40.0)
    ct = thorax_phantom(64, 6.0, parameters=parameters).volume
    assert orientation_warnings(ct) == ()
    assert contradicted(turned(ct, 2)) == [2]


@pytest.mark.parametrize("side", ["right", "left"])
def test_air_under_tension_moves_the_heart_but_mirrors_nobody(phantom64: Phantom, side: str) -> None:
    sick, _ = plant_pneumothorax(phantom64.volume, side=side, occupancy=0.6, tension=1.0, seed=1)
    assert orientation_warnings(sick) == ()
    assert contradicted(turned(sick, 2)) == [2]


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 0, 2)], ids=str)
def test_axes_stored_in_another_order_are_no_contradiction(phantom64: Phantom, axes: tuple[int, int, int]) -> None:
    ct = phantom64.volume
    stored = Volume(np.transpose(ct.hu[::-1, :, ::-1], axes), _reordered(ct, axes))
    assert orientation_warnings(stored) == ()


def _reordered(ct: Volume, axes: tuple[int, int, int]) -> np.ndarray:
    affine = np.array(ct.affine)
    for axis in (0, 2):
        affine[:3, 3] += affine[:3, axis] * (ct.shape[axis] - 1)
        affine[:3, axis] *= -1
    affine[:3, :3] = affine[:3, list(axes)]
    return affine


def test_what_holds_no_chest_or_one_lung_only_has_no_landmarks(phantom64: Phantom) -> None:
    ct = phantom64.volume
    assert landmarks(ct.with_hu(np.full(ct.shape, -1000.0, np.float32))) == Landmarks()
    assert landmarks(ct.with_hu(np.full(ct.shape, 40.0, np.float32))) == Landmarks()
    for side in (1, 2):
        white = np.where((phantom64.labels == side) | (phantom64.labels == 3), 30.0, ct.hu).astype(np.float32)
        assert orientation_warnings(ct.with_hu(white)) == ()


@pytest.mark.parametrize("share", [0.25, 0.4])
def test_a_scan_that_ends_above_the_liver_or_below_the_apices_raises_no_alarm(phantom64: Phantom, share: float) -> None:
    ct = phantom64.volume
    rows = np.flatnonzero((phantom64.labels > 0).any(axis=(1, 2)))
    cut = round(share * len(rows))
    assert orientation_warnings(replace(ct, hu=ct.hu[: rows[-1] - cut])) == ()
    assert orientation_warnings(replace(ct, hu=ct.hu[rows[0] + cut :])) == ()


@pytest.mark.filterwarnings("default")
def test_the_notes_and_a_warning_name_the_place(phantom64: Phantom) -> None:
    with pytest.warns(UserWarning, match=r"somewhere: the anatomy looks mirrored"):
        noted = with_orientation_notes(turned(phantom64.volume, 2), "somewhere")
    assert any("mirrored" in note for note in noted.notes)
    assert with_orientation_notes(phantom64.volume, "somewhere") is phantom64.volume


def test_preparation_uses_the_same_words(phantom64: Phantom) -> None:
    ct = turned(phantom64.volume, 2)
    labels = np.ascontiguousarray(np.flip(phantom64.labels, 2)).astype(np.uint8)
    sides = np.where(labels == 1, 2, np.where(labels == 2, 1, 0)).astype(np.uint8)
    lungs = Segmentation(sides, np.zeros_like(sides), ct.affine)
    thorax = check_thorax(ct, lungs, np.asarray(ct.hu > -350), allow_partial=True)
    assert set(orientation_warnings(ct)) <= set(thorax.warnings)
    assert orientation_warnings(ct)


@pytest.mark.data
def test_real_chests_are_right_as_they_are_and_every_flip_is_seen(shared_data: Path) -> None:
    paths = sorted((shared_data / "ct").glob("*.nii.gz"))
    assert len(paths) == 20
    seen = dict.fromkeys(range(3), 0)
    for path in paths:
        ct = load_ct(path)
        assert orientation_warnings(ct) == (), path.name
        for axis in range(3):
            seen[axis] += contradicted(turned(ct, axis)) == [axis]
    assert seen[2] >= 18 and seen[0] == 20 and seen[1] >= 18
