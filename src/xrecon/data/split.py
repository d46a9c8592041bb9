"""Which cases train and which test: by patient, fixed in a file, and refused where a case is in two lists."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from xrecon.config import Config
from xrecon.data.ct_folder import find_cases
from xrecon.errors import InputError

Subset = Literal["train", "test", "aux"]


class Split(Config):
    """A fixed split of a data set by patient. A name is that of a CT file without its suffix, or of a DICOM folder."""

    train: tuple[str, ...] = Field(
        default=(), description="Cases to learn and to choose settings from; none where nothing is to be learned."
    )
    test: tuple[str, ...] = Field(min_length=1, description="Cases that no prior, weight or threshold has seen.")
    aux: tuple[str, ...] = Field(default=(), description="Incomplete or special cases, for training of parts only.")
    source: str = Field(default="", description="Where the data come from.")
    licence: str = Field(default="", description="Licences of the data, as far as stated.")
    notes: str = Field(default="", description="What else a reader should know.")

    @model_validator(mode="after")
    def _no_case_twice(self) -> Split:
        listed = [*self.train, *self.test, *self.aux]
        twice = sorted(name for name, count in Counter(listed).items() if count > 1)
        if twice:
            raise ValueError(f"listed more than once: {', '.join(twice)}; a case is in exactly one list")
        odd = [name for name in listed if not name or name != Path(name).name]
        if odd:
            raise ValueError(f"{odd[0]!r} is not a plain name; give names of files without their folder")
        return self

    def names(self, subset: Subset) -> tuple[str, ...]:
        """The case names of one subset, in the order of the file."""
        return {"train": self.train, "test": self.test, "aux": self.aux}[subset]


def cases_in(folder: Path, split: Split, subset: Subset) -> tuple[tuple[str, Path], ...]:
    """(name, path) of the cases of one subset, in the order of the split.

    Args:
        folder: with one CT file (or DICOM folder) per case; others in it are left alone.
        split: the lists.
        subset: "train", "test" or "aux".

    Raises:
        InputError: the subset is empty, or cases are missing in the folder (all are named).
    """
    names = split.names(subset)
    if not names:
        raise InputError(f"the split lists no {subset} cases")
    paths = dict(find_cases(folder))
    missing = [name for name in names if name not in paths]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(names)} {subset} cases are missing: {', '.join(missing)}; "
            "copy them there (any CT format, the file named like the case), or correct the split"
        )
    return tuple((name, paths[name]) for name in names)
