"""The plan of the pneumothorax study: which pneumothorax is planted in which patient, and the controls beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xrecon.errors import InputError
from xrecon.planting.pattern import MECHANISMS

TRUE_CT, HEALTHY_CT, BLIND = "control: true CT", "control: healthy CT", "control: blind"
OTHER = "control: other patient, "
"""Names of the controls in tables; `OTHER` (films of another patient) is followed by the name of the model."""

SIZES = (0.05, 0.2, 0.5)
"""Default planted sizes: occupancy of the side."""

DEFAULT_MECHANISMS = MECHANISMS
"""Ways in which the plants are made, which take turns."""

_TURNS = (("right", "upright"), ("left", "supine"), ("left", "upright"), ("right", "supine"))
"""Side and pattern, which take turns over patients and sizes."""


@dataclass(frozen=True)
class Plant:
    """One pneumothorax to plant; or none, with `occupancy` 0 and side, pattern and mechanism "none"."""

    index: int
    occupancy: float
    side: str
    pattern: str
    seed: int
    mechanism: str = "flow"


def plan_plants(
    patients: int,
    *,
    sizes: Sequence[float] = SIZES,
    repeats: int = 1,
    mechanisms: Sequence[str] = DEFAULT_MECHANISMS,
    seed: int = 0,
) -> tuple[tuple[Plant, ...], ...]:
    """The plants of each patient: none first, then every size, `repeats` times; sides and patterns take turns.

    Over patients each size meets both sides and both patterns (upright: apex and side; supine: front and base), and
    over patients and repeats every mechanism of planting.

    Raises:
        InputError: a size outside 0.01..0.9, none at all, no repeats, or an unknown mechanism.
    """
    unknown = [name for name in mechanisms if name not in MECHANISMS]
    if unknown or not mechanisms:
        raise InputError(f"mechanisms must be some of {', '.join(MECHANISMS)}, got {', '.join(mechanisms) or 'none'}")
    if not sizes or any(not 0.01 <= size <= 0.9 for size in sizes) or repeats < 1:
        raise InputError(f"sizes must lie in 0.01..0.9 and repeats be at least 1, got {list(sizes)} and {repeats}")
    every = []
    for patient in range(patients):
        plants = [Plant(0, 0.0, "none", "none", seed, "none")]
        for number, size in enumerate(size for _ in range(repeats) for size in sizes):
            side, pattern = _TURNS[(patient + number + number // len(sizes)) % len(_TURNS)]
            turn = patient // 2 + number // len(sizes) + number % len(sizes)
            mechanism = mechanisms[turn % len(mechanisms)]
            plants.append(Plant(number + 1, size, side, pattern, seed + 1000 * patient + number, mechanism))
        every.append(tuple(plants))
    return tuple(every)
