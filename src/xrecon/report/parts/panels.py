"""Layout of grey and colour images in rows on one figure: true proportions, direction letters, the research notice.

Only the object interface of matplotlib is used, so that drawing keeps no global state and is safe in threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.volume import RESEARCH_NOTICE

BACKGROUND, INK, MUTED, NOTICE_FACE, NOTICE_INK = "#101216", "#eef0f3", "#a3acb8", "#ffb300", "#1a1200"

_WIDTH, _NARROWEST, _MARGIN, _GAP, _GUTTER = 12.0, 7.5, 0.25, 0.1, 0.85  # inches
_BAND, _HEADING, _ROW_TITLE, _FOOTER = 0.36, 0.44, 0.5, 0.34
_TALLEST = 4.6

DPI = 130
"""Resolution of the PNG files, pixels per inch."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One image.

    Attributes:
        image: [rows, cols]; row 0 is drawn on top, column 0 on the left.
        extent_mm: size (height, width), mm.
        title: above the image.
        letters: (left, right, top, bottom) directions, such as ("R", "L", "H", "F").
        window: values drawn as the darkest and the brightest colour.
        colours: matplotlib colour map.
        key: name of the axes, to find them again.
    """

    image: NDArray[Any]
    extent_mm: tuple[float, float]
    title: str
    letters: tuple[str, str, str, str]
    window: tuple[float, float]
    colours: str = "gray"
    key: str = ""


@dataclass(frozen=True, eq=False)
class Row:
    """Panels side by side at one scale, with a heading and, if `bar_label` is given, one colour bar for all.

    Attributes:
        title: heading above the row.
        panels: at least one; with a colour bar all share the window and colours of the first.
        remark: smaller text after the heading.
        bar_label: quantity and unit at the colour bar.
        bar_ends: whether values beyond the window occur (low, high); drawn as arrow heads of the bar.
    """

    title: str
    panels: Sequence[Panel]
    remark: str = ""
    bar_label: str = ""
    bar_ends: tuple[bool, bool] = (False, False)


def compose(rows: Sequence[Row], *, heading: str, remark: str = "", footer: str = "") -> Figure:
    """A dark figure of all rows, at most 12 inches wide, with the research notice on its face.

    Raises:
        InputError: no rows, or a row without panels.
    """
    if not rows or not all(row.panels for row in rows):
        raise InputError("a figure needs at least one row with at least one image")
    scales = [_inches_per_mm(row) for row in rows]
    heights = [s * max(p.extent_mm[0] for p in row.panels) for s, row in zip(scales, rows, strict=True)]
    total = _BAND + _HEADING + sum(h + _ROW_TITLE for h in heights) + _FOOTER
    width = max(_NARROWEST, *(_row_width(row, scale) for row, scale in zip(rows, scales, strict=True)))
    figure = Figure(figsize=(width, total), facecolor=BACKGROUND)
    _notice(figure, total)
    top = total - _BAND - _HEADING
    _text(figure, _MARGIN, top + 0.12, heading, size=13, weight="bold")
    _text(figure, width - _MARGIN, top + 0.12, remark, size=9, colour=MUTED, align="right")
    for row, scale, height in zip(rows, scales, heights, strict=True):
        top -= _ROW_TITLE
        _row(figure, row, scale, bottom=top - height, top=top)
        top -= height
    _text(figure, _MARGIN, 0.12, footer, size=8, colour=MUTED)
    return figure


def _frame_width(row: Row) -> float:
    """Inches of a row that are not image."""
    return 2 * _MARGIN + (_GUTTER if row.bar_label else 0) + _GAP * (len(row.panels) - 1)


def _row_width(row: Row, scale: float) -> float:
    return _frame_width(row) + scale * sum(panel.extent_mm[1] for panel in row.panels)


def _inches_per_mm(row: Row) -> float:
    across = (_WIDTH - _frame_width(row)) / sum(panel.extent_mm[1] for panel in row.panels)
    return min(across, _TALLEST / max(panel.extent_mm[0] for panel in row.panels))


def _row(figure: Figure, row: Row, scale: float, *, bottom: float, top: float) -> None:
    """Draw one row between `bottom` and `top` (inches from the figure's lower edge)."""
    _text(figure, _MARGIN, top + 0.26, row.title, size=10.5, weight="bold", extra=row.remark)
    left = _MARGIN
    for panel in row.panels:
        height, width = (scale * mm for mm in panel.extent_mm)
        axes = _axes(figure, left, top - height, width, height)
        axes.set_label(panel.key)
        axes.imshow(
            panel.image,
            cmap=panel.colours,
            vmin=panel.window[0],
            vmax=panel.window[1],
            aspect="auto",  # the axes have the true proportions already
            origin="upper",
            # Smooth when enlarged, as every viewer does; averaged when reduced, or fine structures would alias.
            interpolation="bilinear" if height * DPI >= panel.image.shape[0] else "antialiased",
        )
        _letters(axes, panel.letters)
        _text(figure, left, top + 0.07, panel.title, size=8.5, colour=MUTED)
        left += width + _GAP
    if row.bar_label:
        bar_axes = _axes(figure, left + 0.02, bottom + 0.12, 0.14, top - bottom - 0.24)
        low, high = row.bar_ends
        extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[
            low, high
        ]
        last_image = figure.axes[-2].get_images()[0]
        bar = figure.colorbar(last_image, cax=bar_axes, extend=extend)
        bar.set_label(row.bar_label, color=MUTED, fontsize=8, labelpad=2)
        bar.ax.tick_params(colors=MUTED, labelsize=7.5, length=2)
        bar.outline.set_edgecolor(MUTED)


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches, without ticks."""
    wide, high = (float(v) for v in figure.get_size_inches())
    axes = figure.add_axes((left / wide, bottom / high, width / wide, height / high), facecolor="black")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_edgecolor("#3a404a")
        spine.set_linewidth(0.6)
    return axes


def _letters(axes: Axes, letters: tuple[str, str, str, str]) -> None:
    places = (
        (0.02, 0.5, "left", "center"),
        (0.98, 0.5, "right", "center"),
        (0.5, 0.985, "center", "top"),
        (0.5, 0.015, "center", "bottom"),
    )
    for letter, (x, y, across, along) in zip(letters, places, strict=True):
        text = axes.text(x, y, letter, transform=axes.transAxes, ha=across, va=along, color="#ffe08a", fontsize=9)
        text.set_path_effects([withStroke(linewidth=2, foreground="black")])


def _notice(figure: Figure, total: float) -> None:
    share = _BAND / total
    figure.add_artist(Rectangle((0, 1 - share), 1, share, transform=figure.transFigure, color=NOTICE_FACE))
    figure.text(
        0.5, 1 - share / 2, RESEARCH_NOTICE, ha="center", va="center", color=NOTICE_INK, fontsize=12, fontweight="bold"
    )


def _text(
    figure: Figure,
    x: float,
    y: float,
    words: str,
    *,
    size: float,
    colour: str = INK,
    weight: str = "normal",
    align: str = "left",
    extra: str = "",
) -> None:
    """Text with its baseline at (x, y) inches; never read as mathematics (a file name may hold dollar signs)."""
    wide, high = (float(v) for v in figure.get_size_inches())
    text = figure.text(
        x / wide, y / high, words, ha=align, va="baseline", color=colour, fontsize=size, parse_math=False
    )
    text.set_fontweight(weight)
    if extra:
        behind = Annotation(extra, (1, 0), (10, 0), xycoords=text, textcoords="offset points", va="bottom", color=MUTED)
        behind.set_fontsize(size - 2)
        behind.set_parse_math(False)
        figure.add_artist(behind)


def percentile_window(image: NDArray[Any], low: float = 0.5, high: float = 99.5) -> tuple[float, float]:
    """Grey window between two percentiles of an image; its whole range where these coincide."""
    darkest, brightest = (float(v) for v in np.percentile(image, (low, high)))
    if brightest <= darkest:
        darkest, brightest = float(image.min()), float(image.max())
    return (darkest, brightest) if brightest > darkest else (darkest, darkest + 1.0)
