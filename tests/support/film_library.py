"""A film library of the artificial thorax, small enough for tests."""

from __future__ import annotations

from pathlib import Path

from xrecon.data.split import Split
from xrecon.phantoms.parameters import ThoraxParameters
from xrecon.phantoms.thorax import thorax_phantom
from xrecon.preparation.film_library.library_run import FilmLibraryRequest
from xrecon.preparation.film_library.library_settings import FilmLibrarySettings

SPLIT = Split(train=("anna", "bert"), test=("carl",))


def write_people(folder: Path) -> Path:
    """Three CTs of 64 x 64 x 64 voxels as NIfTI: `anna`, `bert` and `carl`."""
    for number, name in enumerate(("anna", "bert", "carl")):
        parameters = ThoraxParameters(noise_hu=5.0 * number)
        thorax_phantom(64, 6.0, parameters=parameters).volume.save(folder / f"{name}.nii.gz")
    return folder


def library_request(
    cts: Path, output: Path, *, anatomies: int = 4, size: int = 64, seed: int = 0
) -> FilmLibraryRequest:
    """A request for a library of few and small films."""
    settings = FilmLibrarySettings(size=size, plants=1, healthy=2, seed=seed)
    return FilmLibraryRequest(cts, SPLIT, output, anatomies, settings=settings, workers=1)
