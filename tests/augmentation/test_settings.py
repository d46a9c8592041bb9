"""Settings of the augmentation: one table of steps, and ranges that are checked."""

from __future__ import annotations

import pytest

from xrecon.augmentation.settings import AugmentConfig, steps_of
from xrecon.augmentation.steps import ExposureStep, FilmStep, SpatialStep, TissueStep
from xrecon.errors import ConfigError


@pytest.mark.parametrize(
    "text", ["affine.scale=[1.2, 0.9]", "affine.scale=[0, 1]", "tone.bits=[12, 8]", "beam.probability=1.5", "bean.x=1"]
)
def test_bad_settings_are_refused(text: str) -> None:
    from xrecon.config import load_config

    with pytest.raises(ConfigError):
        load_config(AugmentConfig, None, [text])


def test_every_setting_but_that_of_own_films_is_a_step_of_the_table() -> None:
    steps = [step for kind in (SpatialStep, TissueStep, ExposureStep, FilmStep) for step in steps_of(kind)]
    assert all(callable(step.apply) for _, step in steps)  # and not a field of the same name
    names = [name for name, _ in steps]
    assert names == [name for name in AugmentConfig.model_fields if name != "own_films"]
    tissue = ["density", "pneumothorax", "bulla", "effusion", "nodules", "scanner"]
    film = ["exposure", "tone", "equalise", "collimation", "markers", "inversion"]
    assert names == ["affine", "elastic", *tissue, "beam", *film]


def test_the_keys_and_defaults_of_the_settings_are_fixed() -> None:
    assert AugmentConfig().model_dump()["affine"] == {
        "probability": 0.9,
        "rotation_deg": 5.0,
        "scale": (0.88, 1.10),
        "axis_scale": 0.06,
        "shift_mm": 12.0,
    }
    off = AugmentConfig.off().model_dump()
    assert {name: section["probability"] for name, section in off.items() if section["probability"]} == {"own_films": 1}
