"""One self-contained HTML page of a reconstruction: no script, no request to anywhere, every picture inside.

All text from files and users is escaped by the template engine; the page also carries a content security policy
that forbids scripts and network access, should something slip through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from matplotlib.figure import Figure

from xrecon.environment import run_environment
from xrecon.evaluation.metrics.catalogue import CATALOGUE
from xrecon.evaluation.metrics.image import IMAGE_METRICS, ImageMetrics
from xrecon.evaluation.studies.reach import reach_of
from xrecon.evaluation.tables import PerCase, format_statistic, format_value, label, metric_names, summary
from xrecon.inference.result import Reconstruction
from xrecon.radiograph import Radiograph
from xrecon.report.parts.figures import VIEW_NAMES, percent, planes_figure, projection_figure, support_figure
from xrecon.report.parts.page import PageTable, data_uri, flatten, render_template
from xrecon.volume import Volume

_BEAMS = {
    0: "the beam runs from back to front (PA)",
    90: "the beam runs from the patient's right to the left (left lateral)",
    180: "the beam runs from front to back (AP)",
    270: "the beam runs from the patient's left to the right (right lateral)",
}
_IN_OTHER_PLACES = ("model", "version", "sha256", "geometry", "notes", "seconds")


def render_report(
    *,
    title: str,
    reconstruction: Reconstruction,
    truth: Volume | None = None,
    metrics: ImageMetrics | Mapping[str, ImageMetrics] | None = None,
    rows: Sequence[PerCase] = (),
    credit: str = "",
    environment: Mapping[str, Any] | None = None,
    runtime: Mapping[str, float] | None = None,
    peak_memory_mib: float | None = None,
    notes: Sequence[str] = (),
    pneumothorax: tuple[Figure, PageTable] | None = None,
    created: datetime | None = None,
) -> str:
    """The report as HTML text.

    Args:
        title: heading of the page.
        reconstruction: what is reported.
        truth: the measured CT on the grid of the reconstruction; None for a user's own films.
        metrics: of this reconstruction, or by model name, the baselines beside it.
        rows: results over several cases, for a table of mean and standard deviation per model.
        credit: source and licence of the data.
        environment: versions and machine facts; None collects them (`xrecon.environment.run_environment`).
        runtime: step -> seconds; None takes `seconds` of the provenance.
        peak_memory_mib: peak resident memory of the process, MiB.
        notes: assumptions beyond those stored with the films, the volume and the provenance.
        pneumothorax: picture and figures of a chest without and with a planted pneumothorax; None for none.
        created: time of the report; None is now.

    Raises:
        InputError: the truth is on another grid than the reconstruction, or a film is paired with another view.
    """
    named = _named_metrics(metrics, reconstruction)
    runtime = runtime if runtime is not None else _seconds(reconstruction)
    environment = environment if environment is not None else run_environment()
    return render_template(
        "reconstruction.html.j2",
        title=title,
        created=created,
        has_truth=truth is not None,
        tiles=_tiles(reconstruction, named, runtime, peak_memory_mib),
        model=_model_facts(reconstruction),
        views=[(VIEW_NAMES[film.view], geometry_in_words(film)) for film in reconstruction.films],
        figures=_figures(reconstruction, truth),
        pneumothorax=None if pneumothorax is None else _pneumothorax(*pneumothorax),
        residuals=_residual_table(reconstruction),
        metrics=_metric_table(named),
        conventions=_conventions([name for values in named.values() for name in values.to_dict()]),
        summary=_summary_table(rows),
        cases=_case_table(rows),
        summary_conventions=_conventions(metric_names(rows)),
        reach=_reach(reconstruction),
        runtime=[(step, f"{seconds:.2f} s") for step, seconds in runtime.items()],
        peak_memory=None if peak_memory_mib is None else f"{peak_memory_mib:,.0f} MiB",
        environment=list(flatten(environment)),
        notes=_notes(reconstruction, truth, notes),
        credit=credit,
    )


def geometry_in_words(film: Radiograph) -> str:
    """Distances (mm), magnification, pixels, beam direction and pose of a film's geometry, as sentences."""
    g = film.geometry
    rows, cols = g.detector_shape
    beam = _BEAMS.get(round(g.angle_deg) % 360) if abs(g.angle_deg - round(g.angle_deg)) < 1e-6 else None
    beam = beam or f"the rig is turned by {g.angle_deg:.2f}° from PA about the patient's long axis"
    words = (
        f"Geometry “{g.name}”: {beam}; focal spot to isocentre {g.source_to_isocentre_mm:.0f} mm, to detector "
        f"{g.source_to_detector_mm:.0f} mm (magnification {g.magnification:.3f}). "
        f"{rows} × {cols} pixels of {g.pixel_mm[0]:.3f} × {g.pixel_mm[1]:.3f} mm at the detector, "
        f"{g.pixel_at_isocentre_mm[0]:.3f} × {g.pixel_at_isocentre_mm[1]:.3f} mm at the isocentre. "
    )
    pose = [f"{name} {value:.2f}°" for name, value in (("tilt", g.tilt_deg), ("roll", g.roll_deg)) if value]
    if any(g.translation_mm):
        pose.append("isocentre moved by " + ", ".join(f"{v:+.1f}" for v in g.translation_mm) + " mm (L, P, S)")
    if any(g.detector_shift_mm):
        pose.append("detector shifted by " + ", ".join(f"{v:+.1f}" for v in g.detector_shift_mm) + " mm (down, across)")
    if g.mirrored:
        pose.append("hung mirrored")
    words += f"Pose: {', '.join(pose)}." if pose else "No tilt, roll or displacement."
    values = "line integrals" if film.is_quantitative else "display values of unknown gain and offset"
    return f"{words} Pixel values: {values}."


def _named_metrics(
    metrics: ImageMetrics | Mapping[str, ImageMetrics] | None, reconstruction: Reconstruction
) -> dict[str, ImageMetrics]:
    if metrics is None:
        return {}
    if isinstance(metrics, ImageMetrics):
        return {str(reconstruction.provenance.get("model", "reconstruction")): metrics}
    return dict(metrics)


def _seconds(reconstruction: Reconstruction) -> dict[str, float]:
    seconds = reconstruction.provenance.get("seconds")
    return {"reconstruction": float(seconds)} if isinstance(seconds, (int, float)) else {}


def _tiles(
    reconstruction: Reconstruction,
    metrics: Mapping[str, ImageMetrics],
    runtime: Mapping[str, float],
    peak_memory_mib: float | None,
) -> list[tuple[str, str]]:
    """The few numbers at the top of the page: (value, label); of this model where several have metrics."""
    tiles: list[tuple[str, str]] = []
    figures = metrics.get(str(reconstruction.provenance.get("model")), next(iter(metrics.values()), None))
    if figures is not None:
        values = figures.to_dict()
        names = ["psnr_2500_db", "mae_body_hu" if figures.mae_body_hu is not None else "mae_hu", "ssim_3d"]
        tiles += [(format_value(name, values[name]), label(name)) for name in names]
    for view, residual in reconstruction.residual.items():
        tiles.append((percent(residual.after), f"{VIEW_NAMES.get(view, view)} film residual"))
    if runtime:
        tiles.append((f"{sum(runtime.values()):.1f} s", "runtime, all steps"))
    if peak_memory_mib is not None:
        tiles.append((f"{peak_memory_mib / 1024:.2f} GiB", "peak memory"))
    return tiles


def _model_facts(reconstruction: Reconstruction) -> list[tuple[str, str]]:
    provenance, volume = reconstruction.provenance, reconstruction.volume
    spacing = " × ".join(f"{s:.3f}" for s in volume.spacing_mm)
    facts = [(key, str(provenance[key])) for key in ("model", "version", "sha256") if provenance.get(key) is not None]
    facts.append(
        ("CT grid", f"{' × '.join(map(str, volume.shape))} voxels of {spacing} mm (head-feet, front-back, right-left)")
    )
    facts.append(("CT values", f"{volume.hu.min():.0f} to {volume.hu.max():.0f} HU, synthetic"))
    facts += flatten({key: value for key, value in provenance.items() if key not in _IN_OTHER_PLACES})
    return facts


def _figures(reconstruction: Reconstruction, truth: Volume | None) -> dict[str, dict[str, str]]:
    """Name -> data URI, alternative text and caption of each picture."""
    beside = "" if truth is None else ", of the true CT, and of the difference between them"
    return {
        "films": {
            "uri": data_uri(projection_figure(reconstruction)),
            "alt": "PA and lateral input film, each beside the re-projection of the reconstructed CT",
            "caption": "The films as the model received them, and the same views computed from the result.",
        },
        "planes": {
            "uri": data_uri(planes_figure(reconstruction, truth)),
            "alt": f"Coronal, sagittal and axial plane of the reconstructed CT{beside}",
            "caption": "Radiological display: the patient's right is on the left of coronal and axial images; in "
            "sagittal images the front is on the left.",
        },
        "support": {
            "uri": data_uri(support_figure(reconstruction)),
            "alt": "Coronal, sagittal and axial plane of the ray support"
            + ("" if reconstruction.spread is None else " and of the spread of the ensemble"),
            "caption": "Even where both films see a voxel, they only fix sums along their rays; where none does, the "
            "result is the prior's alone.",
        },
    }


def _pneumothorax(figure: Figure, table: PageTable) -> dict[str, Any]:
    """The section on a planted pneumothorax: its picture and its table."""
    return {
        "figure": {
            "uri": data_uri(figure),
            "alt": "A chest without and with a planted pneumothorax: PA film, free air that the film networks see, "
            "true and reconstructed CT",
            "caption": "The same chest without and with a planted pneumothorax. The film networks map free air on the "
            "films; what reaches their threshold is drawn into the CT, and PTX-Seg measures the result.",
        },
        "table": table,
    }


def _residual_table(reconstruction: Reconstruction) -> PageTable:
    body = [
        (VIEW_NAMES.get(view, view), percent(residual.before), percent(residual.after))
        for view, residual in reconstruction.residual.items()
    ]
    return PageTable(("Film", "Prior, before it saw the films", "Result"), body)


def _metric_table(metrics: Mapping[str, ImageMetrics]) -> PageTable | None:
    if not metrics:
        return None
    values = {model: figures.to_dict() for model, figures in metrics.items()}
    names = [metric.name for metric in IMAGE_METRICS if any(v[metric.name] is not None for v in values.values())]
    return PageTable(
        ("Metric", *values), [(label(name), *(format_value(name, v[name]) for v in values.values())) for name in names]
    )


def _summary_table(rows: Sequence[PerCase]) -> PageTable | None:
    if not rows:
        return None
    names = [*metric_names(rows), "seconds"]
    table = summary(rows)
    body = [
        (model, str(sum(row.model == model for row in rows)), *(format_statistic(n, values[n]) for n in names))
        for model, values in table.items()
    ]
    return PageTable(("Model", "Cases", *map(label, names)), body)


def _case_table(rows: Sequence[PerCase]) -> PageTable | None:
    """Every single result; None where the summary says it all (one case)."""
    if len({row.case for row in rows}) < 2:
        return None
    names = metric_names(rows)
    body = [
        (
            row.case,
            row.model,
            *(format_value(n, row.metrics.get(n)) for n in names),
            format_value("seconds", row.seconds),
        )
        for row in rows
    ]
    return PageTable(("Case", "Model", *map(label, names), label("seconds")), body)


def _conventions(names: Sequence[str]) -> list[tuple[str, str]]:
    metrics = [CATALOGUE[name] for name in dict.fromkeys(names) if name in CATALOGUE]
    return [(metric.heading, metric.convention) for metric in metrics]


def _reach(reconstruction: Reconstruction) -> dict[str, str]:
    """How much was measured, in words."""
    reach = reach_of(reconstruction)
    return {
        "pixels": f"{reach.pixels:,}",
        "voxels": f"{reach.voxels:,}",
        "share": percent(reach.share),
        "both": percent(reach.both_films),
        "one": percent(reach.one_film),
        "none": percent(reach.no_film),
    }


def _notes(reconstruction: Reconstruction, truth: Volume | None, more: Sequence[str]) -> list[str]:
    """All assumptions, each once, with where it comes from."""
    sources = [f"{VIEW_NAMES[film.view]} film: {note}" for film in reconstruction.films for note in film.notes]
    sources += [f"Reconstruction: {note}" for note in reconstruction.volume.notes]
    stored = reconstruction.provenance.get("notes", ())
    sources += [stored] if isinstance(stored, str) else [str(note) for note in stored]
    if truth is not None:
        sources += [f"True CT: {note}" for note in truth.notes]
    return list(dict.fromkeys([*sources, *more]))
