"""`qc.html` of a prepared data set: a row of pictures per case, its warnings, and what was refused and why."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from xrecon.data.manifest import CaseRecord, Manifest
from xrecon.preparation.thumbnail import PANELS
from xrecon.report.parts.page import render_template


def render_quality_page(
    manifest: Manifest,
    thumbnails: Mapping[str, bytes],
    *,
    title: str = "Prepared chest CTs",
    created: datetime | None = None,
) -> str:
    """The page as HTML text, self-contained.

    Args:
        manifest: the data set.
        thumbnails: JPEG of each case (`xrecon.preparation.thumbnail`), by name; cases without one get an empty place.
        title: heading.
        created: time of the page; None is now.
    """
    order = {"train": 0, "test": 1, "aux": 2}
    cases = sorted(manifest.cases, key=lambda case: (order[case.subset], case.name))
    return render_template(
        "quality.html.j2",
        title=title,
        created=created,
        tiles=_tiles(manifest),
        panels=PANELS,
        cases=[_entry(case, thumbnails.get(case.name)) for case in cases],
        rejected=[(entry.source, entry.reason) for entry in manifest.rejected],
        licences=[(entry["source"], entry["licence"], entry["cases"]) for entry in manifest.licences()],
        settings=[(key, str(value)) for key, value in manifest.settings.items()],
    )


def _tiles(manifest: Manifest) -> list[tuple[str, str]]:
    counted = Counter(case.subset for case in manifest.cases)
    subsets = ", ".join(f"{counted[name]} {name}" for name in ("train", "test", "aux") if counted[name])
    patients = len({case.patient for case in manifest.cases})
    return [
        (str(len(manifest.cases)), f"cases of {patients} patients: {subsets}"),
        (str(sum(bool(case.warnings) for case in manifest.cases)), "cases with warnings"),
        (str(len(manifest.rejected)), "inputs refused or left out"),
        (f"{manifest.size}³", f"voxels of {manifest.frame_mm / manifest.size:.3g} mm"),
        (manifest.geometry.name, "geometry of the films"),
        (str(manifest.folds) if manifest.folds else "none", "folds of the training patients"),
    ]


@dataclass(frozen=True)
class _CaseEntry:
    """One case as the page shows it; `picture` is a data URI, None without a thumbnail."""

    name: str
    patient: str
    subset: str
    picture: str | None
    facts: str
    warnings: Sequence[str]
    notes: Sequence[str]


def _entry(case: CaseRecord, picture: bytes | None) -> _CaseEntry:
    shape = " × ".join(map(str, case.source_shape))
    spacing = " × ".join(f"{s:.2f}" for s in case.source_spacing_mm)
    lungs = f"lungs {case.right_lung_ml:.0f} mL right, {case.left_lung_ml:.0f} mL left"
    return _CaseEntry(
        name=case.name,
        patient=case.patient,
        subset=case.subset if case.fold is None else f"{case.subset}, fold {case.fold}",
        picture=None if picture is None else f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}",
        facts=f"{shape} voxels of {spacing} mm [D, H, W]; {lungs}",
        warnings=case.warnings,
        notes=case.notes,
    )
