"""HU to linear attenuation and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xrecon.errors import InputError
from xrecon.projector.attenuation import bone_hu, hu_to_mu, mu_bone_per_mm, mu_to_hu, mu_water_per_mm

# NIST XCOM tables (Hubbell and Seltzer): mu/rho of liquid water and of cortical bone (ICRU-44), cm^2/g.
NIST = {30.0: (0.3756, 1.331), 40.0: (0.2683, 0.6655), 50.0: (0.2269, 0.4242)}
NIST |= {60.0: (0.2059, 0.3148), 80.0: (0.1837, 0.2229), 100.0: (0.1707, 0.1855)}
energies = st.floats(30.0, 100.0)


@pytest.mark.parametrize("energy", NIST)
def test_tabulated_energies(energy: float) -> None:
    water, bone = NIST[energy]
    assert mu_water_per_mm(energy) == pytest.approx(water / 10)
    assert mu_bone_per_mm(energy) == pytest.approx(bone * 1.92 / 10)
    assert hu_to_mu(np.float32([0]), energy_kev=energy)[0] == pytest.approx(water / 10)
    assert hu_to_mu(np.float32([bone_hu()]), energy_kev=energy)[0] == pytest.approx(bone * 1.92 / 10, rel=1e-5)


def test_the_constants_of_the_design() -> None:
    assert [round(mu_water_per_mm(e), 4) for e in (40.0, 60.0, 80.0)] == [0.0268, 0.0206, 0.0184]
    assert 1400 < bone_hu() < 1800


@settings(deadline=None, max_examples=30)
@given(low=energies, high=energies)
def test_attenuation_falls_with_energy(low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert mu_water_per_mm(low) >= mu_water_per_mm(high)
    assert mu_bone_per_mm(low) >= mu_bone_per_mm(high) > mu_water_per_mm(high)


@pytest.mark.parametrize("energy", [29.0, 101.0, -1.0, float("nan")])
def test_energy_out_of_the_table(energy: float) -> None:
    with pytest.raises(InputError, match="energy_kev"):
        hu_to_mu(np.zeros(1, np.float32), energy_kev=energy)


@settings(deadline=None, max_examples=50)
@given(hu=st.lists(st.floats(-1000.0, 3000.0, width=32), min_size=1, max_size=30), energy=energies)
def test_round_trip(hu: list[float], energy: float) -> None:
    values = np.array(hu, dtype=np.float32)
    back = mu_to_hu(hu_to_mu(values, energy_kev=energy), energy_kev=energy)
    np.testing.assert_allclose(back, values, atol=2e-3)
    exact = torch.tensor(hu, dtype=torch.float64)
    back_exact = mu_to_hu(hu_to_mu(exact, energy_kev=energy), energy_kev=energy)
    torch.testing.assert_close(back_exact, exact, atol=1e-9, rtol=0)


@settings(deadline=None, max_examples=50)
@given(hu=st.lists(st.floats(-2000.0, 4000.0, width=32), min_size=1, max_size=30), energy=energies)
def test_numpy_and_torch_agree(hu: list[float], energy: float) -> None:
    values = np.array(hu, dtype=np.float32)
    mu = hu_to_mu(values, energy_kev=energy)
    assert mu.dtype == np.float32
    np.testing.assert_allclose(hu_to_mu(torch.from_numpy(values), energy_kev=energy).numpy(), mu, atol=1e-7)
    np.testing.assert_allclose(
        mu_to_hu(torch.from_numpy(mu), energy_kev=energy).numpy(), mu_to_hu(mu, energy_kev=energy), atol=1e-2
    )


@pytest.mark.parametrize("energy", NIST)
def test_strictly_increasing_from_air_to_bone(energy: float) -> None:
    mu = hu_to_mu(torch.arange(-1000.0, 3001.0, dtype=torch.float64), energy_kev=energy)
    assert bool((mu.diff() > 0).all())


@pytest.mark.parametrize("energy", NIST)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_air_is_exactly_zero_and_lung_is_not_clipped(energy: float, dtype: type) -> None:
    hu = np.array([-3024, -1024, -1000, -999, -800], dtype=dtype)
    for mu in (hu_to_mu(hu, energy_kev=energy), hu_to_mu(torch.from_numpy(hu), energy_kev=energy).numpy()):
        assert (mu[:3] == 0).all()
        assert mu[3] > 0
        assert mu[4] == pytest.approx(0.2 * mu_water_per_mm(energy), rel=1e-5)


def test_no_attenuation_is_air() -> None:
    for mu in (np.float32([-1.0, 0.0]), torch.tensor([-1.0, 0.0])):
        np.testing.assert_allclose(np.asarray(mu_to_hu(mu)), -1000.0)


def test_gradient_flows_through_lung_and_bone_but_not_through_air() -> None:
    hu = torch.tensor([-1500.0, -800.0, 700.0], requires_grad=True)
    hu_to_mu(hu).sum().backward()
    assert hu.grad is not None
    assert hu.grad[0] == 0 and hu.grad[1] == pytest.approx(2.059e-5, rel=1e-3) and hu.grad[2] > hu.grad[1]
