"""Tube spectra and attenuation tables against published values, and the split of HU into two materials."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xrecon.config import load_config
from xrecon.errors import ConfigError, InputError, MissingPartError
from xrecon.projector.attenuation import bone_hu, hu_to_mu, mu_bone_per_mm, mu_water_per_mm
from xrecon.projector.detector import transmit
from xrecon.projector.physics import Scintillator
from xrecon.projector.spectrum import MATERIALS, Beam, Spectrum, attenuation_per_mm, material_fractions, tube_spectrum


def test_the_constants_of_the_design() -> None:
    assert [round(float(attenuation_per_mm("water", e)), 4) for e in (40.0, 60.0, 80.0)] == [0.0268, 0.0206, 0.0184]


@pytest.mark.parametrize("energy", [30.0, 37.5, 50.0, 60.0, 71.0, 100.0])
def test_the_linear_model_uses_the_same_tables(energy: float) -> None:
    assert float(attenuation_per_mm("water", energy)) == pytest.approx(mu_water_per_mm(energy), rel=1e-12)
    assert float(attenuation_per_mm("bone", energy)) == pytest.approx(mu_bone_per_mm(energy), rel=1e-12)


def test_absorption_edges() -> None:
    below, between, above = attenuation_per_mm("caesium iodide", np.array([33.0, 33.5, 36.5])) / 0.451
    assert 6.9 < below < 7.1  # cm^2/g just below the K edge of iodine at 33.17 keV
    assert 20.0 < between < 21.3
    assert 28.5 < above < 30.3  # above that of caesium at 35.98 keV
    tungsten = attenuation_per_mm("tungsten", np.array([69.0, 70.0]))
    assert tungsten[1] > 4 * tungsten[0]


@pytest.mark.parametrize("material", MATERIALS)
def test_light_materials_weaken_hard_rays_less(material: str) -> None:
    mu = attenuation_per_mm(material, np.arange(71.0, 150.0))
    assert (np.diff(mu) < 0).all()


@pytest.mark.parametrize(
    ("kvp", "published_mm_al"), [(70.0, 2.6), (80.0, 3.0), (90.0, 3.5), (100.0, 4.0), (120.0, 5.0), (150.0, 6.6)]
)
def test_half_value_layers_of_the_standard_beams(kvp: float, published_mm_al: float) -> None:
    # IEC 61267 RQR qualities are defined by their half-value layer; a total filter of 2.5 to 4.5 mm Al reaches it.
    thin, thick = (tube_spectrum(Beam(kvp=kvp, filtration_mm_al=f)).half_value_layer_mm() for f in (2.5, 4.5))
    assert thin < published_mm_al < thick


def test_half_value_layer_of_a_chest_beam() -> None:
    spectrum = tube_spectrum(Beam(kvp=120.0, filtration_mm_al=3.0))
    assert 4.3 < spectrum.half_value_layer_mm() < 5.0
    assert 53.0 < spectrum.mean_energy_kev < 58.0


@pytest.mark.parametrize(
    ("kvp", "added_mm_al", "hvl", "photons"), [(70.0, 21.0, 6.8, 29_080.0), (120.0, 40.0, 11.5, 30_580.0)]
)
def test_hardened_standard_beams(kvp: float, added_mm_al: float, hvl: float, photons: float) -> None:
    # RQA 5 and RQA 9 (IEC 61267): half-value layer 6.8 and 11.5 mm Al; photons/mm^2/uGy computed with SpekPy 2.5.4.
    spectrum = tube_spectrum(Beam(kvp=kvp, filtration_mm_al=2.5)).filtered("aluminium", added_mm_al)
    assert spectrum.half_value_layer_mm() == pytest.approx(hvl, rel=0.06)
    assert 1.0 / spectrum.kerma_ugy_mm2 == pytest.approx(photons, rel=0.015)


def test_air_kerma_of_one_energy() -> None:
    # 60 keV: 60 keV x 0.03041 cm^2/g = 2.92e-11 Gy mm^2 per photon.
    assert Spectrum.monochromatic(60.0).kerma_ugy_mm2 == pytest.approx(
        60 * 1.602176634e-16 * 3.041 * 1e3 * 1e6, rel=1e-9
    )


def test_half_value_layer_of_one_energy() -> None:
    mu = float(attenuation_per_mm("aluminium", 60.0))
    assert Spectrum.monochromatic(60.0).half_value_layer_mm() == pytest.approx(np.log(2) / mu, rel=1e-9)


@settings(deadline=None, max_examples=15)
@given(kvp=st.floats(50.0, 140.0), filtration=st.floats(0.5, 20.0), more=st.floats(0.5, 20.0))
def test_more_voltage_and_more_filter_harden(kvp: float, filtration: float, more: float) -> None:
    beam = tube_spectrum(Beam(kvp=kvp, filtration_mm_al=filtration))
    harder = [
        tube_spectrum(Beam(kvp=kvp + 10.0, filtration_mm_al=filtration)),
        tube_spectrum(Beam(kvp=kvp, filtration_mm_al=filtration + more)),
        beam.filtered("water", 10.0 * more),
    ]
    for spectrum in harder:
        assert spectrum.mean_energy_kev > beam.mean_energy_kev
        assert spectrum.half_value_layer_mm() > beam.half_value_layer_mm()
    assert beam.fluence.sum() == pytest.approx(1.0)
    assert beam.energy_kev[-1] < kvp


def test_filters_add_up() -> None:
    at_once = tube_spectrum(Beam(filtration_mm_al=5.0))
    in_two = tube_spectrum(Beam(filtration_mm_al=3.0)).filtered("aluminium", 2.0)
    np.testing.assert_allclose(in_two.fluence, at_once.fluence, rtol=1e-9)


def test_k_lines_appear_above_the_edge() -> None:
    def peak(kvp: float) -> float:
        fluence = tube_spectrum(Beam(kvp=kvp)).fluence
        return float(fluence[49] / (0.5 * (fluence[48] + fluence[50])))  # the bin of 59.5 keV and its neighbours'

    assert peak(69.0) < 1.01
    assert 1.5 < peak(120.0) < 6.0


def test_a_steeper_anode_absorbs_more() -> None:
    assert (
        tube_spectrum(Beam(anode_angle_deg=8.0)).half_value_layer_mm()
        > tube_spectrum(Beam(anode_angle_deg=16.0)).half_value_layer_mm()
    )


def test_against_spekpy() -> None:
    pytest.importorskip("spekpy", reason="optional source of spectra, not installed")
    for kvp in (80.0, 120.0, 150.0):
        builtin, theirs = (tube_spectrum(Beam(kvp=kvp, source=source)) for source in ("builtin", "spekpy"))
        assert builtin.half_value_layer_mm() == pytest.approx(theirs.half_value_layer_mm(), rel=0.03)
        assert builtin.mean_energy_kev == pytest.approx(theirs.mean_energy_kev, rel=0.02)


def test_spekpy_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "spekpy", None)
    with pytest.raises(MissingPartError, match="pip install spekpy"):
        tube_spectrum(Beam(source="spekpy"))


@settings(deadline=None, max_examples=30)
@given(hu=st.lists(st.floats(-1500.0, 3000.0), min_size=1, max_size=20), energy=st.floats(30.0, 100.0))
def test_the_materials_together_are_the_linear_model(hu: list[float], energy: float) -> None:
    values = torch.tensor(hu, dtype=torch.float64)
    water, bone = material_fractions(values)
    mu = water * float(attenuation_per_mm("water", energy)) + bone * float(attenuation_per_mm("bone", energy))
    torch.testing.assert_close(mu, hu_to_mu(values, energy_kev=energy), rtol=1e-9, atol=1e-12)


def test_pure_materials() -> None:
    water, bone = material_fractions(torch.tensor([-2000.0, -1000.0, -800.0, 0.0, bone_hu()], dtype=torch.float64))
    torch.testing.assert_close(water, torch.tensor([0.0, 0.0, 0.2, 1.0, 0.0], dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(bone, torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64))


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("energy", "fluence", "message"),
    [
        ([60.0], [1.0, 2.0], "one length"),
        ([60.0, 50.0], [1.0, 1.0], "ascend"),
        ([5.0, 60.0], [1.0, 1.0], "10..150 keV"),
        ([60.0], [0.0], "not all zero"),
        ([50.0, 60.0], [1.0, -1.0], "not negative"),
        ([60.0], [float("nan")], "finite"),
    ],
)
def test_impossible_spectra(energy: list[float], fluence: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Spectrum(np.array(energy), np.array(fluence))


def test_wrong_requests() -> None:
    with pytest.raises(InputError, match="choose one of water, bone"):
        attenuation_per_mm("lead", 60.0)
    with pytest.raises(InputError, match=r"energy_kev must lie in 10\.\.150 keV"):
        attenuation_per_mm("water", 200.0)
    with pytest.raises(InputError, match="thickness_mm of water"):
        Spectrum.monochromatic(60.0).filtered("water", -1.0)
    with pytest.raises(ConfigError, match="kvp = 300"):
        load_config(Beam, None, ["kvp=300"])


@pytest.mark.parametrize("kvp", [80.0, 111.0, 135.0])
def test_broad_bins_give_nearly_the_same_film(kvp: float) -> None:
    water = torch.linspace(20.0, 450.0, 44)[:, None].expand(-1, 3)
    bone = torch.tensor([0.0, 20.0, 60.0]).expand(44, -1)
    fine, broad = (tube_spectrum(Beam(kvp=kvp, step_kev=step)) for step in (1, 8))
    assert broad.energy_kev.size <= fine.energy_kev.size / 7
    assert broad.mean_energy_kev == pytest.approx(fine.mean_energy_kev, rel=1e-6)
    exact, near = (-transmit(water, bone, beam, scintillator=Scintillator())[0].log() for beam in (fine, broad))
    assert float(((near - exact).abs() / exact).max()) < 0.006
