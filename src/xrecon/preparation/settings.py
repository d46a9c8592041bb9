"""The settings that decide the values of a prepared case: two runs with the same settings give the same files."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import Field

from xrecon.config import Config
from xrecon.geometry import FRAME_MM
from xrecon.projector.attenuation import FILM_ENERGY_KEV

REVISION = 2
"""Raised when the same settings give other values than before, so that half-finished data sets are not mixed."""


class PrepareSettings(Config):
    """Settings of `xrecon prepare` that change the content of a case."""

    size: int = Field(default=96, ge=16, le=512, description="Voxels and film pixels per edge.")
    frame_mm: float = Field(default=FRAME_MM, ge=200.0, le=600.0, description="Edge of the cube, mm.")
    geometry: Literal["chest", "x2ct"] = Field(default="chest", description="Preset of the films' distances.")
    energy_kev: float = Field(default=FILM_ENERGY_KEV, gt=10, le=200, description="Effective energy of the beam, keV.")
    lung_model: str = Field(default="auto", description="Model that finds the lungs (`xrecon segment --lung-model`).")
    centre: Literal["lungs", "volume"] = Field(
        default="lungs", description="What lies at the isocentre: the middle of both lungs, or of the file's grid."
    )
    films: Literal["simulate", "given"] = Field(
        default="simulate", description="given: the user's own PA and lateral film beside each CT."
    )
    keep_table: bool = Field(default=False, description="Leave table, covers and cables in CT and films.")
    allow_partial: bool = Field(
        default=False, description="Accept scans that miss a part of the lungs, with a warning; else they are refused."
    )

    def digest(self) -> str:
        """Short hexadecimal digest of all settings and of the code's revision."""
        return hashlib.sha256(f"{REVISION}:{self.model_dump_json()}".encode()).hexdigest()[:16]
