"""Training cases of the lung network: train CTs, healthy and with planted air, on its coarse grid.

The truth is exact even where no segmentation succeeds: planting starts from the hemithorax before the collapse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xrecon.anatomy.healthy_lungs import ChestAir, find_lungs
from xrecon.errors import InputError
from xrecon.io.output.atomic import atomic_path
from xrecon.planting.confounders import plant_bulla, plant_stomach_gas, plant_subcutaneous_emphysema
from xrecon.planting.pattern import PATTERN_NAMES
from xrecon.planting.pneumothorax import plant_pneumothorax
from xrecon.segmentation import Label
from xrecon.volume import Volume, load_ct

PLANTING_MM = 3.0
"""Pitch at which air is planted: finer than the network's grid, and some five times faster than a CT's own."""
OCCUPANCIES = (0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.75, 0.85)
"""Of one side. The last three collapse a lung to where much of it holds no air."""
_TENSION_FROM = 0.35
_EFFUSION_ML = 500.0


@dataclass(frozen=True)
class Recipe:
    """One variant of a case: `kind` is "healthy", "bulla", "stomach", "subcutaneous" or "pneumothorax"."""

    kind: str
    side: str = "right"
    occupancy: float = 0.0
    pattern: str = "supine"
    tension: float = 0.0
    effusion_ml: float = 0.0
    seed: int = 0
    turn: int = 0

    @property
    def name(self) -> str:
        """Part of the file's name."""
        if self.kind != "pneumothorax":
            return self.kind
        again = f"_{self.turn}" if self.turn else ""
        return f"{self.side}_{round(100 * self.occupancy)}_{self.pattern}{again}"


@dataclass(frozen=True, eq=False)
class LungCase:
    """A coarse volume and its truth.

    Attributes:
        hu: [D, H, W] int16.
        sides: [D, H, W] uint8: 0 background, 1 right, 2 left hemithorax.
    """

    hu: NDArray[np.int16]
    sides: NDArray[np.uint8]


def recipes(index: int, *, seed: int = 0, rounds: int = 1) -> list[Recipe]:
    """The variants of the case number `index`: each confounder, and every occupancy with a random side and pattern.

    With more `rounds` every occupancy is planted as often, each time anew; the first round is the same whatever their
    number.
    """
    rng = np.random.default_rng([seed, 21, index])
    out = [Recipe("healthy"), Recipe("stomach", seed=index)]
    out += [Recipe("bulla", side=_side(rng), seed=index), Recipe("subcutaneous", side=_side(rng), seed=index)]
    for turn in range(rounds):
        out += _pneumothoraces(np.random.default_rng([seed, 21, index, turn]) if turn else rng, turn)
    return out


def _side(rng: np.random.Generator) -> str:
    return ("right", "left")[int(rng.integers(2))]


def _pneumothoraces(rng: np.random.Generator, turn: int) -> list[Recipe]:
    """One of every occupancy."""
    out = []
    for occupancy in OCCUPANCIES:
        pushed = occupancy >= _TENSION_FROM and rng.random() < 0.4
        wet = rng.random() < 0.35
        out.append(
            Recipe(
                "pneumothorax",
                side=_side(rng),
                occupancy=occupancy,
                pattern=PATTERN_NAMES[int(rng.integers(len(PATTERN_NAMES)))],
                tension=float(rng.uniform(0.2, 1.0)) if pushed else 0.0,
                effusion_ml=float(rng.uniform(50.0, _EFFUSION_ML)) if wet else 0.0,
                seed=int(rng.integers(1 << 16)),
                turn=turn,
            )
        )
    return out


def make_cases(
    cases: Sequence[tuple[str, Path]],
    folder: Path,
    *,
    pitch_mm: float,
    seed: int = 0,
    rounds: int = 1,
    progress: Callable[[str], None] = print,
) -> list[tuple[str, Path]]:
    """(case, file) of every variant of every CT (`recipes`); those in `folder` already are kept, the others made.

    A variant that does not fit into a chest (a bulla in a small lung, for example) is reported and left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    variants = []
    for index, (name, path) in enumerate(cases):
        files = {recipe: folder / f"{name}__{recipe.name}.npz" for recipe in recipes(index, seed=seed, rounds=rounds)}
        missing = [recipe for recipe, file in files.items() if not file.is_file()]
        skipped = folder / f"{name}__skipped{f'_{rounds}' if rounds > 1 else ''}.txt"
        if missing and not skipped.is_file():
            reasons = []
            for recipe, case in _variants(load_ct(path).canonical(), missing, pitch_mm=pitch_mm):
                if isinstance(case, str):
                    reasons.append(f"{recipe.name}: {case}")
                    continue
                with atomic_path(files[recipe], overwrite=True) as temporary, temporary.open("wb") as stream:
                    np.savez_compressed(stream, hu=case.hu, sides=case.sides)
            # So that the next run does not try them again.
            skipped.write_text("\n".join(reasons) + "\n", encoding="utf-8")
            skips = "".join(f"; no {reason}" for reason in reasons)
            progress(f"{name}: {len(missing) - len(reasons)} variants made{skips}")
        variants += [(name, file) for file in files.values() if file.is_file()]
    return variants


def read_case(file: Path) -> LungCase:
    """A variant from its file. Raises InputError if it is damaged."""
    try:
        with np.load(file) as stored:
            return LungCase(stored["hu"], stored["sides"])
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{file}: not a training case ({error}); delete it and run again") from error


def is_collapse(file: Path) -> bool:
    """Whether a variant, by its file's name (see `Recipe.name`), is a collapse of 60 % or more."""
    parts = file.stem.split("__")[1].split("_")
    return len(parts) > 1 and int(parts[1]) >= 60


def coarse_case(hu: Volume, sides: NDArray[np.uint8], pitch_mm: float) -> LungCase:
    """A volume and its sides [D, H, W] on the network's grid, each voxel with the class that fills most of it."""
    shape = tuple(max(1, round(n * s / pitch_mm)) for n, s in zip(hu.shape, hu.spacing_mm, strict=True))
    size = (shape[0], shape[1], shape[2])
    small = hu.resampled(size, pitch_mm)
    share = [
        Volume((sides == side).astype(np.float32), hu.affine).resampled(size, pitch_mm, fill_hu=0.0).hu
        for side in (1, 2)
    ]
    rest = 1.0 - share[0] - share[1]
    classes = np.where(share[0] >= share[1], np.uint8(1), np.uint8(2)) * (np.maximum(*share) > rest)
    return LungCase(small.hu.round().clip(-1100, 3000).astype(np.int16), classes.astype(np.uint8))


def _variants(ct: Volume, missing: Sequence[Recipe], *, pitch_mm: float) -> Iterator[tuple[Recipe, LungCase | str]]:
    """Each recipe with its case, or with the reason why it cannot be made."""
    chest = find_lungs(ct)
    healthy = np.where(chest.left, np.uint8(2), np.uint8(0))
    healthy[chest.right] = 1
    small, small_chest = _at_pitch(ct, chest, max(PLANTING_MM, max(ct.spacing_mm)))
    for recipe in missing:
        try:
            if recipe.kind == "pneumothorax":
                yield recipe, _pneumothorax(small, small_chest, recipe, pitch_mm)
            else:
                yield recipe, coarse_case(_confounded(ct, recipe), healthy, pitch_mm)
        except InputError as error:
            yield recipe, str(error)


def _pneumothorax(ct: Volume, chest: ChestAir, recipe: Recipe, pitch_mm: float) -> LungCase:
    sick, truth = plant_pneumothorax(
        ct,
        side=recipe.side,
        occupancy=recipe.occupancy,
        seed=recipe.seed,
        pattern=recipe.pattern,
        tension=recipe.tension,
        effusion_ml=recipe.effusion_ml,
        chest=chest,
    )
    return coarse_case(sick, np.where(truth.labels == Label.AIR, truth.air_side, truth.labels), pitch_mm)


def _confounded(ct: Volume, recipe: Recipe) -> Volume:
    if recipe.kind == "bulla":
        return plant_bulla(ct, side=recipe.side, volume_ml=80.0, seed=recipe.seed)[0]
    if recipe.kind == "stomach":
        return plant_stomach_gas(ct, seed=recipe.seed)[0]
    if recipe.kind == "subcutaneous":
        return plant_subcutaneous_emphysema(ct, side=recipe.side, seed=recipe.seed)[0]
    return ct


def _at_pitch(ct: Volume, chest: ChestAir, pitch_mm: float) -> tuple[Volume, ChestAir]:
    """The CT and its chest on isotropic voxels of `pitch_mm`; lungs are looked for once, at the CT's own pitch."""
    shape = tuple(max(1, round(n * s / pitch_mm)) for n, s in zip(ct.shape, ct.spacing_mm, strict=True))
    size = (shape[0], shape[1], shape[2])
    small = ct.resampled(size, pitch_mm)

    def mask(fine: NDArray[np.bool_]) -> NDArray[np.bool_]:
        share = Volume(fine.astype(np.float32), ct.affine).resampled(size, pitch_mm, fill_hu=0.0)
        return np.asarray(share.hu >= 0.5)

    carina = None
    if chest.carina is not None:
        world = ct.affine @ np.array([*chest.carina, 1.0])
        d, h, w, _ = np.linalg.solve(small.affine, world)
        carina = (float(d), float(h), float(w))
    right = mask(chest.right)
    left = mask(chest.left) & ~right
    return small, ChestAir(right, left, mask(chest.airway) & ~right & ~left, mask(chest.body), carina)
