"""The settings of a training run, one YAML file. Units and sources stand with the fields."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from xrecon.augmentation.settings import AugmentConfig
from xrecon.config import Config

GanForm = Literal["lsgan", "hinge", "non-saturating"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


class Network(Config):
    """A network of `xrecon.models` by name, and settings that differ from it."""

    name: str = Field(description="As in `create` and `create_discriminator`.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Further fields of the network's settings.")


class Losses(Config):
    """Weights of the generator's losses; 0 leaves a term out.

    Defaults: the published ones (X-Recon, arXiv 2407.15356; docs/explanation/published-system.md).
    """

    gan: GanForm = Field(default="lsgan", description="Form of the adversarial loss.")
    adversarial: float = Field(default=1.0, ge=0, description="Adversarial loss; 0 trains without a discriminator.")
    voxel: float = Field(default=10.0, ge=0, description="Mean squared error of network values, where scanned.")
    voxel_form: Literal["squared", "absolute"] = Field(default="squared", description="Norm of the voxel error.")
    lung_weight: float = Field(default=1.0, gt=0, description="Factor on the voxel error inside the hemithoraces.")
    air_weight: float = Field(default=1.0, gt=0, description="Factor on the voxel error in free pleural air.")
    projection: float = Field(default=0.1, ge=0, description="ProST films from three sides, L1 of unit samples.")
    projection_compatible: bool = Field(default=False, description="The published projector with its slips.")
    projection_pixels: int = Field(default=128, ge=8, le=1024, description="Pixels per edge of the ProST detector.")
    random_pose: bool = Field(default=True, description="One pose offset per step: N(0, 10 degrees), N(0, 8 mm).")
    axis_means: float = Field(default=0.0, ge=0, description="L1 of the means along three axes (X2CT-GAN: 10).")
    feature_matching: float = Field(default=0.0, ge=0, description="L1 of the discriminator's inner maps.")
    ssim: float = Field(default=0.0, ge=0, description="1 - SSIM in 3D, window of 7 voxels.")
    gradient: float = Field(default=0.0, ge=0, description="L1 of finite differences at three scales.")
    hemithorax: float = Field(default=0.0, ge=0, description="1 - Dice of soft lung (HU below -400) and the sides.")
    air: float = Field(default=0.0, ge=0, description="1 - Dice of soft air (HU below -930) and free pleural air.")

    @model_validator(mode="after")
    def _some(self) -> Losses:
        if self.feature_matching and not self.adversarial:
            raise ValueError("feature_matching needs the discriminator: give adversarial a weight above 0")
        names = ("adversarial", "voxel", "projection", "axis_means", "ssim", "gradient", "hemithorax", "air")
        if not any(getattr(self, name) for name in names):
            raise ValueError("every weight is 0: there is nothing to learn from")
        return self


class Optimiser(Config):
    """Adam for both networks, and the schedule of its learning rate.

    Defaults: the published ones (X-Recon, arXiv 2407.15356; docs/explanation/published-system.md).
    """

    learning_rate: float = Field(default=5e-5, gt=0, description="Of the generator.")
    discriminator_rate: float | None = Field(default=None, gt=0, description="None: the generator's.")
    betas: tuple[float, float] = Field(default=(0.5, 0.99), description="Of Adam.")
    warm_up_steps: int = Field(default=0, ge=0, description="Steps over which the rate rises linearly.")
    decay_share: float = Field(default=0.5, ge=0, le=1, description="Last part of the run, where it falls linearly.")
    clip_norm: float | None = Field(default=None, gt=0, description="Largest gradient norm; None: no limit.")
    accumulate: int = Field(default=1, ge=1, description="Batches per step.")
    ema: float = Field(default=0.0, ge=0, lt=1, description="Decay of the weights' moving average per step; 0: none.")


class Data(Config):
    """Which cases are learned from, and how they are loaded."""

    path: str = Field(description="A data set of `xrecon prepare`.")
    fold: int | None = Field(default=None, ge=0, description="Hold this fold of the train cases out for validation.")
    batch_size: int = Field(default=1, ge=1, description="Cases per process and batch.")
    workers: int = Field(default=1, ge=0, description="Processes that prepare samples; 0: the training process itself.")
    augment: AugmentConfig = Field(default_factory=AugmentConfig, description="Online augmentation.")


class Run(Config):
    """Length of the run, machine, validation and checkpoints. One of `steps` and `epochs` is set."""

    steps: int | None = Field(default=None, ge=1, description="Optimiser steps in all.")
    epochs: int | None = Field(default=None, ge=1, description="Passes over the train cases in all.")
    minutes: float | None = Field(default=None, gt=0, description="Stop (resumably) after this time.")
    accelerator: str = Field(default="auto", description="cpu, cuda, mps or auto.")
    devices: int | Literal["auto"] = Field(default=1, description="Processes or GPUs per node.")
    nodes: int = Field(default=1, ge=1, description="Machines.")
    strategy: str = Field(default="auto", description="auto, ddp or fsdp.")
    precision: Precision = Field(default="32-true", description="Arithmetic; weights stay in float32.")
    checkpointing: bool = Field(default=False, description="Compute inner volumes again in the backward pass.")
    channels_last: bool = Field(default=False, description="Memory order of the discriminator's weights.")
    threads: int | None = Field(default=None, ge=1, description="Threads of torch on a CPU; None: its own choice.")
    validate_every: int = Field(default=500, ge=1, description="Steps between validations with images.")
    checkpoint_every: int = Field(default=500, ge=1, description="Steps between checkpoints.")
    checkpoint_minutes: float = Field(default=10.0, gt=0, description="And at most this time between them.")
    keep_last: int = Field(default=2, ge=1, description="Checkpoints to keep beside the best.")
    gradient_norms_every: int = Field(default=0, ge=0, description="Steps between gradient norms per loss; 0: never.")
    tensorboard: bool = Field(default=True, description="Also write TensorBoard events, where it is installed.")

    @model_validator(mode="after")
    def _length(self) -> Run:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("set exactly one of steps and epochs")
        return self


class Training(Config):
    """One training run."""

    name: str = Field(min_length=1, max_length=100, description="What people will call the model.")
    seed: int = Field(default=0, ge=0, description="Of the weights, the samples, dropout and poses.")
    generator: Network = Field(default=Network(name="xrecon"), description="The network that is trained.")
    discriminator: Network = Field(default=Network(name="coordconv"), description="Tells real CTs from made ones.")
    losses: Losses = Field(default_factory=Losses, description="What the generator learns from.")
    optimiser: Optimiser = Field(default_factory=Optimiser, description="How both networks learn.")
    data: Data = Field(description="The cases.")
    run: Run = Field(description="Length, machine, validation and checkpoints.")
