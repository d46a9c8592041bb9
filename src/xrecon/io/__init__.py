"""Files to plain arrays and back: NIfTI, DICOM, MHA/NRRD, films. Knows no volumes, projectors or networks.

`guards` holds the checks on what is read, `output` writes atomically.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.io.film_file import write_film as write_film
    from xrecon.io.formats import read_film as read_film
    from xrecon.io.formats import read_volume as read_volume
    from xrecon.io.nifti import write_nifti as write_nifti
    from xrecon.io.output.atomic import atomic_path as atomic_path
    from xrecon.io.raw import RawFilm as RawFilm
    from xrecon.io.raw import RawVolume as RawVolume
    from xrecon.io.sample import find_lidc_sample as find_lidc_sample

_HOME = {
    "RawFilm": "xrecon.io.raw",
    "RawVolume": "xrecon.io.raw",
    "atomic_path": "xrecon.io.output.atomic",
    "find_lidc_sample": "xrecon.io.sample",
    "read_film": "xrecon.io.formats",
    "read_volume": "xrecon.io.formats",
    "write_film": "xrecon.io.film_file",
    "write_nifti": "xrecon.io.nifti",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.io' has no attribute {name!r}")
