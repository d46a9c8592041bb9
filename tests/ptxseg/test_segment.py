"""`xrecon.segment` on the artificial thorax, with and without air, in every shape that a file may have."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

import xrecon
from xrecon.errors import InputError
from xrecon.phantoms.thorax import Phantom, ThoraxParameters, thorax_phantom
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.ptxseg.pipeline import segment
from xrecon.segmentation import AirComponent, Label, ScanFlags, Segmentation, SegmentationDetails, Side
from xrecon.volume import RESEARCH_NOTICE, Volume, load_ct

ML = 900.0


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return 2.0 * float((first & second).sum()) / max(1.0, float(first.sum() + second.sum()))


@pytest.fixture(scope="module")
def sick() -> Phantom:
    """Air on the patient's left, 4 mm voxels, scanner noise."""
    return thorax_phantom(
        96, 4.0, parameters=ThoraxParameters(noise_hu=10.0, pneumothorax_side="left", pneumothorax_ml=ML)
    )


@pytest.fixture(scope="module")
def segmentation(sick: Phantom) -> Segmentation:
    return segment(sick.volume)


@pytest.fixture(scope="module")
def healthy(phantom64: Phantom) -> Segmentation:
    return segment(phantom64.volume)


def test_healthy_lungs_by_side_and_no_air(phantom64: Phantom, healthy: Segmentation) -> None:
    assert dice(healthy.labels == Label.RIGHT_LUNG, phantom64.labels == Label.RIGHT_LUNG) > 0.95
    assert dice(healthy.labels == Label.LEFT_LUNG, phantom64.labels == Label.LEFT_LUNG) > 0.95
    assert healthy.volume_ml(Label.AIR) == 0.0


def test_free_air_is_found_on_its_side(sick: Phantom, segmentation: Segmentation) -> None:
    truth = sick.labels == Label.AIR
    assert dice(segmentation.labels == Label.AIR, truth) > 0.9
    assert segmentation.volume_ml(Label.AIR, Side.LEFT) == pytest.approx(ML, rel=0.1)
    assert segmentation.volume_ml(Label.AIR, Side.RIGHT) == 0.0
    assert dice(segmentation.labels == Label.LEFT_LUNG, sick.labels == Label.LEFT_LUNG) > 0.93


def test_findings_are_json_and_name_the_component(segmentation: Segmentation) -> None:
    document = json.loads(json.dumps(segmentation.findings))
    first = document["components"][0]
    assert first["kind"] == "pneumothorax"
    assert first["side"] == "left"
    assert first["volume_ml"] == pytest.approx(ML, rel=0.12)  # on the working grid, before the boundary is decided
    assert 0.0 < first["confidence"] <= 1.0
    assert document["flags"]["one_lung_missing"] is None
    assert document["notice"] == RESEARCH_NOTICE == segmentation.notes[0]


def test_findings_hold_exactly_the_keys_of_their_schema(segmentation: Segmentation) -> None:
    assert set(segmentation.findings) == set(SegmentationDetails.__annotations__)
    assert set(segmentation.findings["flags"]) == set(ScanFlags.__annotations__)
    assert all(set(part) == set(AirComponent.__annotations__) for part in segmentation.findings["components"])


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SLA"])
def test_labels_lie_on_the_grid_of_any_axis_order(phantom64: Phantom, healthy: Segmentation, codes: str) -> None:
    volume = phantom64.volume
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    image = nib.Nifti1Image(np.asarray(volume.hu), to_ras @ volume.affine)
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(
            nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
        )
    )
    other = Volume(np.asarray(turned.dataobj, dtype=np.float32), to_ras @ turned.affine)
    labels = segment(other)
    assert labels.shape == other.shape
    assert np.array_equal(labels.affine, other.affine)
    as_volume = Volume(labels.labels.astype(np.float32), labels.affine).canonical()
    assert np.array_equal(as_volume.hu, healthy.labels)


def test_mirroring_the_patient_swaps_the_sides(sick: Phantom, segmentation: Segmentation) -> None:
    volume = sick.volume
    mirrored = segment(volume.with_hu(np.ascontiguousarray(volume.hu[:, :, ::-1])))
    assert mirrored.volume_ml(Label.AIR, Side.LEFT) == 0.0
    back = mirrored.labels[:, :, ::-1] == Label.AIR
    assert dice(back, segmentation.labels == Label.AIR) > 0.97


@pytest.mark.parametrize("offset", [-50.0, 50.0])
def test_an_offset_of_hu_changes_little(sick: Phantom, segmentation: Segmentation, offset: float) -> None:
    shifted = segment(sick.volume.with_hu(np.maximum(sick.volume.hu + np.float32(offset), np.float32(-1024.0))))
    assert dice(shifted.labels == Label.AIR, segmentation.labels == Label.AIR) > 0.95


def test_anisotropic_and_fine_voxels(sick: Phantom) -> None:
    volume = sick.volume
    d, h, w = volume.shape
    fine = volume.resampled((d * 4 // 7, h * 4, w * 4), (7.0, 1.0, 1.0))
    truth = Volume((sick.labels == Label.AIR).astype(np.float32), volume.affine).resampled(
        fine.shape, fine.spacing_mm, fill_hu=0.0
    )
    result = segment(fine)
    assert result.shape == fine.shape
    assert result.findings["flags"]["thick_slices"]
    assert dice(result.labels == Label.AIR, truth.hu > 0.5) > 0.8


def test_progress_runs_to_the_end(phantom64: Phantom) -> None:
    steps: list[tuple[str, float]] = []
    segment(phantom64.volume, progress=lambda step, share: steps.append((step, share)))
    shares = [share for _, share in steps]
    assert shares == sorted(shares)
    assert steps[-1] == ("done", 1.0)
    assert len({step for step, _ in steps}) == len(steps) >= 5


@pytest.mark.parametrize("lung_model", ["classical", "auto"])
def test_one_lung_of_water_is_flagged(phantom64: Phantom, lung_model: str) -> None:
    hu = phantom64.volume.hu.copy()
    hu[phantom64.labels == Label.RIGHT_LUNG] = 20.0
    result = segment(phantom64.volume.with_hu(hu), lung_model=lung_model)
    assert result.findings["flags"]["one_lung_missing"] == "right"
    assert any("no aerated right lung" in note for note in result.notes)
    # The network, which `auto` asks in a smooth image, finds lung without air.
    assert lung_model == "auto" or result.volume_ml(Label.RIGHT_LUNG) < 20.0
    assert dice(result.labels == Label.LEFT_LUNG, phantom64.labels == Label.LEFT_LUNG) > 0.9


def test_a_cut_field_of_view_is_flagged(phantom64: Phantom) -> None:
    volume = phantom64.volume
    affine = volume.affine.copy()
    rows = np.flatnonzero((phantom64.labels > 0).any(axis=(1, 2)))
    cut = int(rows[0] + 0.6 * (rows[-1] - rows[0]))
    result = segment(Volume(volume.hu[:cut], affine))
    assert "feet" in result.findings["flags"]["field_of_view_cut"]
    assert any("run out of the picture (feet)" in note for note in result.notes)


def test_a_blurred_image_is_flagged_and_keeps_its_large_pocket(sick: Phantom) -> None:
    from scipy import ndimage

    blurred = segment(sick.volume.with_hu(ndimage.gaussian_filter(sick.volume.hu, 1.0)))
    assert blurred.findings["flags"]["smooth_image"]
    assert dice(blurred.labels == Label.AIR, sick.labels == Label.AIR) > 0.75


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda hu: (hu + 1024.0) / 4095.0, r"scaled to \[0, 1\]"),
        (lambda hu: hu + 1024.0, "subtract 1024"),
        (lambda hu: np.zeros_like(hu), "constant"),
        (lambda hu: np.maximum(hu, np.float32(-250.0)), "no air"),
    ],
)
def test_wrong_units_are_refused(phantom64: Phantom, change: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        segment(phantom64.volume.with_hu(np.asarray(change(phantom64.volume.hu), dtype=np.float32)))  # type: ignore[operator]


def test_something_else_than_a_chest_is_refused() -> None:
    places = np.indices((40, 40, 40)) - 19.5
    radius = np.sqrt((places**2).sum(axis=0)) * 5.0
    head = np.where(radius < 80.0, 40.0, -1000.0).astype(np.float32)
    with pytest.raises(InputError, match="no lungs found"):
        segment(Volume.centred(head, (5.0, 5.0, 5.0)))


def test_an_unknown_lung_model_is_named(phantom64: Phantom) -> None:
    with pytest.raises(InputError, match="'unet' is unknown"):
        segment(phantom64.volume, lung_model="unet")


def test_the_public_name_is_this_function() -> None:
    assert xrecon.segment is segment


def test_voxels_of_a_synthetic_reconstruction_go_the_same_way(sick: Phantom, segmentation: Segmentation) -> None:
    again = segment(replace(sick.volume, synthetic=True, notes=("made from two films",)))
    assert np.array_equal(again.labels, segmentation.labels)
    assert "made from two films" in again.notes


@pytest.mark.data
@pytest.mark.slow
def test_real_chest_healthy_and_with_planted_air(shared_data: Path) -> None:
    ct = load_ct(shared_data / "ct" / "case_113.nii.gz")
    assert segment(ct).volume_ml(Label.AIR) < 10.0
    for side, pattern in itertools.product(("right", "left"), ("supine",)):
        ill, truth = plant_pneumothorax(ct, side=side, occupancy=0.2, seed=3, pattern=pattern)
        result = segment(ill)
        assert dice(result.labels == Label.AIR, truth.labels == Label.AIR) > 0.95
        assert set(np.unique(result.air_side[result.labels == Label.AIR])) == {
            Side.RIGHT if side == "right" else Side.LEFT
        }


@pytest.mark.data
@pytest.mark.parametrize("case", ["006", "011"])
def test_lungs_agree_with_manual_contours(shared_data: Path, case: str) -> None:
    ct = load_ct(shared_data / "ct" / f"case_{case}.nii.gz")
    image = nib.load(shared_data / "masks" / f"case_{case}_lungs.nii.gz")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    manual = Volume(np.asarray(image.dataobj, dtype=np.float32), affine).canonical().hu > 0.5
    labels = segment(ct).labels
    assert dice((labels == Label.RIGHT_LUNG) | (labels == Label.LEFT_LUNG), manual) > 0.96


@pytest.mark.parametrize(("size", "pitch_mm"), [(96, 4.0), (128, 3.0)])
def test_a_small_pocket_on_a_coarse_grid(size: int, pitch_mm: float) -> None:
    """Interpolated edges are wider: the wall must still be recognised as wall."""
    parameters = ThoraxParameters(noise_hu=10.0, pneumothorax_side="left", pneumothorax_ml=300.0)
    sick = thorax_phantom(size, pitch_mm, parameters=parameters)
    result = segment(sick.volume, lung_model="classical")
    assert dice(result.labels == Label.AIR, sick.labels == Label.AIR) > 0.84
    assert result.findings["components"][0]["measurements"]["wall_share"] > 0.45
