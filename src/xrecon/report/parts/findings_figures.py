"""Pictures of lungs and free air over the CT: three planes, and where the measures were taken."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.quantify.canonical import ChestFrame, canonical_axes, chest_frame
from xrecon.quantify.findings import Findings
from xrecon.quantify.measures import SideMeasures
from xrecon.quantify.silhouette import silhouettes
from xrecon.report.parts.figures import CT_WINDOW_HU
from xrecon.report.parts.panels import INK, Panel, Row, compose
from xrecon.segmentation import Label, Segmentation
from xrecon.volume import Volume

COLOURS = {"right lung": "#56b4e9", "left lung": "#2fbf71", "free air": "#ff5c5c"}
"""Outline of the patient's right and left lung, and fill of the free air; told apart by the colour-blind too."""
_MEASURE = "#ffd54a"
_AXES = {"axial": 0, "coronal": 1, "sagittal": 2}
_LETTERS = {"axial": ("R", "L", "A", "P"), "coronal": ("R", "L", "H", "F"), "sagittal": ("A", "P", "H", "F")}
_FOOTER = "R right, L left, A front, P back, H head, F feet of the patient."
_NOTICE_INCHES = 0.36
_BAR_MM = 50.0


@dataclass(frozen=True, eq=False)
class _Scene:
    """CT and labels in canonical axes, as views."""

    hu: NDArray[np.float32]
    labels: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    frame: ChestFrame | None

    @cached_property
    def places(self) -> dict[str, int]:
        """Slice of each plane: the one with most free air; without air the middle of the lungs or of the scan."""
        air = self.labels == Label.AIR
        has_air = bool(air.any())
        region = air if has_air else self.labels > 0
        places = {}
        for name, axis in _AXES.items():
            counts = np.count_nonzero(region, axis=tuple(a for a in range(3) if a != axis))
            middle = int(np.median(np.flatnonzero(counts))) if counts.any() else counts.size // 2
            places[name] = int(np.argmax(counts)) if has_air else middle
        return places

    def plane(self, name: str, values: NDArray[Any], place: int | None = None) -> NDArray[Any]:
        return cast("NDArray[Any]", values.take(self.places[name] if place is None else place, axis=_AXES[name]))

    def extent_mm(self, name: str) -> tuple[float, float]:
        rows, cols = (
            n * s for i, (n, s) in enumerate(zip(self.hu.shape, self.spacing_mm, strict=True)) if i != _AXES[name]
        )
        return rows, cols

    def index_of(self, lps_mm: tuple[float, float, float]) -> NDArray[np.float64]:
        """Canonical voxel index (d, h, w) of a point in LPS mm."""
        assert self.frame is not None
        inside = np.linalg.solve(self.frame.affine[:3, :3], np.asarray(lps_mm) - self.frame.affine[:3, 3])
        return np.asarray(inside + self.frame.first, dtype=np.float64)


def preview_figure(ct: Volume, segmentation: Segmentation, *, remark: str = "") -> Figure:
    """Three planes through the largest section of free air, plain and with the labels drawn over them.

    Radiological display: the patient's right on the image's left. Lungs are outlined, free air is filled.

    Raises:
        InputError: CT and segmentation are on different grids.
    """
    scene = _scene(ct, segmentation)
    plain = [_ct_panel(scene, name, f"plain {name}", name.capitalize()) for name in _AXES]
    labelled = [
        _ct_panel(scene, name, f"labels {name}", f"{name.capitalize()}, slice {place + 1} of {scene.hu.shape[axis]}")
        for (name, axis), place in zip(_AXES.items(), scene.places.values(), strict=True)
    ]
    window = f"window {CT_WINDOW_HU[0]:.0f} to {CT_WINDOW_HU[1]:.0f} HU"
    through = "largest section of free air" if (scene.labels == Label.AIR).any() else "middle of the lungs; no free air"
    rows = [Row("CT with labels", labelled, f"{window}; planes through the {through}"), Row("CT", plain, window)]
    figure = compose(rows, heading="Lungs and free pleural air", footer=f"{_FOOTER} {remark}".strip())
    for name in _AXES:
        axes = _axes_of(figure, f"labels {name}")
        _draw_labels(axes, scene.plane(name, scene.labels))
        for labelled_or_plain in (axes, _axes_of(figure, f"plain {name}")):
            _scale_bar(labelled_or_plain, scene.extent_mm(name))
    _legend(figure)
    return figure


def measurement_figure(ct: Volume, segmentation: Segmentation, findings: Findings) -> Figure | None:
    """Where the measures were taken, on the side with more free air; None without air.

    Left, the axial slice with the largest radial depth, drawn as its projection on the slice; right, the frontal
    projection with the distances of the Collins index and the rim at the hilum level.

    Raises:
        InputError: CT and segmentation are on different grids.
    """
    scene = _scene(ct, segmentation)
    side = findings.fuller_side
    if side is None or scene.frame is None:
        return None
    panels = []
    depth = side.radial_depth
    if depth is not None:
        ends = np.stack([scene.index_of(depth.inner_lps_mm), scene.index_of(depth.wall_lps_mm)])
        place = int(np.clip(round(float(ends[:, 0].mean())), 0, scene.hu.shape[0] - 1))
        title = f"Axial, slice {place + 1}: radial depth {depth.depth_mm:.1f} mm in 3-D, projected on the slice"
        panels.append(_ct_panel(scene, "axial", "depth", title, place))
    film = np.clip(scene.hu, -1000.0, 400.0).mean(axis=1)
    low, high = (float(v) for v in np.percentile(film, (1, 99)))
    window = (low, max(high, low + 1.0))
    panels.append(
        Panel(film, scene.extent_mm("coronal"), "Frontal projection", _LETTERS["coronal"], window, key="film")
    )
    figure = compose(
        [Row(f"Measures, {side.side} side", panels)], heading="Where the measures were taken", footer=_FOOTER
    )
    if depth is not None:
        axes = _axes_of(figure, "depth")
        _draw_labels(axes, scene.plane("axial", scene.labels, place))
        _line(axes, ends[0, [2, 1]], ends[1, [2, 1]], f"{depth.depth_mm:.0f} mm")
        _scale_bar(axes, scene.extent_mm("axial"))
    axes = _axes_of(figure, "film")
    _draw_projection(axes, scene, side)
    _scale_bar(axes, scene.extent_mm("coronal"))
    _legend(figure)
    return figure


def _scene(ct: Volume, segmentation: Segmentation) -> _Scene:
    if ct.shape != segmentation.shape or not np.allclose(ct.affine, segmentation.affine, atol=1e-3):
        raise InputError(
            f"CT and segmentation must share one grid, got shapes {ct.shape} and {segmentation.shape}"
            + ("" if ct.shape != segmentation.shape else " with different affines")
        )
    order, flips = canonical_axes(ct.affine)
    turn = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    d, h, w = (ct.spacing_mm[axis] for axis in order)
    hu, labels = ct.hu.transpose(order)[turn], segmentation.labels.transpose(order)[turn]
    return _Scene(hu, labels, (d, h, w), chest_frame(segmentation))


def _ct_panel(scene: _Scene, name: str, key: str, title: str, place: int | None = None) -> Panel:
    image = scene.plane(name, scene.hu, place)
    return Panel(image, scene.extent_mm(name), title, _LETTERS[name], CT_WINDOW_HU, key=key)


def _axes_of(figure: Figure, key: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_label() == key)


def _draw_labels(axes: Axes, labels: NDArray[np.uint8]) -> None:
    """Fill the air, outline the lungs."""
    air = labels == Label.AIR
    if air.any():
        fill = np.zeros((*air.shape, 4))
        fill[air] = (*_rgb(COLOURS["free air"]), 0.45)
        axes.imshow(fill, aspect="auto", origin="upper", interpolation="nearest")
    for label, name in ((Label.RIGHT_LUNG, "right lung"), (Label.LEFT_LUNG, "left lung"), (Label.AIR, "free air")):
        _outline(axes, labels == label, COLOURS[name])


def _outline(axes: Axes, mask: NDArray[np.bool_], colour: str, *, style: str = "solid") -> None:
    if mask.any() and not mask.all():
        axes.contour(mask.astype(np.float32), levels=[0.5], colors=[colour], linewidths=1.1, linestyles=style)


def _draw_projection(axes: Axes, scene: _Scene, side: SideMeasures) -> None:
    """Silhouettes of cavity (dashed) and lung of the measured side, and the distances taken between them."""
    assert scene.frame is not None
    chest = scene.frame.hemithorax(side.side)
    assert chest is not None  # it was measured
    shadow = silhouettes(chest)
    top, first = chest.first[0] + scene.frame.first[0], chest.first[2] + scene.frame.first[2]
    for mask, colour, style in (
        (shadow.cavity, COLOURS["free air"], "dashed"),
        (shadow.lung, COLOURS[f"{side.side} lung"], "solid"),
    ):
        whole = np.zeros((scene.hu.shape[0], scene.hu.shape[2]), dtype=bool)
        whole[top : top + mask.shape[0], first : first + mask.shape[1]] = mask
        _outline(axes, whole, colour, style=style)
    levels = [(side.hilum_level_z_mm, "hilum", side.rim_at_hilum_mm)]
    if side.collins is not None:
        levels += [
            (side.collins.level_b_z_mm, "B", side.collins.b_cm * 10),
            (side.collins.level_c_z_mm, "C", side.collins.c_cm * 10),
        ]
    for z_mm, name, length in levels:
        if length is None:
            continue
        row = _row_at(scene.frame, z_mm) - top
        edge = _lateral_edge(shadow.lung, row, low=shadow.lateral_is_low)
        if edge is not None:
            away = -length / scene.spacing_mm[2] * (1 if shadow.lateral_is_low else -1)
            _line(axes, (first + edge, top + row), (first + edge + away, top + row), f"{name} {length:.0f} mm")
    rows = shadow.rows(shadow.lung)
    if side.collins is not None and rows is not None:
        column = first + float(np.flatnonzero(shadow.lung[rows[0]]).mean())
        rise = side.collins.a_cm * 10 / scene.spacing_mm[0]
        start = top + rows[0]
        _line(axes, (column, start), (column, start - rise), f"A {side.collins.a_cm * 10:.0f} mm")


def _row_at(frame: ChestFrame, z_mm: float) -> int:
    """Canonical slice at a height in the middle of the box; the slice axis is all but vertical."""
    middle = np.array([0.0, frame.labels.shape[1] / 2, frame.labels.shape[2] / 2])
    start = float(frame.affine[2, :3] @ middle + frame.affine[2, 3])
    return round((z_mm - start) / float(frame.affine[2, 0])) + frame.first[0]


def _lateral_edge(mask: NDArray[np.bool_], row: int, *, low: bool) -> float | None:
    used = np.flatnonzero(mask[row]) if 0 <= row < mask.shape[0] else np.array([], dtype=np.int64)
    if used.size == 0:
        return None
    return float(used[0]) - 0.5 if low else float(used[-1]) + 0.5


def _line(axes: Axes, start: Any, end: Any, words: str) -> None:
    (x0, y0), (x1, y1) = start, end
    axes.plot([x0, x1], [y0, y1], color=_MEASURE, linewidth=1.6, marker="|", markersize=5, scalex=False, scaley=False)
    text = axes.annotate(
        words, ((x0 + x1) / 2, (y0 + y1) / 2), (4, 5), textcoords="offset points", color=_MEASURE, fontsize=8
    )
    text.set_path_effects([withStroke(linewidth=2, foreground="black")])


def _scale_bar(axes: Axes, extent_mm: tuple[float, float]) -> None:
    """A bar of 5 cm at the lower right."""
    share = _BAR_MM / extent_mm[1]
    axes.plot(
        [0.97 - share, 0.97], [0.035, 0.035], transform=axes.transAxes, color="white", linewidth=2.2,
        path_effects=[withStroke(linewidth=4, foreground="black")], scalex=False, scaley=False,
    )  # fmt: skip
    text = axes.text(
        0.97 - share / 2, 0.05, f"{_BAR_MM / 10:.0f} cm", transform=axes.transAxes, ha="center", va="bottom",
        color="white", fontsize=7.5,
    )  # fmt: skip
    text.set_path_effects([withStroke(linewidth=2, foreground="black")])


def _legend(figure: Figure) -> None:
    """Colours and their meaning, at the right of the heading."""
    height = float(figure.get_size_inches()[1])
    handles = [
        Patch(facecolor="none" if "lung" in name else colour, edgecolor=colour, label=name)
        for name, colour in COLOURS.items()
    ]
    figure.legend(
        handles=handles, loc="upper right", bbox_to_anchor=(1.0, 1.0 - _NOTICE_INCHES / height), ncol=len(handles),
        frameon=False, labelcolor=INK, fontsize=9,
    )  # fmt: skip


def _rgb(colour: str) -> tuple[float, float, float]:
    r, g, b = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return r, g, b
