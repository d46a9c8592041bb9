"""Networks: the generators and discriminators, their weights on disk, and the published checkpoints.

Networks know no image files: films and volumes are tensors in the network range, (HU + 1024) / 2500 clipped to 0..1. In
evaluation mode and without gradients `net(pa, lateral)` takes the exact fast path by itself (docs/networks.md).
"""

from __future__ import annotations

from xrecon.models.checkpoint import ModelInformation, load_model, save_model
from xrecon.models.config import DiscriminatorConfig, GeneratorConfig
from xrecon.models.discriminator import Discriminator
from xrecon.models.generator import Generator
from xrecon.models.published import export_published, load_published
from xrecon.models.registry import create, create_discriminator

__all__ = [
    "Discriminator",
    "DiscriminatorConfig",
    "Generator",
    "GeneratorConfig",
    "ModelInformation",
    "create",
    "create_discriminator",
    "export_published",
    "load_model",
    "load_published",
    "save_model",
]
