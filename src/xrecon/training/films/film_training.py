"""Settings of the training of the film networks."""

from __future__ import annotations

from pydantic import Field

from xrecon.config import Config
from xrecon.models.film_network import FilmNetConfig


class FilmTraining(Config):
    """A run: network, data and schedule. The learning rate falls to 0 over `steps` (cosine)."""

    network: FilmNetConfig = Field(default=FilmNetConfig(), description="Film networks.")
    steps: int = Field(default=4000, ge=1, description="Optimiser steps in all.")
    batch: int = Field(default=8, ge=1, description="Film pairs per step.")
    learning_rate: float = Field(default=2e-3, gt=0, description="Largest learning rate of AdamW.")
    weight_decay: float = Field(default=1e-4, ge=0, description="Weight decay of AdamW.")
    warm_up_steps: int = Field(default=100, ge=1, description="Steps until the learning rate is reached.")
    ema_decay: float = Field(default=0.995, ge=0, lt=1, description="Of the moving average of the weights, per step.")
    healthy_share: float = Field(default=0.4, ge=0, le=1, description="Share of films without a pneumothorax.")
    occupancy_power: float = Field(
        default=0.4, ge=0, description="A sick film is picked in proportion to this power of its occupancy."
    )
    air_weight: float = Field(default=5.0, gt=0, description="Weight of pixels with air in the cross-entropy.")
    fold: int | None = Field(
        default=None, ge=0, description="Fold of cases that is left out; none: all are trained on."
    )
    folds: int = Field(default=4, ge=2, description="Number of folds; cases in the order of their names.")
    validation_pairs: int = Field(default=160, ge=4, description="Film pairs of the cases left out that are measured.")
    validate_every: int = Field(default=500, ge=1, description="Steps between measurements.")
    checkpoint_minutes: float = Field(default=10.0, gt=0, description="Minutes between checkpoints.")
    bfloat16: bool = Field(default=True, description="Convolutions in bfloat16.")
    seed: int = Field(default=0, ge=0, description="Of weights, films and order.")
