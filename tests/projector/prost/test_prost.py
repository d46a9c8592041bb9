"""ProST: parity with the published projector, and the laws of both modes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from xrecon.errors import GeometryError
from xrecon.geometry import ConeBeam
from xrecon.projector.operator import project
from xrecon.projector.prost.projection import prost_project

REFERENCE = Path(__file__).resolve().parents[3].parent / "shared" / "reference"
AXIAL, SAGITTAL, CORONAL = (0.0, 0.0, 90.0), (90.0, 270.0, 90.0), (90.0, 180.0, 90.0)
TILTED, MOVED = (97.5, 266.0, 93.0), (5.0, -6.0, 3.5)
STEP = 1.75 / 64
MODES: Mapping[str, dict[str, object]] = {
    "compatible": {"compatible": True},
    "corrected": {"compatible": False, "spacing_mm": (3.0, 2.0, 2.5)},
}


def _golden(name: str) -> Mapping[str, NDArray[np.float32]]:
    path = Path(os.environ.get("XRECON_SHARED_REFERENCE", REFERENCE)) / name
    if not path.is_file():
        pytest.skip(f"reference projections not found: {path} (set XRECON_SHARED_REFERENCE to their folder)")
    with np.load(path) as file:
        return dict(file)


def _volume(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _block(shape: tuple[int, int, int], where: tuple[slice, slice, slice]) -> torch.Tensor:
    volume = torch.zeros(1, 1, *shape)
    volume[(0, 0, *where)] = 1.0
    return volume


def _centroid(film: torch.Tensor) -> tuple[float, float]:
    """Centre of mass (row, col) from the film's middle, in pixels."""
    rows, cols = (torch.arange(n, dtype=film.dtype) - (n - 1) / 2 for n in film.shape)
    return float((film.sum(1) * rows).sum() / film.sum()), float((film.sum(0) * cols).sum() / film.sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("view", "rotation", "translation"),
    [
        ("axial", AXIAL, (0, 0, 0)),
        ("sagittal", SAGITTAL, (0, 0, 0)),
        ("coronal", CORONAL, (0, 0, 0)),
        ("perturbed", TILTED, MOVED),
    ],
)
def test_published_projections(
    view: str, rotation: tuple[float, ...], translation: tuple[float, ...], dtype: torch.dtype
) -> None:
    golden = _golden("prost_golden.npz")
    volume = torch.from_numpy(golden["volume"]).to(dtype)[None, None]
    film = prost_project(volume, rotation_deg=rotation, translation_mm=translation)
    assert film.shape == (1, 1, 128, 128)
    assert film.dtype == dtype
    assert np.abs(film[0, 0].numpy() - golden[view]).max() < 1e-5 * golden[view].max()


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_published_projections_of_a_volume_that_is_not_cubic(name: str) -> None:
    golden = _golden("prost_golden_2.npz")
    pose = golden[f"{name}_pose"]
    film = prost_project(
        torch.from_numpy(golden["volume"])[None, None], rotation_deg=pose[:3], translation_mm=torch.from_numpy(pose[3:])
    )
    assert np.abs(film[0, 0].numpy() - golden[name]).max() < 1e-5 * golden[name].max()


@pytest.mark.parametrize("mode", MODES)
def test_orientation_of_the_nominal_views(mode: str) -> None:
    """A block at the head, at the back, at the patient's left: -D, +H, +W."""
    volume = _block((16, 16, 16), (slice(2, 6), slice(10, 15), slice(9, 13)))
    options = {**MODES[mode], "spacing_mm": 8.0, "detector_shape": (64, 64)}
    row, col = _centroid(prost_project(volume, rotation_deg=SAGITTAL, **options)[0, 0])
    assert row < -3  # rows run with +D
    assert col > 3  # columns with +H
    row, col = _centroid(prost_project(volume, rotation_deg=CORONAL, **options)[0, 0])
    assert row < -3  # rows +D
    assert col > 3  # columns +W
    row, col = _centroid(prost_project(volume, rotation_deg=AXIAL, **options)[0, 0])
    assert row > 3  # rows +H
    assert col < -3  # columns -W


def test_uniform_cube_counts_unit_samples() -> None:
    cube = torch.ones(1, 1, 32, 32, 32, dtype=torch.float64)
    whole_edge = 2 / STEP
    for rotation in (AXIAL, SAGITTAL, CORONAL):
        corrected = prost_project(cube, rotation_deg=rotation, compatible=False, spacing_mm=12.0, scale="volume")
        assert float(corrected[0, 0, 64, 64]) == pytest.approx(whole_edge, rel=1e-4)
        # Quirk: the samples start at the nearest corner's distance and so miss 0.23 half edges of the near cap; the
        # last voxel of the far side may be lost as well.
        assert float(prost_project(cube, rotation_deg=rotation)[0, 0, 64, 64]) in (63.0, 64.0, 65.0)
    film = prost_project(torch.ones(1, 1, 128, 128, 128), rotation_deg=CORONAL)
    assert float(film[0, 0, 64, 64]) == 65.0
    assert float((film > 0).float().mean()) == pytest.approx(0.98, abs=0.005)


def test_corrected_mode_does_not_depend_on_the_size_of_the_patient_when_scaled() -> None:
    volume = _volume(1, 1, 12, 14, 16)
    small, large = (
        prost_project(
            volume,
            rotation_deg=TILTED,
            translation_mm=MOVED,
            compatible=False,
            spacing_mm=pitch,
            detector_shape=(32, 32),
            scale="volume",
        )
        for pitch in (1.0, 24.0)
    )
    torch.testing.assert_close(small, large)
    assert float(small.max()) > 10


def test_physical_scale_is_the_prost_preset() -> None:
    """Published millimetres and half-voxel truth: the frontal view is the AP film of `ConeBeam.preset("prost")`."""
    volume, spacing = _volume(2, 1, 20, 18, 24), (8.0, 7.0, 9.0)
    film = prost_project(
        volume, rotation_deg=CORONAL, compatible=False, spacing_mm=spacing, scale=1.0, detector_shape=(40, 40)
    )
    beam = ConeBeam.preset("prost", "pa", size=40)
    torch.testing.assert_close(film * 1.75, project(volume, spacing, beam))
    lateral = prost_project(
        volume, rotation_deg=SAGITTAL, compatible=False, spacing_mm=spacing, scale=1.0, detector_shape=(40, 40)
    )
    torch.testing.assert_close(lateral * 1.75, project(volume, spacing, ConeBeam.preset("prost", "lateral", size=40)))


@pytest.mark.parametrize(("rotation", "translation"), [(SAGITTAL, (0, 0, 0)), (TILTED, MOVED), ((20, -35, 60), MOVED)])
def test_corrected_mode_has_the_true_pose(
    rotation: tuple[float, float, float], translation: tuple[float, float, float]
) -> None:
    """A Gaussian in closed form; source and detector placed here by hand from R p + t."""
    pitch, count, pixels = 2.0, 64, 24
    centre, width = np.array([9.0, -14.0, 11.0]), np.array([13.0, 10.0, 15.0])  # (x, y, z): along (W, H, D)
    voxel = (np.arange(count) - (count - 1) / 2) * pitch
    z, y, x = np.meshgrid(voxel, voxel, voxel, indexing="ij")
    volume = np.exp(-((((np.stack([x, y, z], -1) - centre) / width) ** 2).sum(-1)))
    film = prost_project(
        torch.from_numpy(volume)[None, None],
        rotation_deg=rotation,
        translation_mm=translation,
        compatible=False,
        spacing_mm=pitch,
        detector_shape=(pixels, pixels),
    )
    a, b, c = np.deg2rad(rotation)
    turn_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    turn_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    turn = turn_x @ turn_y @ turn_z
    place = (np.arange(pixels) - (pixels - 1) / 2) * 373.76 / pixels
    detector = np.stack(np.meshgrid(place, place, [-400.0], indexing="ij"), -1).reshape(-1, 3) @ turn.T + translation
    source = turn @ [0, 0, 300.0] + translation
    # In units of the Gaussian's widths it is round: the integral is sqrt(pi) exp(-distance of the ray squared).
    start, ray = (source - centre) / width, (detector - source) / width
    steepness = np.linalg.norm(ray, axis=1)
    along = ray / steepness[:, None]
    distance_squared = (start**2).sum() - (along @ start) ** 2
    unit_mm = np.linalg.norm(detector - source, axis=1) / steepness
    truth = (np.sqrt(np.pi) * np.exp(-distance_squared) * unit_mm).reshape(pixels, pixels) / 1.75
    assert np.abs(film[0, 0].numpy() - truth).max() < 0.01 * truth.max()
    assert np.abs(np.flip(film[0, 0].numpy(), 1) - truth).max() > 0.2 * truth.max()


def test_modes_differ_by_the_documented_slips_only() -> None:
    """An object away from the faces: what remains is half a voxel and half a pixel, undone here."""
    axis = torch.linspace(-1, 1, 64, dtype=torch.float64)
    d, h, w = torch.meshgrid(axis, axis, axis, indexing="ij")
    volume = torch.exp(-(d**2 + 2 * h**2 + 1.5 * w**2) * 9)[None, None]
    half_voxel_mm = 1.0
    for rotation, shift in ((AXIAL, (0, 0, 0)), (TILTED, MOVED)):
        published = prost_project(volume, rotation_deg=rotation, translation_mm=shift)
        options = {"rotation_deg": rotation, "compatible": False, "spacing_mm": 2.0}
        corrected = prost_project(volume, translation_mm=shift, **options)
        unmatched = (published - corrected).abs().max() / published.max()
        matched = prost_project(volume, translation_mm=[t + half_voxel_mm for t in shift], **options)
        matched = (matched[..., 1:, 1:] + matched[..., :-1, 1:] + matched[..., 1:, :-1] + matched[..., :-1, :-1]) / 4
        # The mean of four rays and the interpolation round the peak off by under 1 %.
        assert float((published[..., 1:, 1:] - matched).abs().max() / published.max()) < 0.01 < 0.5 * float(unmatched)
        assert float(published.sum()) == pytest.approx(float(matched.sum()), rel=1e-3)


def test_published_rays_skip_the_near_cap() -> None:
    caps = torch.zeros(1, 1, 64, 64, 64)
    caps[..., :4] = caps[..., -4:] = 1.0
    published = prost_project(caps, rotation_deg=SAGITTAL)[0, 0, 64, 64]
    corrected = prost_project(caps, rotation_deg=SAGITTAL, compatible=False, spacing_mm=2.0)[0, 0, 64, 64]
    assert float(corrected) == pytest.approx(16 / 1.75, rel=1e-4)
    assert float(published) < 0.6 * float(corrected)


@pytest.mark.parametrize("mode", MODES)
def test_gradient_is_the_exact_transpose(mode: str) -> None:
    pose = {"rotation_deg": TILTED, "translation_mm": MOVED, "detector_shape": (4, 3)}
    volume = _volume(1, 1, 3, 4, 2).requires_grad_()

    def forward(values: torch.Tensor) -> torch.Tensor:
        return prost_project(values, **pose, **MODES[mode])

    assert torch.autograd.gradcheck(forward, (volume,))
    assert torch.autograd.gradgradcheck(lambda values: forward(values).square(), (volume,), fast_mode=True)


@settings(max_examples=10, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    shift=st.tuples(*[st.floats(-30, 30)] * 3),
    mode=st.sampled_from(sorted(MODES)),
)
def test_laws_at_any_pose(angles: tuple[float, ...], shift: tuple[float, ...], mode: str) -> None:
    pose = {"rotation_deg": angles, "translation_mm": shift, "detector_shape": (16, 16), **MODES[mode]}
    first, second = _volume(1, 1, 8, 6, 7, seed=2).requires_grad_(), _volume(1, 1, 8, 6, 7, seed=3)
    film = prost_project(first, **pose)
    assert bool(torch.isfinite(film).all())
    assert float(film.detach().min()) >= 0
    torch.testing.assert_close(
        prost_project(2 * first - 3 * second, **pose), 2 * film - 3 * prost_project(second, **pose)
    )
    weights = _volume(1, 1, 16, 16, seed=4)
    (back,) = torch.autograd.grad(film, first, weights)
    assert float((film * weights).sum().detach()) == pytest.approx(
        float((first * back).sum().detach()), rel=1e-10, abs=1e-10
    )


@pytest.mark.parametrize("mode", MODES)
def test_batch_equals_single_and_strides_do_not_matter(mode: str) -> None:
    volume = _volume(3, 1, 9, 8, 7, dtype=torch.float32)
    options = {"rotation_deg": TILTED, "translation_mm": MOVED, "detector_shape": (48, 48), **MODES[mode]}
    films = prost_project(volume, **options)
    for i in range(3):
        assert torch.equal(prost_project(volume[i : i + 1], **options)[0], films[i])
    strided = volume.permute(0, 1, 4, 3, 2).contiguous().permute(0, 1, 4, 3, 2)
    assert not strided.is_contiguous()
    assert torch.equal(prost_project(strided, **options), films)


@pytest.mark.parametrize("mode", MODES)
def test_half_precision_and_autocast_compute_in_float32(mode: str) -> None:
    volume = _volume(1, 1, 9, 8, 7).bfloat16().requires_grad_()
    options = {"rotation_deg": TILTED, "detector_shape": (32, 32), **MODES[mode]}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        film = prost_project(volume, **options)
    assert film.dtype == torch.float32
    assert torch.equal(film, prost_project(volume.float(), **options))
    film.sum().backward()
    assert volume.grad is not None
    assert volume.grad.dtype == torch.bfloat16
    assert float(volume.grad.abs().sum()) > 0


def test_other_detector_shapes_sample_the_same_detector() -> None:
    volume = _volume(1, 1, 10, 10, 10)
    full = prost_project(volume, rotation_deg=TILTED, translation_mm=MOVED)
    coarse = prost_project(volume, rotation_deg=TILTED, translation_mm=MOVED, detector_shape=(32, 64))
    torch.testing.assert_close(coarse, full[..., ::4, ::2])


@pytest.mark.parametrize("mode", MODES)
def test_rays_that_miss_read_zero(mode: str) -> None:
    volume = torch.ones(1, 1, 8, 8, 8)
    film = prost_project(volume, rotation_deg=AXIAL, translation_mm=(200.0, 0.0, 0.0), **MODES[mode])
    assert torch.equal(film[..., 64, :], torch.zeros(1, 1, 128))
    assert bool(torch.isfinite(film).all())


def test_compatible_backward_adds_little_memory() -> None:
    """The graph keeps nothing of the samples, and no volume besides the gradient."""
    saved: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.numel())
        return tensor

    volume = _volume(1, 1, 24, 24, 24, dtype=torch.float32).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        prost_project(volume, rotation_deg=TILTED).sum().backward()
    assert sum(saved) == 0
    assert volume.grad is not None


GOOD = torch.zeros(1, 1, 4, 4, 4)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("volume", "options", "message"),
    [
        (GOOD[0], {}, r"\[N, 1, D, H, W\].*\(1, 4, 4, 4\)"),
        (GOOD.expand(1, 2, 4, 4, 4), {}, r"\(1, 2, 4, 4, 4\)"),
        (GOOD[:0], {}, "empty axes"),
        (GOOD.int(), {}, "int32"),
        (GOOD[:, :, :1], {}, "at least 2 voxels"),
        (GOOD, {"rotation_deg": (0.0, float("nan"), 0.0)}, "rotation_deg"),
        (GOOD, {"rotation_deg": (0.0, 1.0)}, "rotation_deg"),
        (GOOD, {"rotation_deg": 3.0}, "rotation_deg"),
        (GOOD, {"translation_mm": (0.0, float("inf"), 0.0)}, "translation_mm"),
        (GOOD, {"compatible": False}, "needs spacing_mm"),
        (GOOD, {"compatible": False, "spacing_mm": (1.0, 2.0)}, "spacing_mm"),
        (GOOD, {"compatible": False, "spacing_mm": 0.0}, "spacing_mm must be positive"),
        (GOOD, {"compatible": False, "spacing_mm": "wide"}, "spacing_mm"),
        (GOOD, {"compatible": False, "spacing_mm": 1.0, "scale": 0.0}, "scale"),
        (GOOD, {"compatible": False, "spacing_mm": 1.0, "scale": "film"}, "scale.*'film'"),
        (GOOD, {"detector_shape": (0, 8)}, "detector_shape"),
        (GOOD, {"translation_mm": (0.0, 0.0, -300.0)}, r"source lies inside.*0\.0.*64\.0"),
        (GOOD, {"compatible": False, "spacing_mm": 151.0, "scale": 1.0}, r"source lies inside.*300\.0.*302\.0.*scale"),
    ],
)
def test_bad_input(volume: torch.Tensor, options: dict[str, object], message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        prost_project(volume, **{"rotation_deg": AXIAL, **options})
