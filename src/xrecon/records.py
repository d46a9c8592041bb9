"""The record of a run: what stands in the JSON beside every result, so that it can be traced and repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xrecon.data.ct_folder import content_sha256
from xrecon.environment import run_environment
from xrecon.volume import RESEARCH_NOTICE


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a result was computed with. No path, user or machine name: inputs are recognised by their digests.

    Attributes:
        command: the command, for example "xrecon segment".
        seed: of every random choice; None where nothing was random.
        settings: name to JSON-ready value.
        inputs: name to SHA-256 of each input file; None where the inputs are a data set.
        dataset: `PreparedDataset.provenance()`; None where the inputs are files.
        models: label to digest of each reconstruction model; None where the run has no list of models.
        environment: `run_environment()`.
        notice: for research only.

    Example:
        >>> record = RunRecord.of_files("xrecon segment", seed=None, files={"ct": path}, settings={"series": None})
        >>> summary = {**record.to_dict(), "occupancy": 0.2}
    """

    command: str
    seed: int | None
    settings: Mapping[str, Any]
    inputs: Mapping[str, str] | None = None
    dataset: Mapping[str, Any] | None = None
    models: Mapping[str, str] | None = None
    environment: Mapping[str, Any] = field(default_factory=run_environment)
    notice: str = RESEARCH_NOTICE

    @classmethod
    def of_files(
        cls, command: str, *, seed: int | None, files: Mapping[str, Path], settings: Mapping[str, Any]
    ) -> RunRecord:
        """The record of a run on files; computes their digests.

        Raises:
            InputError: an input cannot be read.
        """
        digests = {name: content_sha256(path) for name, path in files.items()}
        return cls(command=command, seed=seed, settings=settings, inputs=digests)

    def to_dict(self) -> dict[str, Any]:
        """The keys as they stand in the JSON; parts that do not apply are left out."""
        values: dict[str, Any] = {
            "notice": self.notice,
            "command": self.command,
            "environment": dict(self.environment),
            "seed": self.seed,
        }
        if self.inputs is not None:
            values["inputs"] = {name: {"sha256": digest} for name, digest in self.inputs.items()}
        if self.dataset is not None:
            values["dataset"] = dict(self.dataset)
        if self.models is not None:
            values["models"] = dict(self.models)
        values["settings"] = dict(self.settings)
        return values
