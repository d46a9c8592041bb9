"""`qc.html` of a prepared data set: a row of pictures per case, its warnings, and what was refused and why."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import resources
from typing import Any

from xrecon import __version__
from xrecon.data.manifest import CaseRecord, Manifest
from xrecon.preparation.thumbnail import PANELS
from xrecon.volume import RESEARCH_NOTICE


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
    from jinja2 import Environment, StrictUndefined

    engine = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = (resources.files("xrecon.report") / "templates" / "quality.html.j2").read_text(encoding="utf-8")
    order = {"train": 0, "test": 1, "aux": 2}
    cases = sorted(manifest.cases, key=lambda case: (order[case.subset], case.name))
    return engine.from_string(page).render(
        title=title,
        notice=RESEARCH_NOTICE,
        created=(created or datetime.now(timezone.utc)).strftime("%Y-%m-%d %H:%M UTC"),
        xrecon_version=__version__,
        tiles=_tiles(manifest),
        panels=PANELS,
        cases=[_row(case, thumbnails.get(case.name)) for case in cases],
        rejected=[(one.source, one.reason) for one in manifest.rejected],
        licences=[(one["source"], one["licence"], one["cases"]) for one in manifest.licences()],
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


def _row(case: CaseRecord, picture: bytes | None) -> dict[str, Any]:
    shape = " × ".join(map(str, case.source_shape))
    spacing = " × ".join(f"{s:.2f}" for s in case.source_spacing_mm)
    facts = f"{shape} voxels of {spacing} mm [D, H, W]; lungs {case.right_lung_ml:.0f} mL right, "
    facts += f"{case.left_lung_ml:.0f} mL left"
    return {
        "name": case.name,
        "patient": case.patient,
        "subset": case.subset if case.fold is None else f"{case.subset}, fold {case.fold}",
        "picture": None if picture is None else f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}",
        "facts": facts,
        "warnings": case.warnings,
        "notes": case.notes,
    }
