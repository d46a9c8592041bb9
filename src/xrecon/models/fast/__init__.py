"""The generator's exact fast path: the same function and parameters, other steps.

`Generator.forward` takes it by itself where `applies`; `FastGenerator` is the path for training, torch.compile and
torch.export. The derivation and the measurements are in docs/networks.md.
"""

from __future__ import annotations

from xrecon.models.fast.eligibility import applies
from xrecon.models.fast.generator import FastGenerator, fast_forward, volume_without_gradients

__all__ = ["FastGenerator", "applies", "fast_forward", "volume_without_gradients"]
