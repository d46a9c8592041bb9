"""Settings of the networks: one class for the generator and all its ablations, one for the discriminators."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from xrecon.config import Config
from xrecon.geometry import VIEWS, View

HU_OFFSET = 1024.0
HU_SCALE = 2500.0
"""A network value is (HU + HU_OFFSET) / HU_SCALE, clipped to 0..1 (docs/explanation/published-system.md)."""

Activation = Literal["leaky_relu", "relu"]
LEVELS = 5
"""Halvings from a film to the base map; also the number of decoder stages and of rendering heads."""

Width = Annotated[int, Field(ge=1, le=4096)]
Layers = Annotated[int, Field(ge=1, le=64)]


class GeneratorConfig(Config):
    """The generator of X-Recon. Its ablations and X2CT-GAN differ in these fields only.

    Defaults are the published values (docs/explanation/published-system.md, "Generator").
    """

    size: int = Field(default=224, ge=64, le=1024, multiple_of=32)
    """Pixels per film edge and voxels per volume edge. At least 64: the deepest normalisation needs 2 x 2 pixels."""
    views: tuple[View, ...] = VIEWS
    """Films that are used. With one of them the fused volume is that branch's own; the other film is ignored."""
    dense_layers: tuple[Layers, Layers, Layers, Layers, Layers] = (4, 8, 16, 8, 4)
    """Layers of the five dense blocks of an encoder, fine to coarse."""
    stem_channels: int = Field(default=64, ge=2, le=4096)
    """Channels after the 7 x 7 stem."""
    growth: Width = 32
    """Channels that every dense layer adds."""
    bottleneck: Width = 4
    """The 1 x 1 convolution of a dense layer has this many times `growth` channels."""
    decoder_channels: tuple[Width, Width, Width, Width, Width, Width] = (16, 16, 32, 64, 128, 256)
    """Channels of the 3D levels, fine to coarse; the last is the base volume, the first five are also the linkers'."""
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0)
    """Probability in the base link, in training mode only."""
    mfusionren: bool = True
    """Multi-scale rendering heads (MFusionRen); off: a last trunk block and one 7^3 convolution, as in X2CT-GAN."""
    fusion_feedback: bool = True
    """View branches go on from the fused average at every stage; off: each from its own volume ("NoFuse")."""
    linkers: bool = True
    """Encoder maps are expanded along depth and joined to the view decoders; off: the decoders see the base only."""
    trunk_connection: bool = True
    """The trunk's blocks take the fused average at every stage; off: the trunk starts from the base average alone."""
    head_connection: bool = True
    """The rendering heads read the fused average beside the trunk; off: the trunk alone."""
    activation: Activation = "leaky_relu"
    """Output activation; leaky_relu has the slope 0.01."""

    @model_validator(mode="after")
    def _consistent(self) -> GeneratorConfig:
        if not self.views or len(set(self.views)) != len(self.views):
            raise ValueError("views must name pa, lateral or both, each once")
        if not self.mfusionren and not self.head_connection:
            raise ValueError("head_connection is a part of MFusionRen; leave it on where mfusionren is off")
        return self

    @property
    def base_size(self) -> int:
        """Voxels per edge of the base volume."""
        return int(self.size // 2**LEVELS)

    @property
    def uses_view_decoders(self) -> bool:
        """Whether the fused volume depends on the view decoders, or on the base link alone."""
        return self.trunk_connection or (self.mfusionren and self.head_connection)


class DiscriminatorConfig(Config):
    """The 3D patch discriminator and its variants (docs/explanation/published-system.md, "Discriminator")."""

    coordinates: bool = True
    """Three coordinate channels join the input of the first layer (CoordConv)."""
    base_channels: Width = 64
    """Channels of the first layer; they double up to eight times this."""
    layers: int = Field(default=3, ge=1, le=6)
    """Halvings of the volume."""
    same_padding: bool = False
    """Zero padding that keeps ceil(size / stride) voxels; off: 2 on every side, which adds one."""
    scales: int = Field(default=1, ge=1, le=4)
    """Discriminators on the volume and its successive halvings; more than one gives a tuple of score maps."""
