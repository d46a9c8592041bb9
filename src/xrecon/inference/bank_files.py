"""CT files as a bank of other patients: never the CT that the films were simulated from, which is the answer itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xrecon.anatomy.orientation import with_orientation_notes
from xrecon.data.ct_folder import content_sha256
from xrecon.errors import InputError
from xrecon.io.film_file import side_car_of
from xrecon.volume import Volume, load_ct


@dataclass(frozen=True)
class BankFiles:
    """CT files of other patients.

    Attributes:
        cases: (name, path) of each CT.
        left_out: names of the CTs that the films were simulated from.
    """

    cases: tuple[tuple[str, Path], ...]
    left_out: tuple[str, ...]

    def load(self) -> list[Volume]:
        """Read all CTs. Raises InputError if one cannot be read."""
        return [with_orientation_notes(load_ct(path), path) for _, path in self.cases]


def bank_files(cases: Sequence[tuple[str, Path]], films: Sequence[Path]) -> BankFiles:
    """The CTs that may serve as a bank for these films.

    Args:
        cases: (name, path) of CTs.
        films: film files; their side-cars, where there are any, tell from which CT they were simulated.

    Raises:
        InputError: no CT is left, or one cannot be read.
    """
    sources = {str(((side_car_of(film) or {}).get("inputs") or {}).get("ct", {}).get("sha256")) for film in films}
    left_out = tuple(name for name, path in cases if content_sha256(path) in sources)
    others = tuple((name, path) for name, path in cases if name not in left_out)
    if not others:
        raise InputError(
            f"no CT is left for the bank: the films were simulated from {', '.join(left_out)}; add CTs of other "
            "patients, or leave out --bank"
        )
    return BankFiles(others, left_out)
