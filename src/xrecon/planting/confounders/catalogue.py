"""Every kind of confounder by name, with one size from 0 to 1 and a place that follows from the seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from xrecon.anatomy.healthy_lungs import ChestAir
from xrecon.anatomy.morphology import Mask
from xrecon.planting.confounders import plant_bulla, plant_stomach_gas, plant_subcutaneous_emphysema
from xrecon.planting.confounders.after_surgery import plant_chest_tube, plant_lobectomy, plant_pneumonectomy
from xrecon.planting.confounders.chest_wall import plant_rib_emphysema
from xrecon.planting.confounders.lung_air import (
    plant_abscess,
    plant_azygos_lobe,
    plant_cavity,
    plant_dense_apex,
    plant_giant_bulla,
    plant_paraseptal_emphysema,
)
from xrecon.planting.confounders.mediastinum import (
    plant_hiatal_hernia,
    plant_oesophageal_air,
    plant_pneumomediastinum,
    plant_tracheal_diverticulum,
)
from xrecon.planting.confounders.outside import plant_arm, plant_skin_fold
from xrecon.planting.confounders.raised_diaphragm import plant_raised_colon, plant_raised_stomach
from xrecon.volume import Volume


class ConfounderPlanter(Protocol):
    """Draws a confounder into a healthy chest."""

    def __call__(self, ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
        """The changed CT and the mask [D, H, W] of the voxels that are at least half gas.

        Args:
            ct: HU, canonical orientation.
            chest: `find_lungs(ct)`.
            seed: of shape, place and noise.
            size: 0 (small) to 1 (large).
            side: "right" or "left", the patient's; kinds in the middle lean to it.

        Raises:
            InputError: it does not fit there.
        """


def _bulla(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    return plant_bulla(ct, side=side, volume_ml=10.0 * 20.0**size, seed=seed, chest=chest)


def _stomach(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    del side  # the stomach lies on the left
    return plant_stomach_gas(ct, volume_ml=50.0 * 6.0**size, wall_mm=2.0 + 2.0 * (seed % 3), seed=seed, chest=chest)


def _subcutaneous(ct: Volume, *, chest: ChestAir, seed: int, size: float, side: str) -> tuple[Volume, Mask]:
    return plant_subcutaneous_emphysema(ct, side=side, volume_ml=15.0 * 10.0**size, seed=seed, chest=chest)


CONFOUNDERS: Mapping[str, ConfounderPlanter] = {
    "raised_colon": plant_raised_colon,
    "raised_stomach": plant_raised_stomach,
    "stomach_gas": _stomach,
    "bulla": _bulla,
    "giant_bulla": plant_giant_bulla,
    "paraseptal_emphysema": plant_paraseptal_emphysema,
    "cavity": plant_cavity,
    "abscess": plant_abscess,
    "dense_apex": plant_dense_apex,
    "azygos_lobe": plant_azygos_lobe,
    "hiatal_hernia": plant_hiatal_hernia,
    "oesophageal_air": plant_oesophageal_air,
    "tracheal_diverticulum": plant_tracheal_diverticulum,
    "pneumomediastinum": plant_pneumomediastinum,
    "subcutaneous_emphysema": _subcutaneous,
    "rib_emphysema": plant_rib_emphysema,
    "chest_tube": plant_chest_tube,
    "lobectomy": plant_lobectomy,
    "pneumonectomy": plant_pneumonectomy,
    "skin_fold": plant_skin_fold,
    "arm": plant_arm,
}
"""Name -> what draws it."""
