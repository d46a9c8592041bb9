"""What a film library is made from and how; a library of other settings is never continued."""

from __future__ import annotations

from pydantic import Field

from xrecon.config import Config


class FilmLibrarySettings(Config):
    """Content of a film library."""

    size: int = Field(default=512, ge=32, le=1024, description="Pixels per edge of the films, over 384 mm.")
    plants: int = Field(default=2, ge=0, le=8, description="Samples with a pneumothorax per anatomy.")
    healthy: int = Field(default=2, ge=1, le=8, description="Samples without; all but the first hold confounders.")
    confounder_share: float = Field(
        default=0.25, ge=0, le=1, description="Share of the samples with a pneumothorax that hold confounders, too."
    )
    seed: int = Field(default=0, ge=0, description="Of every choice.")
