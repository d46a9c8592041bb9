"""Free air that film networks see, drawn into a reconstruction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xrecon.anatomy.healthy_lungs import find_lungs
from xrecon.errors import InputError
from xrecon.films.simulation import film_pair
from xrecon.inference.explicit_pneumothorax import draw_pneumothorax
from xrecon.inference.film_findings import FilmFindings
from xrecon.inference.paint.surface_fit import FitSettings
from xrecon.phantoms.thorax import Phantom
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.projector.operator import project
from xrecon.volume import Volume

SETTINGS = FitSettings(steps=50)


@pytest.fixture(scope="module")
def sick(phantom64: Phantom) -> tuple[Volume, np.ndarray, FilmFindings]:
    """A healthy phantom, the free air of its sick version, and what perfect networks would see on its films."""
    ct = phantom64.volume
    chest = find_lungs(ct)
    _, truth = plant_pneumothorax(ct, side="right", occupancy=0.3, pattern="lateral", chest=chest)
    air, lung = np.zeros((2, *ct.shape), dtype=np.float32), np.zeros((2, *ct.shape), dtype=np.float32)
    air[0][truth.shares.box], lung[0][truth.shares.box] = truth.shares.air, truth.shares.lung
    lung[1] = chest.left
    views = film_pair("chest", size=64)
    both = project(torch.from_numpy(np.concatenate([air, lung]))[:, None], ct.spacing_mm[0], views).numpy().clip(0)
    maps = np.ascontiguousarray(both.transpose(1, 0, 2, 3))
    sure = np.ones((2, 2, 64, 64), dtype=np.float32)
    findings = FilmFindings(("pa", "lateral"), views, sure, maps[:, :2], maps[:, 2:], None, "0" * 64)
    return ct, air[0], findings


def test_air_is_drawn_where_both_films_show_it(sick: tuple[Volume, np.ndarray, FilmFindings]) -> None:
    ct, air, findings = sick
    drawn = draw_pneumothorax(ct, findings, sides=["right"], settings=SETTINGS)
    assert list(drawn.sides) == ["right"] and drawn.volume.synthetic == ct.synthetic
    truth_ml = float(air.sum()) * ct.voxel_ml
    assert drawn.air_ml["right"] == pytest.approx(truth_ml, rel=0.15)
    inside, found = air >= 0.5, drawn.sides["right"].air >= 0.5
    assert 2 * (inside & found).sum() / (inside.sum() + found.sum()) > 0.75
    mostly = drawn.sides["right"].air > 0.85  # voxels of 6 mm: most hold a part of the wall or of the pleura
    assert mostly.any() and drawn.volume.hu[mostly].mean() < -870.0
    left = find_lungs(ct).left
    assert (
        np.mean(drawn.volume.hu[left] != ct.hu[left]) < 0.01
    )  # where the lungs touch, an edge of 6 mm voxels is shared


def test_nothing_is_drawn_on_a_side_that_was_not_asked_for(sick: tuple[Volume, np.ndarray, FilmFindings]) -> None:
    ct, _, findings = sick
    nothing = draw_pneumothorax(ct, findings, sides=[], settings=SETTINGS)
    assert nothing.volume is ct and nothing.sides == {} and nothing.air_ml == {}
    other = draw_pneumothorax(ct, findings, sides=["left"], settings=SETTINGS)
    assert other.sides == {} and np.array_equal(other.volume.hu, ct.hu)


def test_a_volume_without_lungs_stays_as_it_is(sick: tuple[Volume, np.ndarray, FilmFindings]) -> None:
    ct, _, findings = sick
    solid = Volume.centred(np.full(ct.shape, 40.0, dtype=np.float32), ct.spacing_mm)
    drawn = draw_pneumothorax(solid, findings, sides=["right"], settings=SETTINGS)
    assert drawn.volume is solid and "no pair of lungs" in drawn.notes[0]


def test_what_does_not_fit_together_is_refused(sick: tuple[Volume, np.ndarray, FilmFindings]) -> None:
    ct, _, findings = sick
    frontal = FilmFindings(
        ("pa",), findings.geometry[:1], *(maps[:1] for maps in (findings.air_probability, findings.air_mm)),
        findings.lung_mm[:1], None, "0" * 64,
    )  # fmt: skip
    with pytest.raises(InputError, match="both films"):
        draw_pneumothorax(ct, frontal, sides=["right"])
    with pytest.raises(InputError, match="cube of 384 mm"):
        draw_pneumothorax(Volume.centred(ct.hu, (5.0, 5.0, 5.0)), findings, sides=["right"])
