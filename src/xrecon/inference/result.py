"""What a reconstruction hands back: the CT and everything needed to judge it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xrecon.radiograph import Radiograph
from xrecon.volume import Volume

if TYPE_CHECKING:
    from xrecon.inference.film_answer import FilmAnswer


@dataclass(frozen=True)
class ViewResidual:
    """Misfit of one film: root mean square of (re-projection - film) over that of the film's own variation (0..).

    Attributes:
        before: of the model's mean before it saw the films.
        after: of the result.
    """

    before: float
    after: float


@dataclass(frozen=True, eq=False)
class PneumothoraxOnFilms:
    """Free pleural air on the two films of a reconstruction.

    Attributes:
        answer: findings of the film networks and their assessment.
        drawn_ml: free air that was drawn into the CT, by side, mL; sides without any are absent.
    """

    answer: FilmAnswer
    drawn_ml: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**self.answer.assessment.to_dict(), "networks": self.answer.networks, "drawn_ml": dict(self.drawn_ml)}


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A synthetic CT from two films.

    Attributes:
        volume: HU, synthetic, [D, H, W] on the grid that was asked for.
        support: [D, H, W] float32, 0..1: share of the two films whose rays cross the voxel.
        spread: [D, H, W] float32, HU: standard deviation over the members of an ensemble; None for one estimate.
        residual: by view ("pa", "lateral").
        films: (PA, lateral) as the model used them: resampled, line integrals (gain and offset fitted if unknown).
        reprojections: (PA, lateral) of `volume`, same detector and quantity as `films`.
        provenance: model, version, sha256, geometry, seed, seconds, notes: what goes into the JSON side-car.
        pneumothorax: what the film networks say of free pleural air, and what of it was drawn into `volume`; None where
            they were not asked.
    """

    volume: Volume
    support: NDArray[np.float32]
    spread: NDArray[np.float32] | None
    residual: Mapping[str, ViewResidual]
    films: tuple[Radiograph, Radiograph]
    reprojections: tuple[Radiograph, Radiograph]
    provenance: Mapping[str, Any]
    pneumothorax: PneumothoraxOnFilms | None = None

    def summary(self) -> dict[str, Any]:
        """What the JSON beside the CT says: provenance, residuals, the grid, and the notes of the films."""
        return {
            **self.provenance,
            "residual": dict(self.residual),
            "ct": {
                "shape": self.volume.shape,
                "spacing_mm": self.volume.spacing_mm,
                "affine_lps": self.volume.affine,
            },
            "film_notes": {film.view: film.notes for film in self.films},
            **({} if self.pneumothorax is None else {"pneumothorax": self.pneumothorax.to_dict()}),
        }
