"""The truth of a planted pneumothorax: a segmentation that also says what was asked for and what was reached."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest

from xrecon.errors import InputError
from xrecon.phantoms.thorax import thorax_phantom
from xrecon.planting.pattern import PATTERN_NAMES, PATTERNS
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.planting.truth import PlantingSettings, Truth
from xrecon.segmentation import Label, Segmentation


@pytest.fixture(scope="module")
def truth() -> Truth:
    ct = thorax_phantom(48, 8.0).volume
    return plant_pneumothorax(ct, side="left", occupancy=0.4, tension=0.5, effusion_ml=100.0, seed=3)[1]


def test_the_truth_is_a_segmentation_whose_labels_agree_with_what_it_says(truth: Truth) -> None:
    assert isinstance(truth, Segmentation)
    assert truth.volumes_ml.air == pytest.approx(truth.volume_ml(Label.AIR))
    assert truth.volumes_ml.right_lung == pytest.approx(truth.volume_ml(Label.RIGHT_LUNG))
    left_ml, air_ml = truth.volume_ml(Label.LEFT_LUNG), truth.volume_ml(Label.AIR)
    assert truth.occupancy.of("left") == pytest.approx(air_ml / (air_ml + left_ml))
    assert truth.occupancy.of("right") == 0.0
    assert truth.occupancy.whole_chest == pytest.approx(air_ml / np.count_nonzero(truth.labels) / truth.voxel_ml)
    assert truth.settings == PlantingSettings("left", 0.4, 3, tension=0.5, effusion_ml=100.0)
    assert truth.mediastinal_shift_mm == 10.0
    assert truth.volumes_ml.fluid == pytest.approx(100.0, rel=0.05)


def test_the_file_of_the_truth_keeps_its_keys(truth: Truth) -> None:
    values: dict[str, Any] = json.loads(json.dumps(truth.to_dict(), allow_nan=False))
    assert {key: sorted(part) if isinstance(part, dict) else None for key, part in values.items()} == {
        "kind": None,
        "notice": None,
        "asked": ["effusion_ml", "mechanism", "occupancy", "pattern", "pleura_mm", "seed", "side", "tension"],
        "volumes_ml": ["air", "fluid", "left_lung", "right_lung"],
        "occupancy": ["left", "right", "whole_chest"],
        "mediastinal_shift_mm": None,
        "max_depth_mm": None,
        "lung_mass_g": ["after", "before"],
        "noise": ["air_hu", "correlation", "sd_hu", "source"],
    }
    assert values["occupancy"]["left"] == truth.occupancy.left


def test_the_truth_cannot_be_changed(truth: Truth) -> None:
    for field in fields(truth):
        with pytest.raises(FrozenInstanceError):
            setattr(truth, field.name, None)


def test_settings_are_checked_where_they_are_made() -> None:
    with pytest.raises(InputError, match="side must be"):
        PlantingSettings(side="both")
    with pytest.raises(InputError, match="tension must be from 0 to 1, got 2"):
        PlantingSettings(tension=2.0)


def test_every_pattern_of_the_table_has_its_own_name() -> None:
    assert tuple(PATTERNS) == PATTERN_NAMES == tuple(pattern.name for pattern in PATTERNS.values())
    # The place in the table is part of the seed: moving an entry would change every planted CT.
    assert PATTERN_NAMES[:5] == ("supine", "upright", "lateral", "loculated", "apical")
