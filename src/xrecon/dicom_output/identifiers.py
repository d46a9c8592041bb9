"""UIDs of what is written: always new ones under 2.25, random or the same for the same work."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

UUID_ROOT = "2.25."
"""Root of UIDs that are a UUID as one decimal number (PS3.5, B.2)."""
IMPLEMENTATION_UID = "2.25.325806463353166713083402857466042713921"
"""Implementation Class UID of every file that xrecon writes."""


def derived_uid(*parts: str) -> str:
    """A UID under 2.25 that depends on `parts` alone, and from which they cannot be read."""
    digest = hashlib.sha256("\x00".join(("xrecon", *parts)).encode("utf-8")).digest()
    return UUID_ROOT + str(uuid.UUID(bytes=digest[:16], version=5).int)


def hidden_uid(uid: str) -> str:
    """What stands for the UID of a source where no identity may leave: the same for the same UID, at every run."""
    return derived_uid("source", uid)


def random_uid() -> str:
    """A UID under 2.25 that no one has used."""
    return UUID_ROOT + str(uuid.uuid4().int)


@dataclass(frozen=True)
class UidMint:
    """Hands out the UIDs of one result; the same name always gets the same UID.

    Attributes:
        key: what the UIDs are derived from; "" for random ones.
    """

    key: str = ""
    _known: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def uid(self, name: str) -> str:
        """The UID of the part `name` of this result."""
        make: Callable[[], str] = (lambda: derived_uid(self.key, name)) if self.key else random_uid
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]
