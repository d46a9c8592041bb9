"""Local contrast: what it removes, what it keeps, and that it is exact at the edges."""

from __future__ import annotations

import pytest
import torch
from scipy import ndimage

from xrecon.errors import InputError
from xrecon.films.local_contrast import local_contrast


def film(rows: int = 48, cols: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(2, rows, cols, generator=generator).cumsum(-1)


def test_gain_and_offset_of_a_film_do_not_matter() -> None:
    contrast = local_contrast(film(), pixel_mm=1.5)
    changed = local_contrast(3000.0 + 17.0 * film(), pixel_mm=1.5)
    assert contrast.shape == (2, 2, 48, 40)
    assert torch.allclose(contrast, changed, atol=2e-3)


def test_it_is_the_film_less_its_mean_over_its_deviation() -> None:
    # 11 pixels for the mean and 33 for the deviation; in the middle no window is cut.
    image = film(96, 96)[0]
    values = image.double().numpy()
    detail = values - ndimage.uniform_filter(values, 11, mode="reflect")
    deviation = ndimage.uniform_filter(detail**2, 33, mode="reflect") ** 0.5
    inside = (slice(30, 66), slice(30, 66))
    got = local_contrast(image, pixel_mm=1.5, scales_mm=((16.5, 49.5),))[0][inside]
    # The floor of a twentieth of the mean deviation makes the values a little smaller.
    ratio = got / torch.from_numpy(detail / deviation)[inside].float()
    assert 0.9 < float(ratio.min()) <= float(ratio.max()) < 1.0


def test_the_same_patient_at_another_resolution_looks_the_same() -> None:
    rows = torch.linspace(0, 12, 256)
    fine = (rows[:, None].sin() + (0.7 * rows[None, :]).cos())[None]
    coarse = torch.nn.functional.avg_pool2d(fine, 2)
    one_half = torch.nn.functional.avg_pool2d(local_contrast(fine, pixel_mm=1.5), 2)
    assert float((local_contrast(coarse, pixel_mm=3.0) - one_half).abs().mean()) < 0.05


def test_a_constant_film_has_no_contrast() -> None:
    assert not local_contrast(torch.full((32, 32), 0.4), pixel_mm=3.0).any()


def test_nothing_is_amplified_beside_the_body() -> None:
    image = film(128, 128)[0]
    generator = torch.Generator().manual_seed(0)
    image[:, 96:] = 1e-4 * torch.rand(128, 32, generator=generator)
    contrast = local_contrast(image, pixel_mm=6.0)
    assert float(contrast[0, :, 118:].abs().max()) < 0.1
    assert float(contrast.abs().max()) <= 6.0


@pytest.mark.parametrize(("shape", "pixel_mm"), [((1, 40), 1.5), ((40,), 1.5), ((40, 40), 0.0)])
def test_what_is_no_film_is_refused(shape: tuple[int, ...], pixel_mm: float) -> None:
    with pytest.raises(InputError):
        local_contrast(torch.zeros(shape), pixel_mm)
