"""A chest made ready for planting gives the same plants, and is not taken for that of another CT."""

from __future__ import annotations

import numpy as np
import pytest

from xrecon.errors import InputError
from xrecon.phantoms.thorax import ThoraxParameters, thorax_phantom
from xrecon.planting.pattern import MECHANISMS
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.planting.prepared import PlantableChest, prepare_chest


@pytest.fixture(scope="module")
def prepared() -> PlantableChest:
    return prepare_chest(thorax_phantom(48, 8.0, parameters=ThoraxParameters(noise_hu=12.0)).volume)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("tension", [0.0, 0.6])
def test_a_prepared_chest_changes_no_value(prepared: PlantableChest, mechanism: str, tension: float) -> None:
    wishes = {"side": "left", "occupancy": 0.3, "seed": 2, "mechanism": mechanism, "tension": tension}
    cold, truth = plant_pneumothorax(prepared.ct, **wishes)  # type: ignore[arg-type]
    for _ in range(2):
        warm, same = plant_pneumothorax(prepared.ct, prepared=prepared, **wishes)  # type: ignore[arg-type]
        assert np.array_equal(warm.hu, cold.hu)
        assert np.array_equal(same.labels, truth.labels)
        assert np.array_equal(same.shares.air, truth.shares.air)
        assert same.to_dict() == truth.to_dict()


def test_what_was_prepared_is_kept(prepared: PlantableChest) -> None:
    assert prepared.right.wall is prepared.right.wall
    assert prepared.pushed("left", 0.0) is prepared.left
    assert prepared.pushed("left", 0.5) is not prepared.left


def test_the_prepared_chest_of_another_ct_is_refused(prepared: PlantableChest) -> None:
    other = thorax_phantom(48, 8.0).volume
    with pytest.raises(InputError, match="that of another CT"):
        plant_pneumothorax(other, prepared=prepared)
