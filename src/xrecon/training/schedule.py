"""Learning rate and averaged weights over a run: pure functions of the step, so that a resumed run repeats them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xrecon.training.run_config import Optimiser


def rate_factor(step: int, steps: int, settings: Optimiser) -> float:
    """Factor on the learning rate in step 0..steps-1.

    Constant, then falling linearly over the last `decay_share` of the run; the last step still has a rate above zero,
    where the published schedule runs its last epoch at zero (docs/explanation/published-system.md). Warm-up multiplies
    the beginning.
    """
    start = round(steps * (1 - settings.decay_share))
    factor = 1.0 if step < start else (steps - step) / max(1, steps - start)
    if step < settings.warm_up_steps:
        factor *= (step + 1) / settings.warm_up_steps
    return factor


class WeightEma:
    """Exponential moving average (EMA) of a network's weights.

    In the first steps it forgets faster, so that the random start does not linger.

    Args:
        network: whose weights are averaged; the average starts from them.
        decay: share of the old average that remains in each step.

    Attributes:
        values: the average by the names of the network's `state_dict`.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values: dict[str, Tensor] = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after step number `step` (0 for the first)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            average = self.values[name]
            if average.is_floating_point():
                average.lerp_(value.detach().to(average), 1 - decay)
            else:
                average.copy_(value)
