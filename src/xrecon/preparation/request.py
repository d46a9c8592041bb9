"""The request of a run of `xrecon prepare`: inputs, output, settings, split and where to compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xrecon.data.split import Split
from xrecon.preparation.settings import PrepareSettings


@dataclass(frozen=True)
class PrepareRequest:
    """Inputs, output and options of a run of `xrecon prepare`.

    Attributes:
        inputs: local paths or URLs.
        output: folder or URL of the data set.
        settings: what decides the values of a case.
        split: fixed lists; None: dealt by the seed.
        test_share: share of the patients that go to the test subset where no split is given, 0..0.9.
        folds: number of folds of the training patients; 0: none.
        seed: seed of the random split and of the folds.
        salt: secret of the pseudonyms; None: made at the first run and kept in the work folder.
        keep_names: cases are called like their files.
        patient_pattern: regular expression that finds the patient in a path.
        every_series: all series of a DICOM study, not only its largest.
        workers, scheduler: where to compute, see `run_jobs`.
        source, licence: origin and licence of the CTs, where neither split nor `xrecon pull` states them.
        names_table: where to write a CSV of pseudonyms and files, outside the data set; None: nowhere.
        overwrite: prepare everything again, and replace the table of names.
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
    names_table: Path | None = None
    overwrite: bool = False
