"""Two films in, an answer on free pleural air out: checked films, findings of the networks, their assessment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xrecon import __version__
from xrecon.environment import one_thread
from xrecon.films.film_calibration import load_calibration
from xrecon.inference.film_assessment import FilmAssessment, assess_films
from xrecon.inference.film_check import check_films
from xrecon.inference.film_findings import FilmFindings, film_findings, networks_folder
from xrecon.priors.asset import load_priors
from xrecon.priors.deformation import mean_chest
from xrecon.priors.films import FilmPair
from xrecon.radiograph import VIEWS, Radiograph
from xrecon.volume import RESEARCH_NOTICE


@dataclass(frozen=True, eq=False)
class FilmAnswer:
    """What two films say about free pleural air.

    Attributes:
        films: by view, as the networks saw them (inverted where they were negatives).
        findings: maps and volumes.
        assessment: what they mean.
        notes: of the check of the films.
        provenance: version, digest of the networks, geometry, verdict on the films.
    """

    films: Mapping[str, Radiograph]
    findings: FilmFindings
    assessment: FilmAssessment
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]

    @property
    def networks(self) -> Mapping[str, Any]:
        """Name and digest of the networks."""
        networks: Mapping[str, Any] = self.provenance["networks"]
        return networks

    def to_dict(self) -> dict[str, Any]:
        """JSON values of everything but the maps."""
        return {**self.assessment.to_dict(), **self.provenance, "notes": list(self.notes)}


def film_answer(
    pa: Radiograph, lateral: Radiograph, *, networks: str | os.PathLike[str] = "default", force: bool = False
) -> FilmAnswer:
    """Check the films against the mean chest as `xrecon.reconstruct` does, and ask the film networks.

    Args:
        pa: PA film.
        lateral: lateral film of the same patient.
        networks: "default" (those that come with the package), or a folder of `xrecon train films`.
        force: take the films as they are, whatever they look like; what was seen is noted.

    Raises:
        InputError: films swapped, turned, the same twice or of no chest, unless forced.
        CheckpointError: the folder holds no film networks, or damaged ones.
        MissingPartError: the shipped priors or networks are not there.
    """
    with one_thread():
        checked = check_films(FilmPair((pa, lateral)), mean_chest(load_priors().prior), force=force)
    films = {film.view: film for film in checked.films.films}
    return answer_of(films, networks=networks, notes=checked.notes, checks=checked.summary)


def answer_of(
    films: Mapping[str, Radiograph],
    *,
    networks: str | os.PathLike[str],
    notes: tuple[str, ...] = (),
    checks: Mapping[str, Any] | None = None,
) -> FilmAnswer:
    """The answer on films that were checked already.

    Raises:
        InputError, CheckpointError, MissingPartError: as `film_answer`.
    """
    folder = networks_folder(networks)
    findings = film_findings(films, folder)
    calibration = load_calibration(folder)
    assessment = assess_films(findings, calibration)
    provenance = {
        "notice": RESEARCH_NOTICE,
        "version": __version__,
        "networks": {"name": folder.name, "sha256": findings.model_sha256},
        "calibration": None if calibration is None else calibration.model_dump(mode="json"),
        "geometry": {name: films[name].geometry.to_dict() for name in VIEWS if name in films},
        "film_notes": {name: list(film.notes) for name, film in films.items()},
        **({} if checks is None else {"films": checks}),
    }
    return FilmAnswer(films, findings, assessment, notes, provenance)
