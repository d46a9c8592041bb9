"""The state of every case during a run, and the manifest written from it; a kill at any moment loses no case."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xrecon.data.manifest import (
    CASES_FOLDER,
    MANIFEST_NAME,
    CaseRecord,
    FilmGeometry,
    Manifest,
    Rejection,
    check_no_leak,
)
from xrecon.data.partition import deal_folds, deal_subsets
from xrecon.data.split import Subset
from xrecon.environment import run_environment
from xrecon.errors import InputError, XReconError
from xrecon.json_text import json_text
from xrecon.preparation.case import beams_for
from xrecon.preparation.request import PrepareRequest
from xrecon.preparation.sources import Source
from xrecon.preparation.storage import Store
from xrecon.preparation.worker import WORK_FOLDER, SourceResult, state_name

_MANIFEST_SECONDS = 5.0
"""While cases arrive the manifest is written no more often than this."""


class Ledger:
    """Collects the results of all cases and writes the manifest from them.

    Attributes:
        fields: case -> the fields of its `CaseRecord`, without subset and fold.
        kept: cases of earlier runs over other inputs, which stay in the data set.
        rejected: inputs that became no case, with the reason.
        prepared: cases that this run computed.
        arrived: results of any kind so far.
    """

    def __init__(
        self,
        request: PrepareRequest,
        store: Store,
        before: Manifest | None,
        rejected: Iterable[Rejection],
        sources: Sequence[Source],
        subsets: Mapping[str, Subset] | None,
    ) -> None:
        self.request = request
        self.store = store
        self.before = before
        self.rejected = list(rejected)
        self.sources = {source.case: source for source in sources}
        self.subsets = subsets
        self.fields: dict[str, dict[str, Any]] = {}
        self.arrived = self.prepared = 0
        self._written = float("-inf")  # the first case is written down at once
        self._cost = 0.0
        self._environment = run_environment()
        # Cases of earlier runs over other inputs stay.
        self.kept = {} if before is None else {c.name: c for c in before.cases if c.name not in self.sources}

    def load_states(self) -> list[Source]:
        """Take over the cases that earlier runs have finished; returns the sources that are still to be prepared."""
        states = set(self.store.names(WORK_FOLDER))
        files = set(self.store.names(CASES_FOLDER))
        digest = self.request.settings.digest()
        todo = []
        for case, source in self.sources.items():
            state = self._state(case) if f"{case}.json" in states and not self.request.overwrite else None
            same = state is not None and state.get("stamp") == source.stamp and state.get("settings") == digest
            if state is None or not same or (f"{case}.safetensors" not in files and not state.get("duplicate")):
                todo.append(source)
            else:
                stated = {key: getattr(source, key) for key in ("source", "licence") if getattr(source, key)}
                self.fields[case] = {**state["fields"], "patient": source.patient, **stated}
        return todo

    def _state(self, case: str) -> dict[str, Any] | None:
        try:
            state = json.loads(self.store.read(state_name(case)))
            return state if isinstance(state, dict) and isinstance(state.get("fields"), dict) else None
        except (OSError, ValueError):
            return None

    def add(self, source: Source, result: SourceResult | Exception) -> None:
        """Take in the result of one source. Raises the error where the store itself failed."""
        self.arrived += 1
        if isinstance(result, XReconError):
            raise result  # of the store: no other case will fare better
        if isinstance(result, Exception):
            kind = type(result).__name__
            lost = kind == "KilledWorker"
            reason = (
                "its worker was lost again and again: probably too little memory; give fewer --workers"
                if lost
                else f"unexpected {kind}; please report it (prepare it alone with --debug --workers 1)"
            )
            result = SourceResult(source.case, None, reason, 0.0)
        if result.fields is None:
            self.rejected.append(Rejection(source=source.label, reason=result.reason))
            return
        self.prepared += 1
        self.fields[source.case] = result.fields

    def write_if_due(self) -> None:
        """Write the manifest now and then, so that a killed run leaves a valid data set."""
        now = time.monotonic()
        if self.fields and now - self._written > max(_MANIFEST_SECONDS, 20 * self._cost):
            self._write(self.manifest(complete=False))
            self._written = time.monotonic()
            self._cost = self._written - now

    def write_unfinished(self) -> None:
        """Write what there is before an error or Ctrl-C ends the run; never hides that error by another."""
        if self.fields:
            with contextlib.suppress(Exception):
                self._write(self.manifest(complete=False))

    def _write(self, manifest: Manifest) -> None:
        self.store.write(MANIFEST_NAME, manifest.to_json().encode())

    def manifest(self, *, complete: bool) -> Manifest:
        """The data set as it is now: each CT once, subsets and folds by patient."""
        duplicates = self.duplicates()
        rejected = self.rejected + [
            Rejection(source=self.sources[case].label, reason=f"the same CT as {other} (equal voxels)")
            for case, other in sorted(duplicates.items())
        ]
        names = [case for case in self.fields if case not in duplicates]
        subsets = self._subsets(names)
        records = [CaseRecord(**self.fields[name], subset=subsets[name]) for name in names]
        records += list(self.kept.values())
        return self._assembled(self._with_folds(records), rejected, complete=complete)

    def _subsets(self, names: Sequence[str]) -> Mapping[str, Subset]:
        """Subset of each case: as listed, else dealt by patient; what a finished run has dealt stays."""
        if self.subsets is not None:
            return self.subsets
        earlier = self.before.cases if self.before is not None and self.before.complete else ()
        dealt = {record.patient: record.subset for record in (*earlier, *self.kept.values())}
        patients = {name: str(self.fields[name]["patient"]) for name in names}
        by_patient = deal_subsets(
            {*patients.values(), *(record.patient for record in self.kept.values())},
            test_share=self.request.test_share,
            seed=self.request.seed,
            dealt=dealt,
        )
        return {name: by_patient[patient] for name, patient in patients.items()}

    def _assembled(self, records: Iterable[CaseRecord], rejected: Sequence[Rejection], *, complete: bool) -> Manifest:
        request, settings = self.request, self.request.settings
        return Manifest(
            size=settings.size,
            frame_mm=settings.frame_mm,
            geometry=FilmGeometry.of(*beams_for(settings)),
            settings=settings.model_dump(mode="json"),
            complete=complete,
            seed=request.seed,
            folds=request.folds,
            cases=tuple(sorted(records, key=lambda record: record.name)),
            rejected=tuple(sorted(rejected, key=lambda rejection: (rejection.source, rejection.reason))),
            environment=self._environment,
        )

    def duplicates(self) -> dict[str, str]:
        """Case -> the case with the same voxels that stays: one of an earlier run, else the first by name."""
        first = {record.source_sha256: name for name, record in self.kept.items()}
        out = {}
        for case in sorted(self.fields):
            digest = self.fields[case]["source_sha256"]
            if digest in first:
                out[case] = first[digest]
            else:
                first[digest] = case
        return out

    def _with_folds(self, records: Sequence[CaseRecord]) -> list[CaseRecord]:
        count = self.request.folds
        patients = {record.patient for record in records if record.subset == "train"}
        if not count or len(patients) < count:
            return [record.model_copy(update={"fold": None}) for record in records]
        same = self.before is not None and self.before.complete and self.before.folds == count
        earlier = self.before.cases if self.before is not None and same else ()
        dealt = {record.patient: record.fold for record in earlier if record.fold is not None}
        folds = deal_folds(patients, count, seed=self.request.seed, dealt=dealt)
        return [
            record.model_copy(update={"fold": folds[record.patient] if record.subset == "train" else None})
            for record in records
        ]

    def finish(self) -> Manifest:
        """The last manifest; the files of duplicates go. Raises InputError where nothing is usable, or it leaks."""
        manifest = self.manifest(complete=True)
        if not manifest.cases:
            reasons = "; ".join(f"{rejection.source}: {rejection.reason}" for rejection in manifest.rejected[:5])
            raise InputError(f"nothing usable was found: {reasons or 'no files'}")
        if self.request.folds and all(record.fold is None for record in manifest.cases):
            trained = len({record.patient for record in manifest.of_subset("train")})
            raise InputError(_no_folds(trained, self.request.folds, equal=len(self.duplicates())))
        self._write(manifest)
        for case in self.duplicates():
            state = self._state(case)
            if state is not None:
                self.store.write(state_name(case), json_text({**state, "duplicate": True}, indent=None).encode())
            self.store.delete(f"{CASES_FOLDER}/{case}.safetensors")
        check_no_leak(manifest)
        return manifest


def _no_folds(trained: int, folds: int, *, equal: int) -> str:
    """Why there are no folds, and what to do; `equal` CTs were dropped."""
    dropped = f" ({equal} CTs with the voxels of another count once)" if equal else ""
    choice = f"choose --folds 2 to {trained}, or leave it out" if trained > 1 else "leave --folds out"
    return (
        f"{trained} training patients cannot be dealt into {folds} folds{dropped}: add patients, or {choice}; "
        f"what is prepared stays and is taken over"
    )
