"""A population of artificial chests as a folder of files, with the true labels and a record of everybody's disease."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xrecon.environment import run_environment
from xrecon.io.nifti import write_nifti
from xrecon.io.output.atomic import write_json_atomic
from xrecon.io.output.staging import check_outputs
from xrecon.planting.population import Disease, population_member
from xrecon.volume import RESEARCH_NOTICE

RECORD_NAME = "population.json"


def write_population(
    folder: Path,
    count: int,
    *,
    size: int,
    spacing_mm: float,
    seed: int = 0,
    disease: Disease | None = None,
    overwrite: bool = False,
    advance: Callable[[int], None] = lambda _steps: None,
) -> dict[str, dict[str, Any]]:
    """Write ct/NAME.nii.gz, labels/NAME.nii.gz and population.json below a folder.

    Args:
        folder: made if absent.
        count: number of adults; the first ones are the same for any count.
        size: voxels per edge.
        spacing_mm: voxel pitch, mm.
        seed: of habitus and disease.
        disease: how often each disease occurs.
        overwrite: replace the record of an earlier run.
        advance: called with 1 after each adult.

    Returns:
        Name -> `parameters` of the thorax and `disease_ml`, by the name of the disease; as in the record.

    Raises:
        OutputExistsError: the folder holds a record, and `overwrite` is not given.
        InputError: a size or a pitch that no thorax can be drawn with.
    """
    shares = disease or Disease()
    check_outputs(folder, [RECORD_NAME], overwrite=overwrite)
    members: dict[str, dict[str, Any]] = {}
    for number in range(count):
        name = f"phantom-{seed}-{number:05d}"
        person = population_member(number, seed=seed, size=size, spacing_mm=spacing_mm, disease=shares)
        # What an interrupted run left is the same, value by value: it may be replaced.
        person.volume.save(folder / "ct" / f"{name}.nii.gz", overwrite=True)
        labels = folder / "labels" / f"{name}.nii.gz"
        write_nifti(labels, person.labels, person.volume.affine, description=RESEARCH_NOTICE, overwrite=True)
        members[name] = {"parameters": asdict(person.parameters), "disease_ml": person.disease}
        advance(1)
    record = {
        "notice": RESEARCH_NOTICE,
        "seed": seed,
        "size": size,
        "spacing_mm": spacing_mm,
        "disease": asdict(shares),
        "environment": run_environment(),
        "members": members,
    }
    write_json_atomic(folder / RECORD_NAME, record, overwrite=overwrite)
    return members
