"""Plots of an evaluation: every case is a point, models keep their colour, and the notice stands on each figure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xrecon.errors import InputError
from xrecon.evaluation.statistics.agreement import Estimate, TooFewPairs, agreement_of
from xrecon.evaluation.summary import pairs_with_baseline, typical_cases, values_of
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
    for panel in axes:
        panel.grid(visible=True, alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(RESEARCH_NOTICE, fontsize=8, color="#8a5a00")
    return figure, list(axes)


def violin_figure(rows: Sequence[PerCase], names: Sequence[str]) -> Figure:
    """One axes per metric: every case as a point, the mean as a bar; the violin from five cases on.

    Raises:
        InputError: none of the metrics has a value.
    """
    models = _models(rows)
    drawable = [name for name in names if any(values_of(rows, name, model=model) for model in models)]
    if not drawable:
        raise InputError(f"no value of {', '.join(names)} to draw")
    figure, all_axes = blank(len(drawable), width=max(5.0, 3.4 * len(drawable)))
    for axes, name in zip(all_axes, drawable, strict=True):
        for position, model in enumerate(models):
            values = values_of(rows, name, model=model)
            colour = colour_of(models, model)
            if len(values) >= 5:
                for body in axes.violinplot([values], positions=[position], showextrema=False)["bodies"]:  # type: ignore[attr-defined]
                    body.set_facecolor(colour)
            spread = np.linspace(-0.1, 0.1, len(values)) if len(values) > 1 else [0.0]
            axes.plot(position + np.asarray(spread), values, "o", color=colour, markersize=5)
            if values:
                axes.hlines(fmean(values), position - 0.3, position + 0.3, color=colour, linewidth=2)
        axes.set_xticks(range(len(models)), models, rotation=25, ha="right")
        axes.set_ylabel(textwrap.fill(label(name), 36))
    return figure


def difference_figure(rows: Sequence[PerCase], names: Sequence[str], *, baseline: str) -> Figure:
    """Per case the difference of every model from the baseline; a line at 0 means no difference."""
    models = _models(rows)
    figure, all_axes = blank(len(names), width=max(5.0, 3.4 * len(names)))
    for axes, name in zip(all_axes, names, strict=True):
        others = [model for model in models if model != baseline]
        for position, model in enumerate(others):
            pairs = pairs_with_baseline(rows, name, model=model, baseline=baseline)
            values = [value - reference for value, reference in pairs]
            axes.plot([position] * len(values), values, "o", color=colour_of(models, model), alpha=0.8)
        axes.axhline(0.0, color="black", linewidth=1)
        axes.set_xticks(range(len(others)), others, rotation=25, ha="right")
        axes.set_ylabel(textwrap.fill(f"{label(name)}, minus {baseline}", 36))
    return figure


def scatter_figure(pairs: Mapping[str, Sequence[tuple[float, float]]], *, quantity: str) -> Figure:
    """Estimate against truth with the line of identity, all models on one axes of equal scales."""
    figure, (axes,) = blank(width=6.2, height=5.6)
    every = [value for points in pairs.values() for pair in points for value in pair] or [0.0, 1.0]
    low, high = min(every), max(every)
    room = 0.05 * (high - low) or 1.0
    axes.plot([low - room, high + room], [low - room, high + room], color="black", linewidth=1, label="identity")
    for model, points in pairs.items():
        if points:
            axes.plot(
                [truth for _, truth in points], [estimate for estimate, _ in points], "o",
                color=colour_of(list(pairs), model), alpha=0.75, label=model,
            )  # fmt: skip
    axes.set(xlabel=f"{quantity}, true CT", ylabel=f"{quantity}, reconstruction", aspect="equal")
    figure.legend(fontsize=8, loc="outside right upper")
    return figure


def bland_altman_figure(pairs: Mapping[str, Sequence[tuple[float, float]]], *, quantity: str) -> Figure:
    """Per model: difference (reconstruction minus truth) against the mean, bias and limits of agreement."""
    drawable = {model: points for model, points in pairs.items() if points} or {"no values": [(0.0, 0.0)]}
    figure, all_axes = blank(len(drawable), width=max(5.0, 3.3 * len(drawable)))
    limits = []
    for axes, (model, points) in zip(all_axes, drawable.items(), strict=True):
        estimate, truth = np.asarray(points, dtype=np.float64).T
        difference = estimate - truth
        axes.plot((estimate + truth) / 2, difference, "o", color=colour_of(list(drawable), model), alpha=0.75)
        bias, spread = _bias_and_spread(points)
        for value, style in ((bias, "-"), (bias - 1.96 * spread, "--"), (bias + 1.96 * spread, "--")):
            axes.axhline(value, color="black", linestyle=style, linewidth=1)
        limits += [abs(bias) + 2.2 * spread, float(np.abs(difference).max()) * 1.1]
        axes.set(title=model, xlabel=f"mean {quantity}")
    all_axes[0].set_ylabel(f"{quantity}: reconstruction - truth")
    for axes in all_axes:
        axes.set_ylim(-max([*limits, 1e-6]), max([*limits, 1e-6]))
    return figure


def _bias_and_spread(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean and standard deviation of estimate minus truth; of a single pair there is no deviation."""
    figures = agreement_of(points)
    if isinstance(figures, TooFewPairs):
        return points[0][0] - points[0][1], 0.0
    return figures.bland_altman.bias.value or 0.0, figures.bland_altman.sd or 0.0


def example_figure(
    rows: Sequence[PerCase], planes: Mapping[tuple[str, str], Path], *, model: str, metric: str, spacing_mm: float
) -> Figure:
    """Best, median and worst case of a model by a metric: three planes of truth, estimate and difference.

    Raises:
        InputError: the model has no case with a value.
    """
    picture_rows = []
    for word, row in typical_cases(rows, metric, model=model).items():
        with np.load(planes[row.case, model], allow_pickle=False) as archive:
            pictures = {key: archive[key].astype(np.float32) for key in archive.files}
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
        picture_rows.append(Row(f"{word}: {row.case}", panels, remark=text))
    footer = "Window -1000 to 400 HU; differences -400 to 400 HU."
    return compose(picture_rows, heading=f"{model}: single cases", footer=footer)


@dataclass(frozen=True)
class CurvePoint:
    """One point of a curve; `low` and `high` are the ends of its interval, None without one."""

    x: float
    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, x: float, estimate: Estimate) -> CurvePoint:
        """The point of a figure at `x`; a figure without a value is drawn at 0."""
        return cls(x, float(estimate.value or 0.0), estimate.low, estimate.high)

    @property
    def bars(self) -> tuple[float, float]:
        """Lengths of the bars below and above the value."""
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        return max(0.0, self.value - low), max(0.0, high - self.value)


def curve_figure(curves: Mapping[str, Sequence[CurvePoint]], *, x: str, y: str, identity: bool = False) -> Figure:
    """Curves by model with their intervals as bars.

    Args:
        curves: model -> its points; a name that ends in `MIRRORED` is drawn dotted, in the colour of the model.
        x: label of the horizontal axis.
        y: label of the vertical axis.
        identity: draw the line on which y is x.
    """
    figure, (axes,) = blank(width=8.0, height=4.8)
    models = list(dict.fromkeys(name.removesuffix(MIRRORED) for name in curves))
    for name, points in curves.items():
        if not points:
            continue
        model = name.removesuffix(MIRRORED)
        style: dict[str, Any] = {"color": colour_of(models, model), "label": name, "capsize": 3}
        axes.errorbar(
            [point.x for point in points],
            [point.value for point in points],
            yerr=list(zip(*(point.bars for point in points), strict=True)),
            marker="o",
            linestyle="-" if model == name else ":",
            **style,
        )
    if identity:
        ends = [0.0, max([point.x for points in curves.values() for point in points] or [1.0])]
        axes.plot(ends, ends, color="black", linewidth=1, linestyle=":", label="all of it")
    axes.set(xlabel=x, ylabel=y)
    figure.legend(fontsize=8, loc="outside right upper")
    return figure


def _models(rows: Sequence[PerCase]) -> list[str]:
    return list(dict.fromkeys(row.model for row in rows))
