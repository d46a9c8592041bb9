"""Small prepared data sets, written directly instead of by `xrecon prepare`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from xrecon.data.case_file import CaseData, case_bytes
from xrecon.data.manifest import MANIFEST_NAME, CaseRecord, FilmGeometry, Manifest
from xrecon.data.split import Subset
from xrecon.films.simulation import film_pair
from xrecon.geometry import FRAME_MM


def random_case(size: int = 16, seed: int = 0) -> CaseData:
    """A case with arrays of the right types and shapes that hold noise, no anatomy."""
    rng = np.random.default_rng(seed)
    spacing = FRAME_MM / size
    affine = np.array([[0, 0, spacing, -190], [0, spacing, 0, -180], [-spacing, 0, 0, 170], [0, 0, 0, 1]], dtype=float)
    sides = rng.integers(0, 3, (size, size, size)).astype(np.uint8)
    return CaseData(
        ct=rng.integers(-1024, 1500, (size, size, size)).astype(np.int16),
        pa=rng.random((size, size), dtype=np.float32) * 5,
        lateral=rng.random((size, size), dtype=np.float32) * 7,
        sides=sides,
        air=((sides > 0) & (rng.random(sides.shape) < 0.1)).astype(np.uint8),
        body=(rng.random(sides.shape) < 0.7).astype(np.uint8),
        affine=affine,
        scan_box=((1, size), (0, size), (2, size - 2)),
        beams=film_pair("chest", size=size),
    )


def write_dataset(
    folder: Path,
    subsets: Mapping[str, Subset],
    *,
    cases: Sequence[CaseData] | None = None,
    folds: int = 0,
    records: Mapping[str, Mapping[str, object]] | None = None,
) -> Path:
    """A data set of one case per name; `records` overrides fields of `CaseRecord` by case name."""
    arrays = list(cases) if cases is not None else [random_case(seed=i) for i in range(len(subsets))]
    entries = []
    (folder / "cases").mkdir(parents=True, exist_ok=True)
    trained = 0
    for index, ((name, subset), case) in enumerate(zip(subsets.items(), arrays, strict=True)):
        content = case_bytes(case)
        fold = None
        if folds and subset == "train":
            fold, trained = trained % folds, trained + 1
        fields = {
            "name": name,
            "patient": f"patient-{name}",
            "subset": subset,
            "fold": fold,
            "sha256": hashlib.sha256(content).hexdigest(),
            "source_sha256": hashlib.sha256(f"source {index}".encode()).hexdigest(),
            "source": "phantom",
            "licence": "none needed",
            "source_shape": (64, 64, 64),
            "source_spacing_mm": (6.0, 6.0, 6.0),
            "right_lung_ml": 2000.0,
            "left_lung_ml": 1700.0,
            **((records or {}).get(name) or {}),
        }
        record = CaseRecord.model_validate(fields)
        (folder / record.file).write_bytes(content)
        entries.append(record)
    size = arrays[0].size
    manifest = Manifest(
        size=size,
        frame_mm=FRAME_MM,
        geometry=FilmGeometry.of(*film_pair("chest", size=size)),
        folds=folds,
        cases=tuple(entries),
    )
    manifest.save(folder / MANIFEST_NAME)
    return folder
