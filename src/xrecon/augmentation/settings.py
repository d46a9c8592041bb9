"""Settings of the online augmentation: the ordered table of all steps, each with its settings and its function."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import Field

from xrecon.augmentation.film.beam import BeamSettings, draw_beams
from xrecon.augmentation.film.collimation import CollimationSettings, collimate
from xrecon.augmentation.film.equalise import EqualiseSettings, equalise_contrast
from xrecon.augmentation.film.exposure import ExposureSettings, expose
from xrecon.augmentation.film.inversion import InversionSettings, invert
from xrecon.augmentation.film.markers import MarkerSettings, mark
from xrecon.augmentation.film.tone import ToneSettings, apply_tone_curve
from xrecon.augmentation.spatial.affine import AffineSettings, draw_affine
from xrecon.augmentation.spatial.elastic import ElasticSettings, draw_elastic
from xrecon.augmentation.steps import ExposureStep, FilmStep, SpatialStep, TissueStep
from xrecon.augmentation.tissue.bulla import BullaSettings, add_bullae
from xrecon.augmentation.tissue.density import DensitySettings, change_density
from xrecon.augmentation.tissue.effusion import EffusionSettings, add_effusion
from xrecon.augmentation.tissue.nodules import NoduleSettings, add_nodules
from xrecon.augmentation.tissue.planted_air import PneumothoraxSettings, plant
from xrecon.augmentation.tissue.scanner import ScannerSettings, scan
from xrecon.config import Config

StepT = TypeVar("StepT", SpatialStep, TissueStep, ExposureStep, FilmStep)


class OwnFilms(Config):
    """What to do with cases that hold a patient's own films instead of simulated ones."""

    probability: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Probability that such a case is used as it is (CT and geometry unchanged, film steps only); else "
        "its films are simulated from its changed CT.",
    )


class AugmentConfig(Config):
    """All steps, in the order in which they are applied; one entry is one step.

    The field's name is the key in YAML and the name of the step's stream of random numbers, its class holds the step's
    settings, and the step beside it holds the function. A new augmentation is a new file with both, and an entry here.
    The function needs another name than the field, which would hide it inside the class.
    """

    affine: Annotated[AffineSettings, SpatialStep(draw_affine)] = Field(
        default=AffineSettings(), description="Pose and size."
    )
    elastic: Annotated[ElasticSettings, SpatialStep(draw_elastic)] = Field(
        default=ElasticSettings(), description="Smooth deformation."
    )
    density: Annotated[DensitySettings, TissueStep(change_density)] = Field(
        default=DensitySettings(), description="Density of lung, fat and bone."
    )
    pneumothorax: Annotated[PneumothoraxSettings, TissueStep(plant)] = Field(
        default=PneumothoraxSettings(), description="Planted pneumothorax."
    )
    bulla: Annotated[BullaSettings, TissueStep(add_bullae)] = Field(default=BullaSettings(), description="Bullae.")
    effusion: Annotated[EffusionSettings, TissueStep(add_effusion)] = Field(
        default=EffusionSettings(), description="Pleural fluid."
    )
    nodules: Annotated[NoduleSettings, TissueStep(add_nodules)] = Field(
        default=NoduleSettings(), description="Nodules."
    )
    scanner: Annotated[ScannerSettings, TissueStep(scan)] = Field(
        default=ScannerSettings(), description="Kernel and noise of the CT."
    )
    beam: Annotated[BeamSettings, ExposureStep(draw_beams)] = Field(
        default=BeamSettings(), description="Geometry and energy of the films."
    )
    exposure: Annotated[ExposureSettings, FilmStep(expose, needs_line_integrals=True)] = Field(
        default=ExposureSettings(), description="Scatter and noise of the films."
    )
    tone: Annotated[ToneSettings, FilmStep(apply_tone_curve)] = Field(
        default=ToneSettings(), description="Look-up table of the films."
    )
    equalise: Annotated[EqualiseSettings, FilmStep(equalise_contrast)] = Field(
        default=EqualiseSettings(), description="Local contrast processing."
    )
    collimation: Annotated[CollimationSettings, FilmStep(collimate)] = Field(
        default=CollimationSettings(), description="Shutters."
    )
    markers: Annotated[MarkerSettings, FilmStep(mark)] = Field(
        default=MarkerSettings(), description="Letters and text."
    )
    inversion: Annotated[InversionSettings, FilmStep(invert)] = Field(
        default=InversionSettings(), description="Wrong polarity."
    )
    own_films: OwnFilms = Field(default=OwnFilms(), description="Cases with a patient's own films.")

    @classmethod
    def off(cls) -> AugmentConfig:
        """Nothing but projection: every step has probability 0, a patient's own films are kept."""
        values = {name: {"probability": 0.0} for name in cls.model_fields if name != "own_films"}
        return cls.model_validate({**values, "own_films": {"probability": 1.0}})


def steps_of(kind: type[StepT], table: type[AugmentConfig] = AugmentConfig) -> tuple[tuple[str, StepT], ...]:
    """(name, step) of all steps of one kind, in the order of the table.

    Args:
        kind: class of the steps.
        table: `AugmentConfig`, or a subclass of it with further entries.
    """
    return tuple(
        (name, entry)
        for name, field in table.model_fields.items()
        for entry in field.metadata
        if isinstance(entry, kind)
    )
