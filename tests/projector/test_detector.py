"""The film physics: limits where it must equal the linear model, statistics of the noise, and each part by itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xrecon.errors import ConfigError, InputError
from xrecon.geometry import ConeBeam
from xrecon.projector.detector import (
    Exposure,
    detected,
    expose,
    gaussian_blur,
    grey_values,
    heel_profile,
    scattered,
    transmit,
    with_quantum_noise,
)
from xrecon.projector.physics import Display, FilmPhysics, Heel, Noise, Scatter, Scintillator, film_physics
from xrecon.projector.spectrum import Beam, Spectrum, attenuation_per_mm, tube_spectrum

VIEW = ConeBeam.preset("chest", "pa", size=64)
CSI = Scintillator()
CHEST_BEAM = tube_spectrum(Beam())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slab(water_mm: float, bone_mm: float = 0.0, *, size: int = 64) -> tuple[Tensor, Tensor]:
    return torch.full((size, size), water_mm), torch.full((size, size), bone_mm)


def chest_like() -> tuple[Tensor, Tensor]:
    """Open beam at the sides, lung, a dense middle with bone; 64 x 64."""
    water = torch.zeros(64, 64)
    water[:, 8:56] = 100.0
    water[:, 26:38] = 200.0
    bone = torch.zeros(64, 64)
    bone[:, 30:34] = 20.0
    return water, bone


def film(*overrides: str, lengths: tuple[Tensor, Tensor] | None = None, seed: int = 0) -> Exposure:
    water, bone = chest_like() if lengths is None else lengths
    return expose(water, bone, film_physics("linear", overrides), geometry=VIEW, generator=seeded(seed))


def test_with_everything_off_the_film_is_the_line_integral() -> None:
    water, bone = (length.double() for length in chest_like())
    exposure = expose(water, bone, FilmPhysics(), geometry=VIEW, energy_kev=60.0)
    expected = water * 0.02059 + bone * 0.3148 * 1.92 / 10
    torch.testing.assert_close(exposure.line_integral, expected, rtol=1e-9, atol=1e-12)
    assert exposure.grey is None and exposure.photons_per_mm2 is None and not exposure.scatter.any()


@settings(deadline=None, max_examples=20)
@given(kvp=st.floats(70.0, 150.0), bone_share=st.floats(0.0, 1.0))
def test_thin_layers_obey_the_linear_model(kvp: float, bone_share: float) -> None:
    spectrum = tube_spectrum(Beam(kvp=kvp))
    weight, _ = detected(spectrum, CSI)
    mu = [float((weight * attenuation_per_mm(m, spectrum.energy_kev)).sum() / weight.sum()) for m in ("water", "bone")]
    water, bone = torch.tensor([1e-3 * (1 - bone_share)]).double(), torch.tensor([1e-3 * bone_share]).double()
    signal, _ = transmit(water, bone, spectrum, scintillator=CSI)
    expected = mu[0] * float(water) + mu[1] * float(bone)
    assert -math.log(float(signal)) == pytest.approx(expected, rel=1e-3)


def test_the_beam_hardens_steadily() -> None:
    depth = torch.arange(0.0, 400.0, 10.0, dtype=torch.float64)
    signal, quanta = transmit(depth, torch.zeros_like(depth), CHEST_BEAM, scintillator=CSI)
    slope = (-signal.log()).diff() / 10.0  # effective attenuation of each further centimetre
    assert (slope.diff() < 0).all()
    assert (quanta.diff() < 0).all()
    assert float(quanta[0]) == pytest.approx(1.0)
    # A chest beam behind 20 cm of tissue acts like 50 to 65 keV: water 0.0227 to 0.0201 per mm.
    assert 0.0201 < float(-signal[20].log()) / 200.0 < 0.0227


def test_detective_quantum_efficiency_is_that_of_a_csi_detector() -> None:
    # Published DQE(0) of indirect CsI flat panels is 0.6 to 0.75 in the RQA 5 beam.
    first, second = detected(tube_spectrum(Beam(kvp=70.0, filtration_mm_al=23.5)), CSI)
    assert 0.6 < first.sum() ** 2 / second.sum() * Noise().swank_factor < 0.8


@pytest.mark.parametrize("water_mm", [0.0, 150.0])
def test_variance_of_the_quantum_noise(water_mm: float) -> None:
    noise = ("beam.kvp=120", "noise.exposure_at=open_beam", "noise.exposure=0.01", "noise.electronic_quanta=0")
    exposure = film(*noise, lengths=slab(water_mm))
    first, second = detected(CHEST_BEAM, CSI)
    passed = np.exp(-attenuation_per_mm("water", CHEST_BEAM.energy_kev) * water_mm)
    photons = 0.01 / CHEST_BEAM.kerma_ugy_mm2 * VIEW.pixel_mm[0] ** 2
    assert float(exposure.photons_per_mm2 or 0) * VIEW.pixel_mm[0] ** 2 == pytest.approx(photons, rel=1e-5)
    # Compound Poisson: relative variance = sum n E^2 / (sum n E)^2, over the Swank factor.
    expected = (second * passed).sum() / (first * passed).sum() ** 2 / photons / 0.9
    signal = torch.exp(-exposure.line_integral)
    assert float(signal.var() / signal.mean() ** 2) == pytest.approx(expected, rel=0.08)
    assert float(signal.mean()) == pytest.approx(float(exposure.primary.mean()), rel=4 * math.sqrt(expected) / 64)


def test_variance_of_the_electronic_noise() -> None:
    more = ("noise.exposure_at=open_beam", "noise.exposure_unit=photons_per_mm2", "noise.exposure=1e6")
    quiet, loud = (film(*more, f"noise.electronic_quanta={n}", lengths=slab(30.0)) for n in (0.0, 5000.0))
    added = torch.exp(-loud.line_integral).var() - torch.exp(-quiet.line_integral).var()
    first, second = detected(Spectrum.monochromatic(60.0), CSI)
    area = VIEW.pixel_mm[0] * VIEW.pixel_mm[1]
    expected = 5000.0 * math.sqrt(area) / 0.14 / (1e6 * area * first.sum() ** 2 / second.sum())
    assert math.sqrt(float(added)) == pytest.approx(expected, rel=0.04)


@settings(deadline=None, max_examples=10)
@given(signal=st.floats(0.01, 1.0), quanta=st.floats(20.0, 1e5), seed=st.integers(0, 99))
def test_quantum_noise_keeps_the_mean(signal: float, quanta: float, seed: int) -> None:
    noisy = with_quantum_noise(torch.full((100, 100), signal), torch.tensor(quanta), generator=seeded(seed))
    assert float(noisy.mean()) == pytest.approx(signal, abs=5 * math.sqrt(signal / quanta) / 100)
    assert float(noisy.var()) == pytest.approx(signal / quanta, rel=0.15)
    assert float(noisy.min()) >= 0


def test_exposure_control_doses_behind_the_patient() -> None:
    exposure = film("beam.kvp=120", "noise.exposure=2.5")
    assert exposure.photons_per_mm2 is not None
    centre = exposure.primary[16:48, 16:48].mean()
    kerma = float(exposure.photons_per_mm2 * centre) * CHEST_BEAM.kerma_ugy_mm2
    assert kerma == pytest.approx(2.5, rel=1e-5)
    with_grid = film("beam.kvp=120", "noise.exposure=2.5", "scatter.ratio=0")
    assert float(with_grid.photons_per_mm2) == pytest.approx(float(exposure.photons_per_mm2) / 0.7, rel=1e-5)


def test_noise_is_seeded_and_falls_with_dose() -> None:
    first, again, other = (film("noise.exposure=2.5", seed=seed).line_integral for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    plain = film().line_integral
    errors = [
        (film(f"noise.exposure={dose}", "noise.electronic_quanta=0").line_integral - plain).std()
        for dose in (0.025, 2.5)
    ]
    assert float(errors[0] / errors[1]) == pytest.approx(10.0, rel=0.2)


def test_blur_comes_between_quanta_and_read_out() -> None:
    base = ("noise.exposure=0.1", "blur.detector_fwhm_mm=14")
    quantum = film(*base, "noise.electronic_quanta=0", lengths=slab(100.0)).line_integral
    sharp = film(*base[:1], "noise.electronic_quanta=0", lengths=slab(100.0)).line_integral
    assert float(quantum.std()) < 0.5 * float(sharp.std())  # quanta: smoothed
    read_out = film("noise.exposure=1e4", "noise.electronic_quanta=1e6", base[1], lengths=slab(100.0)).line_integral
    unsmoothed = film("noise.exposure=1e4", "noise.electronic_quanta=1e6", lengths=slab(100.0)).line_integral
    assert float(read_out.std()) == pytest.approx(float(unsmoothed.std()), rel=0.1)


@pytest.mark.parametrize("fwhm_mm", [6.0, 20.0, 100.0])
def test_blur_has_the_asked_width(fwhm_mm: float) -> None:
    point = torch.zeros(255, 255, dtype=torch.float64)
    point[127, 127] = 1.0
    spread = gaussian_blur(point, fwhm_mm, pixel_mm=(2.0, 2.0))
    assert float(spread.sum()) == pytest.approx(1.0, rel=0.02)
    place = torch.arange(-127.0, 128.0, dtype=torch.float64) * 2.0
    for profile in (spread.sum(dim=0), spread.sum(dim=1)):
        sigma = math.sqrt(float((profile * place**2).sum() / profile.sum()))
        assert sigma * 2.3548 == pytest.approx(fwhm_mm, rel=0.06)
    flat = torch.full((3, 20, 30), 0.7)
    torch.testing.assert_close(gaussian_blur(flat, fwhm_mm, pixel_mm=(1.0, 2.0)), flat)


def test_the_coarse_grid_of_wide_blur_is_exact_enough() -> None:
    # An edge between two flats has the error function for its blurred profile.
    image = (torch.arange(203.0)[:, None] > 90).double() * torch.ones(1, 201, dtype=torch.float64)
    for sigma in (7.9, 8.1, 13.0):
        profile = gaussian_blur(image, sigma * 2.3548, pixel_mm=(1.0, 1.0))[20:183, 100]
        place = torch.arange(20.0, 183.0, dtype=torch.float64) - 90.5
        expected = 0.5 * (1 + torch.erf(place / (sigma * math.sqrt(2))))
        assert float((profile - expected).abs().max()) < 0.005


def test_focal_spot_blur_grows_with_magnification() -> None:
    def edge(geometry: ConeBeam) -> Tensor:
        water, bone = chest_like()
        physics = film_physics("linear", ["blur.detector_fwhm_mm=0", "blur.focal_spot_mm=10"])
        return expose(water, bone, physics, geometry=geometry).primary[32]

    plain = film().primary[32]
    close, far = (float((edge(ConeBeam.preset(name, "pa", size=64)) - plain).abs().max()) for name in ("chest", "x2ct"))
    assert far > close


def test_scatter_has_the_asked_ratio_and_none_in_an_empty_room() -> None:
    primary = film().primary
    behind = -primary.log() > 1.0
    for scatter in (Scatter(ratio=1.5, grid=False), Scatter(ratio=1.5, grid=True)):
        cloud = scattered(primary, scatter, pixel_mm=VIEW.pixel_mm)
        ratio = float(cloud[behind].sum() / primary[behind].sum())
        assert ratio == pytest.approx(1.5 if not scatter.grid else 1.5 * 0.15 / 0.70, rel=1e-4)
        assert ratio == pytest.approx(scatter.ratio_at_detector, rel=1e-4)
        share = cloud / primary
        assert share[32, 32] > 2 * share[32, 20]  # most of it, against the primary, behind the dense middle
        assert float(cloud.diff().abs().max()) < 0.2 * float(primary.diff().abs().max())  # smooth
    empty = scattered(torch.ones(64, 64), Scatter(), pixel_mm=VIEW.pixel_mm)
    assert not empty.any()


def test_scatter_takes_contrast_and_a_grid_gives_it_back() -> None:
    def contrast(*overrides: str) -> float:
        image = film(*overrides).line_integral
        return float(image[32, 32] - image[32, 20])

    assert contrast("scatter.grid=false") < contrast("scatter.grid=true") < contrast()


@pytest.mark.parametrize(("side", "dark"), [("top", (0, 5)), ("bottom", (9, 5)), ("left", (5, 0)), ("right", (5, 9))])
def test_heel_effect_is_darkest_at_the_anode(side: str, dark: tuple[int, int]) -> None:
    heel = Heel.model_validate({"ratio": 0.8, "anode_side": side})
    profile = heel_profile(heel, like=torch.zeros(10, 10)) * torch.ones(10, 10)
    assert float(profile[dark]) == pytest.approx(float(profile.min()))
    assert float(profile.mean()) == pytest.approx(1.0, abs=1e-6)
    # The ratio holds between the edges; pixel centres lie half a pixel inside.
    assert 0.8 < float(profile.min() / profile.max()) < 0.83


def test_flat_field_removes_the_heel_from_the_mean_but_not_from_the_noise() -> None:
    plain, shaded, corrected = (
        film(*o).line_integral for o in ((), ("heel.flat_field=false",), ("heel.flat_field=true",))
    )
    torch.testing.assert_close(corrected, plain, atol=1e-5, rtol=0)
    assert float(shaded[0, 20] - plain[0, 20]) == pytest.approx(-math.log(8 / 9), rel=0.05)
    noisy = film("heel.ratio=0.2", "noise.exposure=0.01", "noise.electronic_quanta=0", lengths=slab(100.0))
    assert float(noisy.line_integral[:8].std()) > 1.5 * float(noisy.line_integral[-8:].std())


def test_display_curves() -> None:
    values = torch.linspace(0.0, 4.0, 101).reshape(1, 101).repeat(3, 1)
    linear = grey_values(values, Display(window=(1.0, 3.0), curve="linear"))
    assert float(linear[0, 50]) == pytest.approx(0.5, abs=1e-4)
    assert linear.min() == 0 and linear.max() == 1
    sigmoid = grey_values(values, Display(window=(1.0, 3.0)))
    assert float(sigmoid[0, 75]) == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-4)  # x = centre + width / 2
    assert (sigmoid.diff(dim=-1) >= 0).all()  # dense is bright
    torch.testing.assert_close(grey_values(values, Display(window=(1.0, 3.0), invert=True)), 1 - sigmoid)


@pytest.mark.parametrize("bits", [8, 16])
def test_display_is_rounded_to_its_bits(bits: int) -> None:
    values = torch.rand(2, 40, 40, generator=seeded())
    codes = grey_values(values, Display.model_validate({"bits": bits})) * (2**bits - 1)
    torch.testing.assert_close(codes, codes.round(), atol=5e-3, rtol=0)
    assert codes.min() >= 0 and codes.max() <= 2**bits - 1
    if bits == 8:
        assert len(codes.round().unique()) <= 256


def test_the_automatic_window_suits_each_film() -> None:
    values = torch.rand(1, 40, 40, generator=seeded())
    grey = grey_values(torch.cat([values, 5.0 + 3.0 * values]), Display())
    torch.testing.assert_close(grey[0], grey[1], atol=1e-4, rtol=0)


def test_clinical_film_is_complete_and_stacks() -> None:
    water, bone = (length.repeat(2, 1, 1, 1) for length in chest_like())
    exposure = expose(water, bone, film_physics("clinical"), geometry=VIEW, generator=seeded())
    assert exposure.grey is not None and exposure.grey.shape == (2, 1, 64, 64)
    assert exposure.photons_per_mm2 is not None and exposure.photons_per_mm2.shape == (2, 1)
    assert not torch.equal(exposure.grey[0], exposure.grey[1])  # each has its own noise
    assert bool(exposure.line_integral.isfinite().all())
    assert float(exposure.grey[0, 0, 32, 32]) > float(exposure.grey[0, 0, 32, 16]) > float(exposure.grey[0, 0, 32, 2])


def test_gradients_flow_without_noise() -> None:
    water, bone = (length.double().requires_grad_() for length in chest_like())
    physics = film_physics("clinical", ["noise=null", "display=null"])
    image = expose(water, bone, physics, geometry=VIEW).line_integral
    grad_water, grad_bone = torch.autograd.grad(image[32, 20], (water, bone))
    assert 0.015 < float(grad_water[32, 20]) < 0.03  # about mu of water
    assert float(grad_bone[32, 20]) > float(grad_water[32, 20])


def test_dense_metal_and_long_paths_stay_finite() -> None:
    exposure = film("beam.kvp=70", "noise.exposure_at=open_beam", "noise.exposure=1", lengths=slab(600.0, 100.0))
    assert bool(exposure.line_integral.isfinite().all())
    assert float(exposure.line_integral.max()) < 16.2


def test_switching_parts() -> None:
    assert film_physics("linear") == FilmPhysics()
    clinical = film_physics("clinical", ["noise=null", "beam.kvp=110"])
    assert clinical.noise is None and clinical.beam is not None and clinical.beam.kvp == 110
    only = film_physics("linear", ["heel.ratio=0.9"])
    assert only.heel == Heel(ratio=0.9) and only.beam is None and only.noise is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("nois.exposure=1", "did you mean 'noise"),
        ("noise.exposur=1", "did you mean 'noise.exposure'"),
        ("beam.kvp=20", "beam.kvp = 20"),
        ("heel.anode_side=up", "heel.anode_side"),
        ("display.window=[3, 1]", "window must ascend"),
        ("display.window_percent=[99, 1]", "window_percent must ascend"),
        ("display.bits=12", "display.bits = 12"),
    ],
)
def test_wrong_settings_name_the_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        film_physics("clinical", [override])


def test_unknown_preset() -> None:
    with pytest.raises(ConfigError, match="choose one of linear, clinical"):
        film_physics("dental")


@pytest.mark.usefixtures("without_shape_checks")
def test_wrong_lengths() -> None:
    water, bone = chest_like()
    with pytest.raises(InputError, match=r"water_mm: .*\(64, 64\), got \(32, 64\)"):
        expose(water[:32], bone, FilmPhysics(), geometry=VIEW)
    with pytest.raises(InputError, match="must be alike"):
        expose(water, bone.double(), FilmPhysics(), geometry=VIEW)
    with pytest.raises(InputError, match="1 values are NaN"):
        expose(
            water, torch.where(torch.arange(4096).reshape(64, 64) == 7, torch.nan, bone), FilmPhysics(), geometry=VIEW
        )
    with pytest.raises(InputError, match="no generator"):
        expose(water, bone, film_physics("clinical"), geometry=VIEW)
    with pytest.raises(InputError, match="automatic exposure has no end"):
        expose(water + 1e4, bone, film_physics("clinical"), geometry=VIEW, generator=seeded())
