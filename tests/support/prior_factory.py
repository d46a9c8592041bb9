"""Five small artificial patients and the priors of four of them; computed once per session."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.frame import framed
from xrecon.phantoms.thorax import ThoraxParameters, thorax_phantom
from xrecon.priors.asset import PriorAsset
from xrecon.priors.build import BuildSettings, build_from_chests
from xrecon.priors.fitting import Level
from xrecon.priors.framing import FilmedChest, frame_with_films
from xrecon.volume import Volume

SETTINGS = BuildSettings(rounds=((7, 3e-4),), inverse_steps=7, draws_per_case=6, modes=20)
"""Far fewer steps than behind the shipped priors: seconds, not minutes."""
SHORT = (Level(12.0, 25),)
"""One coarse level instead of the two of a real fit."""

_HABITUS = (
    (240.0, 165.0, 200.0, 6.0, 0.9, 0.9),
    (285.0, 205.0, 230.0, 16.0, 1.15, 0.7),
    (255.0, 190.0, 212.0, 12.0, 1.05, 0.8),
    (272.0, 175.0, 222.0, 9.0, 0.95, 1.0),
    (282.0, 202.0, 231.0, 14.0, 1.1, 0.75),  # the last one is never among the priors' cases
)
_NAMES = ("chest_width_mm", "chest_depth_mm", "lung_height_mm", "fat_mm", "heart_scale", "inspiration")


@lru_cache(maxsize=1)
def patients() -> tuple[Volume, ...]:
    """CTs of 64^3 voxels of 6 mm, without a table; all fit into the 384 mm cube."""
    return tuple(
        thorax_phantom(
            64, 6.0, parameters=ThoraxParameters(**dict(zip(_NAMES, values, strict=True)), seed=seed, table=False)
        ).volume
        for seed, values in enumerate(_HABITUS)
    )


@lru_cache(maxsize=1)
def filmed_patients() -> tuple[FilmedChest, ...]:
    """The patients, framed, with their films."""
    return tuple(frame_with_films(f"patient {number}", ct) for number, ct in enumerate(patients()))


@lru_cache(maxsize=1)
def small_asset() -> PriorAsset:
    """Priors of all patients but the last."""
    return build_from_chests(filmed_patients()[:-1], settings=SETTINGS)


def rmse_hu(volume: Volume, truth: Volume) -> float:
    """Root mean square difference to a CT, HU from -1000 up, on the reconstruction's own grid."""
    difference = clipped(volume) - clipped(framed(truth, volume.shape[0]))
    return float(np.sqrt(np.square(difference).mean()))


def clipped(volume: Volume) -> NDArray[np.float32]:
    """HU with everything below vacuum at -1000."""
    return np.maximum(volume.hu, np.float32(-1000.0))
