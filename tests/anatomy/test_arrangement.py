"""Axes that a script exchanged under an unchanged header are named; cropped, askew or ill chests are not doubted."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from xrecon.anatomy.orientation import landmarks, orientation_warnings
from xrecon.errors import InputError
from xrecon.phantoms.thorax import Phantom, ThoraxParameters, thorax_phantom
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.preparation.checks import check_thorax
from xrecon.segmentation import Segmentation
from xrecon.volume import Volume, load_ct

Axes = tuple[int, int, int]
EXCHANGED = "the axes of the CT look exchanged"
ENDS = (("head", "feet"), ("front", "back"), ("right", "left"))


def arranged(ct: Volume, axes: Axes, flips: Axes = (0, 0, 0)) -> Volume:
    """The voxels with their axes exchanged and turned over under an unchanged affine."""
    turned = np.flip(np.transpose(ct.hu, axes), [axis for axis in range(3) if flips[axis]])
    return replace(ct, hu=np.ascontiguousarray(turned))


def expected_words(axes: Axes, flips: Axes) -> list[str]:
    """What the warning has to say of each axis of the file that shows another axis of the patient."""
    words = []
    for stated, true in enumerate(axes):
        if stated != true:
            first, last = ENDS[true][::-1] if flips[stated] else ENDS[true]
            words.append(f"from {ENDS[stated][0]} to {ENDS[stated][1]} it shows the patient from {first} to {last}")
    return words


@pytest.mark.parametrize("axes", list(permutations(range(3)))[1:], ids=str)
@pytest.mark.parametrize("flips", [(0, 0, 0), (0, 1, 0), (1, 0, 1)], ids=str)
def test_the_likely_arrangement_is_named(phantom64: Phantom, axes: Axes, flips: Axes) -> None:
    sentences = orientation_warnings(arranged(phantom64.volume, axes, flips))
    assert len(sentences) == 1 and EXCHANGED in sentences[0]
    for words in expected_words(axes, flips):
        assert words in sentences[0]


@pytest.mark.parametrize("axes", [(0, 2, 1), (1, 2, 0)], ids=str)
def test_the_advice_works_undone_the_exchange_leaves_no_warning(phantom64: Phantom, axes: Axes) -> None:
    bad = arranged(phantom64.volume, axes)
    doubt = landmarks(bad).doubt
    assert doubt is not None
    assert orientation_warnings(arranged(bad, doubt.order)) == ()


def test_slices_thicker_than_pixels_are_no_hindrance(phantom64: Phantom) -> None:
    thick = phantom64.volume.resampled((32, 64, 64), (12.0, 6.0, 6.0))
    assert orientation_warnings(thick) == ()
    sentences = orientation_warnings(arranged(thick, (0, 2, 1)))
    assert len(sentences) == 1 and EXCHANGED in sentences[0]


@pytest.mark.parametrize("seed", range(3))
def test_other_patients_are_not_doubted_and_their_transposed_images_are(seed: int) -> None:
    parameters = replace(ThoraxParameters.sample(np.random.default_rng(seed)), noise_hu=40.0)
    ct = thorax_phantom(64, 6.0, parameters=parameters).volume
    assert orientation_warnings(ct) == ()
    assert EXCHANGED in orientation_warnings(arranged(ct, (0, 2, 1)))[0]


@pytest.mark.parametrize("side", [1, 2])
def test_one_white_lung_is_no_exchange(phantom64: Phantom, side: int) -> None:
    white = np.where(phantom64.labels == side, np.float32(30), phantom64.volume.hu)
    assert orientation_warnings(phantom64.volume.with_hu(white.astype(np.float32))) == ()


def test_air_under_tension_is_no_exchange_and_hides_none(phantom64: Phantom) -> None:
    sick, _ = plant_pneumothorax(phantom64.volume, side="left", occupancy=0.6, tension=1.0, seed=1)
    assert landmarks(sick).doubt is None
    assert EXCHANGED in orientation_warnings(arranged(sick, (0, 2, 1)))[0]


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("angle", [-20.0, 20.0])
def test_a_patient_who_lies_askew_is_not_doubted(phantom64: Phantom, axis: int, angle: float) -> None:
    plane = tuple(k for k in range(3) if k != axis)
    hu = ndimage.rotate(phantom64.volume.hu, angle, axes=plane, reshape=False, order=1, cval=-1000.0)
    assert landmarks(phantom64.volume.with_hu(hu.astype(np.float32))).doubt is None


@pytest.mark.parametrize("keep", ["right", "left"])
def test_a_crop_that_holds_little_more_than_one_lung_is_not_doubted(phantom64: Phantom, keep: str) -> None:
    columns = np.flatnonzero((phantom64.labels > 0).any(axis=(0, 1)))
    first, last = int(columns[0]), int(columns[-1])
    part = (
        slice(0, first + (last - first) * 6 // 10) if keep == "right" else slice(first + (last - first) * 4 // 10, None)
    )
    ct = phantom64.volume
    assert landmarks(replace(ct, hu=np.ascontiguousarray(ct.hu[..., part]))).doubt is None


def test_a_refusal_of_preparation_names_the_exchange_as_its_reason(phantom64: Phantom) -> None:
    ct = arranged(phantom64.volume, (0, 2, 1))
    none = np.zeros(ct.shape, np.uint8)
    lungs = Segmentation(none, none, ct.affine)
    with pytest.raises(InputError, match=EXCHANGED):
        check_thorax(ct, lungs, np.asarray(ct.hu > -350))


@pytest.mark.data
def test_real_chests_are_not_doubted_and_their_transposed_images_are(shared_data: Path) -> None:
    for name in ("003", "010", "118", "121"):
        ct = load_ct(shared_data / "ct" / f"case_{name}.nii.gz")
        assert landmarks(ct).doubt is None, name
        for axes, flips in product([(0, 2, 1), (1, 0, 2)], [(0, 0, 0), (0, 1, 0)]):
            sentences = orientation_warnings(arranged(ct, axes, flips))
            assert len(sentences) == 1, name
            for words in expected_words(axes, flips):
                assert words in sentences[0], name
