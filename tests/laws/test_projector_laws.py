"""Laws of a cone-beam projector, checked against geometry worked out here in numpy, independently of the package.

Every law runs over `auto`, the default of the public `project`, and over every backend that can do the projection:
`compiled`, `aligned` and `auto` in float32, `reference` in float64.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from xrecon.geometry import VIEW_POSITIONS, ConeBeam
from xrecon.phantoms.analytic import Ellipsoid
from xrecon.projector.backends.aligned import aligned_plan, project_aligned
from xrecon.projector.backends.registry import BackendName
from xrecon.projector.operator import backproject, project

Array = NDArray[np.float64]
Spacing = tuple[float, float, float]
VIEWS = tuple(VIEW_POSITIONS)
PRESETS = ("chest", "x2ct", "prost")
NAMES: tuple[BackendName, ...] = get_args(BackendName)
GRIDS = {
    "small": ((20, 20, 20), (4.0, 4.0, 4.0)),  # below what the compiled kernels take
    "cubic": ((33, 33, 33), (2.4, 2.4, 2.4)),
    "anisotropic": ((15, 71, 90), (5.0, 0.8, 0.8)),
}


def _film(name: str, view: str, *, size: int = 24, field_mm: float = 110.0) -> ConeBeam:
    """A preset's distances with a small detector that covers `field_mm` at the isocentre."""
    nominal = ConeBeam.preset(name, view, size=size)
    pitch = field_mm * nominal.magnification / size
    return replace(nominal, pixel_mm=(pitch, pitch))


def _random_poses(count: int) -> dict[str, ConeBeam]:
    rng = np.random.default_rng(7)
    poses = {}
    for i in range(count):
        angle, tilt, roll = rng.uniform((-180, -50, -60), (180, 50, 60))
        x, y, z = rng.uniform(-20, 20, 3)
        base = replace(_film("x2ct", VIEWS[i % 4]), detector_shift_mm=tuple(rng.uniform(-15, 15, 2)))
        poses[f"random{i}"] = base.moved(
            angle_deg=angle, tilt_deg=tilt, roll_deg=roll, translation_mm=(float(x), float(y), float(z))
        )
    return poses


ALIGNED = {f"{name}-{view}": _film(name, view) for name in PRESETS for view in VIEWS}
ALIGNED["moved-pa"] = replace(_film("x2ct", "pa"), translation_mm=(7.0, -11.0, 5.0), detector_shift_mm=(9.0, -6.0))
ALIGNED["moved-lateral"] = replace(ALIGNED["moved-pa"], angle_deg=90.0)
OBLIQUE = {
    "tiny-tilt": _film("chest", "pa").moved(tilt_deg=1e-4),
    "tilted": _film("chest", "pa").moved(tilt_deg=12.0),
    "rolled": _film("chest", "lateral").moved(roll_deg=25.0),
    "oblique45": _film("x2ct", "pa").moved(angle_deg=45.0),
    "head-first": _film("prost", "ap").moved(tilt_deg=80.0, roll_deg=10.0),
    **_random_poses(20),
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Hundreds of tiny films: on a shared machine threads that wait for each other cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Square to the patient every backend can project, from anywhere all but the matrix products.
BACKEND_AND_POSE = [
    *(pytest.param(name, g, id=f"{name}-{k}") for k, g in ALIGNED.items() for name in NAMES),
    *(pytest.param(name, g, id=f"{name}-{k}") for k, g in OBLIQUE.items() for name in NAMES if name != "aligned"),
]


BOXES = [
    pytest.param(*case.values, grid, id=f"{case.id}-{grid}")
    for case in BACKEND_AND_POSE
    for grid in GRIDS
    if not (case.values[0] == "compiled" and grid == "small")
]


def _dtype(name: str) -> torch.dtype:
    return torch.float64 if name == "reference" else torch.float32


def _tolerance(name: str, *, exact: float = 1e-11) -> float:
    """Largest difference that rounding explains, in line integrals of about 1."""
    return exact if name == "reference" else 1e-5


def _project(name: BackendName, volume: Array, spacing: Spacing, geometry: ConeBeam) -> Array:
    """Film [rows, cols] of a volume [D, H, W], or films [N, rows, cols] of [N, D, H, W], by a backend.

    The kernels need 32 voxels along W: narrower volumes are padded with empty voxels on both sides, which changes
    nothing where their outer voxels are empty, too.
    """
    batch = torch.from_numpy(volume.reshape(-1, *volume.shape[-3:])).to(_dtype(name))
    missing = 32 - batch.shape[-1]
    if name == "compiled" and missing > 0:
        assert not volume[..., [0, -1]].any(), "padding would change this film"
        batch = torch.nn.functional.pad(batch, ((missing + 1) // 2,) * 2)
    films = project(batch[:, None], spacing, geometry, backend=name)[:, 0].double()
    return films.reshape(*volume.shape[:-3], *geometry.detector_shape).numpy()


def _rays_lps(geometry: ConeBeam) -> tuple[Array, Array, Array]:
    """Source [3], pixel centres [rows, cols, 3] and detector normal [3] in LPS mm, from the documented conventions."""
    turn = Rotation.from_euler("ZXY", [geometry.angle_deg, geometry.tilt_deg, geometry.roll_deg], degrees=True)
    rows, cols = geometry.detector_shape
    down = (np.arange(rows) - (rows - 1) / 2) * geometry.pixel_mm[0] + geometry.detector_shift_mm[0]
    along = (np.arange(cols) - (cols - 1) / 2) * geometry.pixel_mm[1] + geometry.detector_shift_mm[1]
    rig = np.empty((rows, cols, 3))
    rig[..., 0] = -along if geometry.mirrored else along
    rig[..., 1] = geometry.source_to_isocentre_mm - geometry.source_to_detector_mm
    rig[..., 2] = -down[:, None]
    shift = np.array(geometry.translation_mm)
    source = turn.apply([0.0, geometry.source_to_isocentre_mm, 0.0]) + shift
    pixels = turn.apply(rig.reshape(-1, 3)).reshape(rig.shape) + shift
    return source, pixels, turn.apply([0.0, -1.0, 0.0])


def _chords_mm(geometry: ConeBeam, shape: tuple[int, int, int], spacing: Spacing) -> Array:
    """Length [rows, cols] of each ray, from source to pixel, inside the voxel box (slab method)."""
    source, pixels, _ = _rays_lps(geometry)
    half = (np.array(shape) * spacing / 2)[::-1]  # (D, H, W) extents in the order x, y, z
    ray = pixels - source
    with np.errstate(divide="ignore"):
        faces = np.stack([(-half - source) / ray, (half - source) / ray])
    enter = np.maximum(faces.min(axis=0).max(axis=-1), 0.0)
    leave = np.minimum(faces.max(axis=0).min(axis=-1), 1.0)
    return np.maximum(leave - enter, 0.0) * np.linalg.norm(ray, axis=-1)


def _voxel_lps(index: tuple[int, int, int], shape: tuple[int, int, int], spacing: Spacing) -> Array:
    d, h, w = (np.array(index) - (np.array(shape) - 1) / 2) * spacing
    return np.array([w, h, -d])


def _centre_of_mass(film: Array) -> Array:
    """(row, col) of a film's centre of mass."""
    rows, cols = np.indices(film.shape)
    return np.array([(film * rows).sum(), (film * cols).sum()]) / film.sum()


def _shadow(point: Array, geometry: ConeBeam) -> Array:
    """Detector position (row, col) of an LPS point, by similar triangles."""
    source, pixels, normal = _rays_lps(geometry)
    corner, down, along = pixels[0, 0], pixels[1, 0] - pixels[0, 0], pixels[0, 1] - pixels[0, 0]
    scale = (corner - source) @ normal / ((point - source) @ normal)
    hit = source + scale * (point - source) - corner
    return np.array([hit @ down / (down @ down), hit @ along / (along @ along)])


# --- lengths -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "geometry", "grid"), BOXES)
def test_uniform_box_gives_mu_times_chord_for_every_ray(name: BackendName, geometry: ConeBeam, grid: str) -> None:
    shape, spacing = GRIDS[grid]
    chords = _chords_mm(geometry, shape, spacing)
    film = _project(name, np.full(shape, 0.02), spacing, geometry)
    assert chords.max() > 40 and (chords == 0).any(), "the film must show the whole box and rays beside it"
    assert np.abs(film - 0.02 * chords).max() < _tolerance(name)
    assert (film[chords == 0] == 0).all(), "a ray that misses gives exactly zero"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("depth_mm", [-25.0, 0.3, 27.0])
def test_ray_ends_at_the_detector(name: BackendName, depth_mm: float) -> None:
    shape, spacing = GRIDS["cubic"]
    inside = ConeBeam(500.0, 501.0, (24, 24), (5.0, 5.0), translation_mm=(0.0, depth_mm, 0.0))
    chords = _chords_mm(inside, shape, spacing)
    film = _project(name, np.full(shape, 0.02), spacing, inside)
    assert 0 < chords.max() < 75, "the detector must cut the box"
    np.testing.assert_allclose(film, 0.02 * chords, atol=_tolerance(name))


@pytest.mark.parametrize("name", NAMES)
def test_source_beside_the_volume_sees_only_what_lies_ahead(name: BackendName) -> None:
    # 40 x 100 x 40 mm; the kernels need more voxels, the matrix products cannot take flat ones.
    shape, spacing = ((8, 20, 32), (5.0, 5.0, 1.25)) if name == "compiled" else ((8, 20, 8), (5.0, 5.0, 5.0))
    beside = ConeBeam(10.0, 80.0, (30, 30), (4.0, 4.0), translation_mm=(-40.0, 0.0, 0.0))
    chords = _chords_mm(beside, shape, spacing)
    film = _project(name, np.full(shape, 0.02), spacing, beside)
    assert (chords > 0).any()
    np.testing.assert_allclose(film, 0.02 * chords, atol=_tolerance(name))


# --- unit impulse ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spacing", "pitch_mm", "tolerance"),
    [((2.0, 2.0, 2.0), 0.25, 0.01), ((5.0, 0.8, 0.8), 0.2, 0.03)],
    ids=["cubic", "anisotropic"],
)
@pytest.mark.parametrize(("name", "geometry"), BACKEND_AND_POSE)
def test_unit_impulse_lands_by_similar_triangles_and_integrates_to_its_volume(
    name: BackendName, geometry: ConeBeam, spacing: Spacing, pitch_mm: float, tolerance: float
) -> None:
    shape, index = (7, 9, 9), (4, 2, 5)
    point = _voxel_lps(index, shape, spacing)
    pitch = pitch_mm * geometry.magnification
    fine = replace(geometry, detector_shape=(72, 72), pixel_mm=(pitch, pitch), detector_shift_mm=(0.0, 0.0))
    # Bring the detector under the shadow; a cropped shadow would have another centre of mass.
    shift = (_shadow(point, fine) - 35.5).round() * pitch
    fine = replace(fine, detector_shift_mm=(float(shift[0]), float(shift[1])))
    volume = np.zeros(shape)
    volume[index] = 1.0
    film = _project(name, volume, spacing, fine)

    assert np.abs(_centre_of_mass(film) - _shadow(point, fine)).max() < 0.1
    # A solid angle sees a point at distance r with weight 1 / r^2, on the detector too: magnification^2 over the
    # obliquity. Summing over pixels' solid angles gives the voxel's volume back.
    source, pixels, normal = _rays_lps(fine)
    ray = pixels - source
    distance = np.linalg.norm(ray, axis=-1)
    solid_angle = pitch**2 * (ray @ normal) / distance**3
    measured = (film * solid_angle).sum() * ((point - source) ** 2).sum()
    assert measured == pytest.approx(np.prod(spacing), rel=tolerance)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("preset", PRESETS)
def test_magnification_is_source_detector_over_source_object(preset: str, view: str, name: BackendName) -> None:
    shape, spacing = (13, 13, 13), (8.0, 8.0, 8.0)
    geometry = _film(preset, view, size=70)
    source = _rays_lps(geometry)[0]
    along_depth = 1 if view in ("pa", "ap") else 2
    for plane in (1, 6, 11):
        volumes = np.zeros((2, *shape))
        for volume, side in zip(volumes, (4, 8), strict=True):
            index = [side, side, side]
            index[along_depth] = plane
            volume[tuple(index)] = 1.0
        first, second = map(_centre_of_mass, _project(name, volumes, spacing, geometry))
        point = _voxel_lps((6, *((plane, 6) if along_depth == 1 else (6, plane))), shape, spacing)
        expected = geometry.source_to_detector_mm / np.linalg.norm(point - source)
        np.testing.assert_allclose((second - first) * geometry.pixel_mm[0] / 32.0, expected, rtol=3e-3)


# --- ellipsoids against the closed form ----------------------------------------------------------------------------

ELLIPSOID = Ellipsoid(
    centre_mm=(3.0, -4.0, 2.0),
    semi_axes_mm=(28.0, 20.0, 24.0),
    rotation=((0.36, 0.48, -0.8), (-0.8, 0.6, 0.0), (0.48, 0.64, 0.6)),
    mu_per_mm=0.02,
)


@lru_cache(maxsize=3)
def _voxelised_ellipsoid(voxel_mm: float) -> Array:
    side = round(72 / voxel_mm)
    return np.asarray(ELLIPSOID.voxelised((side, side, side), voxel_mm, supersample=3), dtype=np.float64)


def _ellipsoid_error(name: BackendName, geometry: ConeBeam, voxel_mm: float) -> tuple[float, float]:
    """Film of a voxelised ellipsoid: root mean square error over the exact maximum, and relative error of its sum."""
    source, pixels, _ = _rays_lps(geometry)
    exact = np.asarray(ELLIPSOID.line_integral(source, pixels.reshape(-1, 3))).reshape(geometry.detector_shape)
    film = _project(name, _voxelised_ellipsoid(voxel_mm), (voxel_mm, voxel_mm, voxel_mm), geometry)
    return float(np.sqrt(np.mean((film - exact) ** 2)) / exact.max()), float(film.sum() / exact.sum() - 1)


@pytest.mark.parametrize(
    ("name", "geometry"),
    [
        *((p, ALIGNED[k]) for k in ("chest-pa", "chest-lateral", "x2ct-ap", "prost-right_lateral") for p in NAMES),
        *((p, OBLIQUE[k]) for k in ("tilted", "oblique45", "random0", "random1") for p in NAMES if p != "aligned"),
    ],
)
def test_ellipsoid_converges_to_the_closed_form(
    name: BackendName, geometry: ConeBeam, record_property: Callable[[str, object], None]
) -> None:
    geometry = geometry.with_detector((72, 72))  # enough rays that the mean does not hang on a few at the rim
    errors = {voxel_mm: _ellipsoid_error(name, geometry, voxel_mm) for voxel_mm in (4.0, 2.0, 1.0)}
    record_property("relative_rms_and_sum_error_by_voxel_mm", errors)
    words = (f"{v:g} mm rms {100 * rms:.3f} % sum {100 * total:+.3f} %" for v, (rms, total) in errors.items())
    print(f"{name}, {geometry}: " + ", ".join(words))
    (coarse, _), (medium, _), (fine, _) = errors.values()
    # The rim, where the chord falls to zero like a square root, makes convergence first order in the voxel.
    assert coarse < 0.022 and medium < 0.011 and fine < 0.0055
    assert medium < 0.6 * coarse and fine < 0.6 * medium
    assert all(abs(total) < 0.002 for _, total in errors.values())


# --- linearity, transpose, derivatives -----------------------------------------------------------------------------

OPERATORS = {**{k: ALIGNED[k] for k in ALIGNED if k.startswith(("chest", "moved"))}, **OBLIQUE}


PRECISIONS: dict[str, tuple[torch.dtype, ...]] = {
    "auto": (torch.float64, torch.float32),
    "compiled": (torch.float32,),
    "aligned": (torch.float32,),
    "reference": (torch.float64, torch.float32),
}


@pytest.mark.parametrize(
    ("name", "dtype", "geometry"),
    [
        pytest.param(name, dtype, geometry, id=f"{name}-{str(dtype)[-2:]}-{key}")
        for key, geometry in OPERATORS.items()
        for name, precisions in PRECISIONS.items()
        for dtype in precisions
        if name != "aligned" or key in ALIGNED
    ],
)
def test_backproject_is_the_transpose_of_project(name: BackendName, dtype: torch.dtype, geometry: ConeBeam) -> None:
    generator = torch.Generator().manual_seed(3)
    shape, spacing = (9, 12, 33 if name == "compiled" else 7), (9.0, 6.0, 8.0)
    geometry = geometry.with_detector((11, 13))
    x = torch.randn(2, 1, *shape, generator=generator, dtype=dtype)
    y = torch.randn(2, 1, 11, 13, generator=generator, dtype=dtype)
    ax = project(x, spacing, geometry, backend=name)
    aty = backproject(y, shape, spacing, geometry, backend=name)
    assert aty.shape == x.shape and ax.dtype == aty.dtype == dtype
    assert float(ax.norm()) > 0
    gap = (ax.double() * y.double()).sum() - (x.double() * aty.double()).sum()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    assert abs(float(gap)) < tolerance * float(ax.double().norm() * y.double().norm())


@pytest.mark.parametrize(
    ("name", "geometry"),
    [
        *(pytest.param(name, ALIGNED["chest-pa"], id=f"{name}-aligned") for name in NAMES),
        *(pytest.param(name, OBLIQUE["random2"], id=f"{name}-oblique") for name in NAMES if name != "aligned"),
    ],
)
def test_projection_is_linear(name: BackendName, geometry: ConeBeam) -> None:
    generator = torch.Generator().manual_seed(4)
    a, b = torch.rand(2, 1, 1, 10, 12, 33 if name == "compiled" else 9, generator=generator)
    together = project(2.0 * a - 3.0 * b, 7.0, geometry, backend=name)
    apart = 2.0 * project(a, 7.0, geometry, backend=name) - 3.0 * project(b, 7.0, geometry, backend=name)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("key", ["chest-pa", "prost-lateral", "tilted", "random3"])
def test_gradients_in_volume_and_pose_match_differences(key: str) -> None:
    geometry = {**ALIGNED, **OBLIQUE}[key].with_detector((2, 3))
    generator = torch.Generator().manual_seed(5)
    volume = torch.rand(1, 1, 3, 4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    # An uneven pose keeps rays away from voxel centres, where bilinear sampling has its kinks.
    pose = torch.tensor([0.31, -0.23, 0.17, 0.41, -0.37, 0.29], dtype=torch.float64, requires_grad=True)
    spacing = (31.0, 21.0, 29.0)

    def film(volume: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
        return project(volume, spacing, geometry, pose=pose)

    assert torch.autograd.gradcheck(film, (volume, pose), eps=1e-6, atol=1e-5, rtol=1e-5)
    assert torch.autograd.gradgradcheck(film, (volume, pose), eps=1e-6, atol=1e-4, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("view", VIEWS)
def test_gradients_of_the_aligned_path_match_differences(view: str) -> None:
    geometry = _film("x2ct", view).with_detector((2, 3))
    plan = aligned_plan((3, 4, 3), (31.0, 21.0, 29.0), geometry)
    assert plan is not None
    generator = torch.Generator().manual_seed(6)
    volume = torch.rand(1, 3, 4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: project_aligned(v, plan), (volume,))
    assert torch.autograd.gradgradcheck(lambda v: project_aligned(v, plan) ** 2, (volume,), fast_mode=True)


# --- symmetries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [(1, 0, 0), (0, -2, 0), (0, 0, 2), (-1, 2, -2)])
@pytest.mark.parametrize(
    ("name", "geometry"),
    [(p, ALIGNED[k]) for k in ("chest-pa", "x2ct-right_lateral") for p in NAMES]
    + [(p, OBLIQUE[k]) for k in ("tilted", "random5") for p in NAMES if p != "aligned"],
)
def test_moving_the_volume_equals_moving_the_geometry(
    name: BackendName, geometry: ConeBeam, steps: tuple[int, int, int]
) -> None:
    spacing = (5.0, 3.0, 4.0)
    volume = np.zeros((16, 22, 18))
    volume[4:-4, 4:-4, 4:-4] = np.random.default_rng(8).uniform(0, 0.02, (8, 14, 10))
    d, h, w = np.multiply(steps, spacing)
    film = _project(name, volume, spacing, geometry)
    moved = geometry.moved(translation_mm=(float(w), float(h), -float(d)))
    other = _project(name, np.roll(volume, steps, axis=(0, 1, 2)), spacing, moved)
    assert film.max() > 0.3
    np.testing.assert_allclose(other, film, atol=_tolerance(name, exact=1e-12))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("view", VIEWS)
def test_films_are_hung_as_in_the_clinic(view: str, preset: str, name: BackendName) -> None:
    """The patient's right on the left of PA and AP films, the front on the left of both laterals, the head on top."""
    geometry = _film(preset, view, size=40)
    for axis in range(3):
        volume = np.zeros((20, 20, 20))
        index = [9, 9, 9]
        index[axis] = 3  # a marker toward the head, the front, or the patient's right
        volume[tuple(slice(i, i + 2) for i in index)] = 1.0
        row, col = _centre_of_mass(_project(name, volume, (4.0, 4.0, 4.0), geometry)) - 19.5
        across = 2 if view in ("pa", "ap") else 1
        if axis == 0:
            assert row < -5 and abs(col) < 0.5, "the head marker belongs on top"
        elif axis == across:
            assert col < -5 and abs(row) < 0.5, "the marker belongs on the left of the film"
        else:
            assert abs(row) < 0.5 and abs(col) < 0.5, "a marker along the central ray stays in the middle"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("preset", PRESETS)
def test_lateral_film_is_the_pa_film_of_the_turned_patient(preset: str, name: BackendName) -> None:
    volume = np.random.default_rng(9).uniform(0, 0.02, (12, 36, 36))
    turned = volume.transpose(0, 2, 1)[:, ::-1].copy()  # the patient's right side turned to the source behind
    lateral = _project(name, volume, (6.0, 2.2, 2.2), _film(preset, "lateral"))
    pa = _project(name, turned, (6.0, 2.2, 2.2), _film(preset, "pa"))
    np.testing.assert_allclose(lateral, pa, atol=_tolerance(name, exact=1e-12))


def test_ap_film_magnifies_the_front_and_pa_the_back() -> None:
    shape, spacing = (9, 21, 21), (4.0, 4.0, 4.0)
    volume = np.zeros(shape)
    volume[4, 1, 17] = 1.0  # a marker in front, to the left
    pa, ap = (
        _centre_of_mass(_project("auto", volume, spacing, _film("x2ct", view, size=120)))[1] for view in ("pa", "ap")
    )
    assert 60 < pa < ap - 2


# --- rays that miss, size --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["chest-pa", "x2ct-lateral", "tilted", "random6"])
def test_a_film_beside_the_volume_is_exactly_zero_with_finite_gradients(key: str) -> None:
    geometry = replace({**ALIGNED, **OBLIQUE}[key], detector_shift_mm=(900.0, 700.0))
    volume = torch.ones(1, 1, 8, 8, 8, requires_grad=True)
    pose = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    for film in (project(volume, 5.0, geometry), project(volume, 5.0, geometry, pose=pose)):
        assert (film == 0).all()
        film.sum().backward()
    assert volume.grad is not None and (volume.grad == 0).all()
    assert pose.grad is not None and bool(torch.isfinite(pose.grad).all())


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read with the POSIX resource module")
def test_a_large_oblique_film_fits_in_memory() -> None:
    import resource

    geometry = ConeBeam.preset("chest", size=256).moved(angle_deg=20.0, tilt_deg=5.0)
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    film = project(torch.full((1, 1, 128, 128, 128), 0.02), 3.0, geometry)[0, 0].double().numpy()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before
    assert grown < 800e6, f"peak memory grew by {grown / 1e6:.0f} MB"
    np.testing.assert_allclose(film, 0.02 * _chords_mm(geometry, (128,) * 3, (3.0,) * 3), atol=1e-4)
