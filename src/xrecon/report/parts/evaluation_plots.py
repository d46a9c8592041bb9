"""Plots of an evaluation: every case is a point, models keep their colour, and the notice stands on each figure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xrecon.errors import InputError
from xrecon.evaluation.metrics.catalogue import CATALOGUE
from xrecon.evaluation.tables import PerCase, format_value, label
from xrecon.report.parts.panels import Panel, Row, compose
from xrecon.volume import RESEARCH_NOTICE

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777", "#ee7733")
"""Colours that stay apart for colour-blind readers (Tol's bright scheme, and one more)."""
MIRRORED = ", mirrored"
"""End of the name of a curve that belongs to another one: same colour, dotted."""
_LETTERS = {"coronal": ("R", "L", "H", "F"), "sagittal": ("A", "P", "H", "F"), "axial": ("R", "L", "A", "P")}
_WINDOW_HU = (-1000.0, 400.0)
_DIFFERENCE_HU = (-400.0, 400.0)


def colour_of(models: Sequence[str], model: str) -> str:
    """The colour of a model in all figures of one page."""
    return COLOURS[list(models).index(model) % len(COLOURS)]


def blank(columns: int = 1, *, width: float = 10.0, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    """A light figure with `columns` axes side by side and the research notice at its foot."""
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        one.grid(visible=True, alpha=0.3)
        one.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(RESEARCH_NOTICE, fontsize=8, color="#8a5a00")
    return figure, list(axes)


def violin_figure(rows: Sequence[PerCase], names: Sequence[str]) -> Figure:
    """One axes per metric: every case as a point, the mean as a bar; the violin from five cases on.

    Raises:
        InputError: none of the metrics has a value.
    """
    models = list(dict.fromkeys(row.model for row in rows))
    kept = [name for name in names if any(_known(row.metrics.get(name)) for row in rows)]
    if not kept:
        raise InputError(f"no value of {', '.join(names)} to draw")
    figure, all_axes = blank(len(kept), width=max(5.0, 3.4 * len(kept)))
    for axes, name in zip(all_axes, kept, strict=True):
        for position, model in enumerate(models):
            values = [v for row in rows if row.model == model and (v := row.metrics.get(name)) is not None]
            values = [v for v in values if math.isfinite(v)]
            colour = colour_of(models, model)
            if len(values) >= 5:
                for body in axes.violinplot([values], positions=[position], showextrema=False)["bodies"]:  # type: ignore[attr-defined]
                    body.set_facecolor(colour)
            spread = np.linspace(-0.1, 0.1, len(values)) if len(values) > 1 else [0.0]
            axes.plot(position + np.asarray(spread), values, "o", color=colour, markersize=5)
            if values:
                axes.hlines(float(np.mean(values)), position - 0.3, position + 0.3, color=colour, linewidth=2)
        axes.set_xticks(range(len(models)), models, rotation=25, ha="right")
        axes.set_ylabel(textwrap.fill(label(name), 36))
    return figure


def difference_figure(rows: Sequence[PerCase], names: Sequence[str], *, baseline: str) -> Figure:
    """Per case the difference of every model from the baseline; a line at 0 means no difference."""
    models = list(dict.fromkeys(row.model for row in rows))
    base = {row.case: row.metrics for row in rows if row.model == baseline}
    figure, all_axes = blank(len(names), width=max(5.0, 3.4 * len(names)))
    for axes, name in zip(all_axes, names, strict=True):
        others = [model for model in models if model != baseline]
        for position, model in enumerate(others):
            values = [
                row.metrics[name] - base[row.case][name]  # type: ignore[operator]
                for row in rows
                if row.model == model
                and row.case in base
                and _known(row.metrics.get(name))
                and _known(base[row.case].get(name))
            ]
            axes.plot([position] * len(values), values, "o", color=colour_of(models, model), alpha=0.8)
        axes.axhline(0.0, color="black", linewidth=1)
        axes.set_xticks(range(len(others)), others, rotation=25, ha="right")
        axes.set_ylabel(textwrap.fill(f"{label(name)}, minus {baseline}", 36))
    return figure


def scatter_figure(pairs: Mapping[str, Sequence[tuple[float, float]]], *, quantity: str) -> Figure:
    """Estimate against truth with the line of identity, all models on one axes of equal scales."""
    figure, (axes,) = blank(width=6.2, height=5.6)
    every = [value for both in pairs.values() for pair in both for value in pair] or [0.0, 1.0]
    low, high = min(every), max(every)
    room = 0.05 * (high - low) or 1.0
    axes.plot([low - room, high + room], [low - room, high + room], color="black", linewidth=1, label="identity")
    for model, both in pairs.items():
        if both:
            axes.plot(
                [truth for _, truth in both], [found for found, _ in both], "o",
                color=colour_of(list(pairs), model), alpha=0.75, label=model,
            )  # fmt: skip
    axes.set(xlabel=f"{quantity}, true CT", ylabel=f"{quantity}, reconstruction", aspect="equal")
    figure.legend(fontsize=8, loc="outside right upper")
    return figure


def bland_altman_figure(pairs: Mapping[str, Sequence[tuple[float, float]]], *, quantity: str) -> Figure:
    """Per model: difference (reconstruction minus truth) against the mean, bias and limits of agreement."""
    kept = {model: both for model, both in pairs.items() if both} or {"no values": [(0.0, 0.0)]}
    figure, all_axes = blank(len(kept), width=max(5.0, 3.3 * len(kept)))
    limits = []
    for axes, (model, both) in zip(all_axes, kept.items(), strict=True):
        found, truth = np.asarray(both, dtype=np.float64).T
        difference = found - truth
        axes.plot((found + truth) / 2, difference, "o", color=colour_of(list(kept), model), alpha=0.75)
        bias = float(difference.mean())
        spread = float(difference.std(ddof=1)) if len(both) > 1 else 0.0
        for value, style in ((bias, "-"), (bias - 1.96 * spread, "--"), (bias + 1.96 * spread, "--")):
            axes.axhline(value, color="black", linestyle=style, linewidth=1)
        limits += [abs(bias) + 2.2 * spread, float(np.abs(difference).max()) * 1.1]
        axes.set(title=model, xlabel=f"mean {quantity}")
    all_axes[0].set_ylabel(f"{quantity}: reconstruction - truth")
    for axes in all_axes:
        axes.set_ylim(-max([*limits, 1e-6]), max([*limits, 1e-6]))
    return figure


def example_figure(
    rows: Sequence[PerCase], planes: Mapping[tuple[str, str], Path], *, model: str, metric: str, spacing_mm: float
) -> Figure:
    """Best, median and worst case of a model by a metric: three planes of truth, estimate and difference.

    Raises:
        InputError: the model has no case with a value.
    """
    own = sorted(
        (row for row in rows if row.model == model and _known(row.metrics.get(metric))),
        key=lambda row: row.metrics[metric] or 0.0,
        reverse=CATALOGUE[metric].higher_is_better is True,
    )
    if not own:
        raise InputError(f"{model} has no case with a value of {metric}")
    picked = {"best": own[0], "median": own[(len(own) - 1) // 2], "worst": own[-1]}
    made = []
    for word, row in picked.items() if len(own) > 2 else list(picked.items())[:1]:
        with np.load(planes[row.case, model], allow_pickle=False) as found:
            pictures = {key: found[key].astype(np.float32) for key in found.files}
        panels = []
        for name, letters in _LETTERS.items():
            truth, estimate = pictures[f"truth_{name}"], pictures[f"estimate_{name}"]
            extent = (truth.shape[0] * spacing_mm, truth.shape[1] * spacing_mm)
            for title, image in ((f"{name}, true", truth), ("reconstructed", estimate)):
                panels.append(Panel(image, extent, title, letters, _WINDOW_HU, key=f"{word} {name} {title}"))
            panels.append(
                Panel(estimate - truth, extent, "difference", letters, _DIFFERENCE_HU, "RdBu_r", f"{word} {name} diff")
            )
        text = f"{label(metric)} {format_value(metric, row.metrics[metric])}"
        made.append(Row(f"{word}: {row.case}", panels, remark=text))
    return compose(made, heading=f"{model}: single cases", footer="Window -1000 to 400 HU; differences -400 to 400 HU.")


def curve_figure(
    curves: Mapping[str, Sequence[tuple[float, float, float | None, float | None]]],
    *,
    x: str,
    y: str,
    identity: bool = False,
    log: bool = False,
) -> Figure:
    """Curves of (x, value, low, high) by model with their intervals as bars."""
    figure, (axes,) = blank(width=8.0, height=4.8)
    for model, points in curves.items():
        if not points:
            continue
        xs, ys = [one[0] for one in points], [one[1] for one in points]
        bars = [[max(0.0, v - (lo if lo is not None else v)) for _, v, lo, _ in points]]
        bars.append([max(0.0, (hi if hi is not None else v) - v) for _, v, _, hi in points])
        base = model.removesuffix(MIRRORED)
        names = list(dict.fromkeys(name.removesuffix(MIRRORED) for name in curves))
        style: dict[str, Any] = {"color": colour_of(names, base), "label": model, "capsize": 3}
        axes.errorbar(xs, ys, yerr=bars, marker="o", linestyle="-" if base == model else ":", **style)
    if identity:
        ends = [0.0, max([one[0] for points in curves.values() for one in points] or [1.0])]
        axes.plot(ends, ends, color="black", linewidth=1, linestyle=":", label="all of it")
    axes.set(xlabel=x, ylabel=y, xscale="symlog" if log else "linear")
    figure.legend(fontsize=8, loc="outside right upper")
    return figure


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
