"""The patients that the lung network is not trained on, and how well it finds their hemithoraces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xrecon.anatomy.body import body_mask
from xrecon.models.lung_network import LungNet, predict
from xrecon.training.lungs.planted_cases import is_collapse, read_case
from xrecon.volume import Volume

HOLD_OUT_EVERY, HOLD_OUT_FIRST = 5, 2
"""Patients 3, 8, 13, ... of the list are held out."""


@dataclass(frozen=True)
class DiceSummary:
    """Dice over the sides of one kind of variant: mean, lowest, and their number."""

    mean: float
    min: float
    sides: int


@dataclass(frozen=True)
class LungMetrics:
    """What a training of the lung network ends with.

    Attributes:
        pitch_mm: voxel pitch at which the Dice was measured.
        dice: on the held-out patients, by kind of variant.
        steps: optimiser steps in all.
        training_volumes: how many volumes were trained on.
        held_out_patients: their names.
    """

    pitch_mm: float
    dice: dict[str, DiceSummary]
    steps: int
    training_volumes: int
    held_out_patients: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and for the model card."""
        return {
            **{f"held_out_dice_at_{self.pitch_mm:g}_mm_{kind}": asdict(dice) for kind, dice in self.dice.items()},
            "steps": self.steps,
            "training_volumes": self.training_volumes,
            "held_out_patients": list(self.held_out_patients),
        }


def held_out(names: Sequence[str]) -> tuple[str, ...]:
    """The patients of the list that are not trained on; none if there are fewer than four."""
    unique = list(dict.fromkeys(names))
    return tuple(unique[HOLD_OUT_FIRST::HOLD_OUT_EVERY]) if len(unique) >= 4 else ()


def held_out_dice(network: LungNet, cases: Sequence[tuple[str, Path]]) -> dict[str, DiceSummary]:
    """Dice of right and left hemithorax on the coarse grid, inside the body, by kind of variant.

    PTX-Seg uses the network inside the body only: its answer in the air of the room does not count.
    """
    pitch = network.config.pitch_mm
    values: dict[str, list[float]] = {}
    for _, file in cases:
        case = read_case(file)
        hu = case.hu.astype(np.float32)
        guess = predict(network.eval(), hu, (pitch, pitch, pitch)).fine().argmax(axis=0)
        guess[~body_mask(Volume.centred(hu, (pitch, pitch, pitch)))] = 0
        kind = file.stem.split("__")[1]
        if "_" in kind:
            kind = "collapse_from_60" if is_collapse(file) else "pneumothorax_below_60"
        for side in (1, 2):
            a, b = guess == side, case.sides == side
            values.setdefault(kind, []).append(2.0 * float((a & b).sum()) / max(1.0, float(a.sum() + b.sum())))
    return {
        kind: DiceSummary(round(float(np.mean(dice)), 4), round(min(dice), 4), len(dice))
        for kind, dice in values.items()
    }
