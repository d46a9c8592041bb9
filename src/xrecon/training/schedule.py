"""How rates and averaged weights change over a run: pure functions of the step, so that a resumed run repeats them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xrecon.training.config import Optimiser


def rate_factor(step: int, steps: int, settings: Optimiser) -> float:
    """What the learning rate of step 0..steps-1 is multiplied with.

    Constant, then falling linearly over the last `decay_share` of the run; the last step still has a rate above zero
    (the published code meant to reach zero and did not, SPEC 2.6). Warm-up multiplies the beginning.
    """
    start = round(steps * (1 - settings.decay_share))
    factor = 1.0 if step < start else (steps - step) / max(1, steps - start)
    if step < settings.warm_up_steps:
        factor *= (step + 1) / settings.warm_up_steps
    return factor


class WeightMean:
    """Exponential mean of a network's weights. In its first steps it forgets faster, so that the start does not linger.

    Args:
        network: whose weights are averaged; the mean starts from them.
        decay: share of the old mean that remains in each step.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after step number `step` (0 for the first)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            mean = self.values[name]
            if mean.is_floating_point():
                mean.lerp_(value.detach().to(mean), 1 - decay)
            else:
                mean.copy_(value)

    def state(self) -> dict[str, Tensor]:
        """The mean, by name."""
        return self.values
