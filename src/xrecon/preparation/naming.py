"""Names of scans and patients: pseudonyms by a secret, or the user's own names; and messages without paths."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from xrecon.data.ct_folder import CT_SUFFIXES

_GENERIC = re.compile(r"^(ct|volume|image|scan|chest|ct_xray_data|data)$", re.IGNORECASE)
"""Names that say nothing: the folder's is used."""
_FOLDERS = re.compile(r"(?<![\w/.:])/[^\s:;,)'\"]*/(?=[^\s/])")
"""The folders of an absolute path in a message."""


@dataclass
class Naming:
    """Gives names to scans and patients.

    Attributes:
        salt: secret of the pseudonyms.
        keep_names: call files by their own names (they are pseudonyms already).
        patient_pattern: regular expression for the path below the input; its first group is the patient.
        used: pseudonyms given so far.
    """

    salt: str
    keep_names: bool = False
    patient_pattern: re.Pattern[str] | None = None
    used: Counter[str] = field(default_factory=Counter)

    def pseudonym(self, kind: str, raw: str) -> str:
        """The same name for the same thing under the same salt; nobody without the salt can go back."""
        digest = hmac.new(self.salt.encode(), f"{kind}:{raw}".encode(), hashlib.sha256).hexdigest()
        return f"{kind}-{digest[:12]}"

    def case(self, name: str) -> str:
        """Pseudonym of a scan, made unique."""
        first_choice = _plain(name) if self.keep_names else self.pseudonym("scan", name)
        self.used[first_choice.lower()] += 1
        count = self.used[first_choice.lower()]
        return first_choice if count == 1 else f"{first_choice}-{count}"

    def patient(self, raw: str, path: str) -> str:
        """Pseudonym of a patient: from the path by the pattern where there is one, else from `raw`."""
        if self.patient_pattern is not None:
            match = self.patient_pattern.search(path)
            if match:
                raw = match.group(1) if match.groups() else match.group(0)
        return _plain(raw) if self.keep_names else self.pseudonym("patient", raw)

    def label(self, case: str, path_label: str) -> str:
        """What messages and the manifest call an input: its path below the input, or its pseudonym."""
        return path_label if self.keep_names else case


def file_title(parts: tuple[str, ...]) -> str:
    """What a CT file is called: its name without suffix, or that of its folder where the name says nothing."""
    suffix = next((s for s in (*CT_SUFFIXES, ".h5", ".hdf5") if parts[-1].lower().endswith(s)), "")
    stem = parts[-1][: len(parts[-1]) - len(suffix)]
    stem = re.sub(r"[_-](ct|volume|image)$", "", stem, flags=re.IGNORECASE) or stem
    return parts[-2] if _GENERIC.match(stem) and len(parts) > 1 else stem


def stem_of(name: str) -> str:
    """A file's name without its CT suffix."""
    suffix = next((s for s in CT_SUFFIXES if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")[:90] or "case"


def scrub(text: str, places: Iterable[str], label: str) -> str:
    """A message without paths: they may hold a patient's name."""
    for place in sorted({*places}, key=len, reverse=True):
        text = text.replace(place, label)
        name = place.rpartition("/")[2]
        if len(name) > 3:
            text = text.replace(name, label)
    return _FOLDERS.sub("", text)
