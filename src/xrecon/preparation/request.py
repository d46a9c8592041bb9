"""What a run of `xrecon prepare` is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xrecon.data.split import Split
from xrecon.preparation.settings import PrepareSettings


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        inputs: local paths or URLs.
        output: folder or URL of the data set.
        settings: what decides the values.
        split: fixed lists; None: dealt by the seed.
        test_share: of the patients, where no split is given.
        folds: of the training patients; 0: none.
        seed: of split and folds.
        salt: secret of the pseudonyms; None: made at the first run and kept in the work folder.
        keep_names: cases are called like their files.
        patient_pattern: regular expression that finds the patient in a path.
        every_series: all series of a DICOM study, not only its largest.
        workers, scheduler: where to compute, see `run_jobs`.
        source, licence: of the CTs, where neither split nor `xrecon pull` states them.
        overwrite: prepare everything again.
    """

    inputs: Sequence[str]
    output: str
    settings: PrepareSettings = field(default_factory=PrepareSettings)
    split: Split | None = None
    test_share: float = 0.2
    folds: int = 0
    seed: int = 0
    salt: str | None = None
    keep_names: bool = False
    patient_pattern: str | None = None
    every_series: bool = False
    workers: int | None = None
    scheduler: str | None = None
    source: str = ""
    licence: str = ""
    overwrite: bool = False
