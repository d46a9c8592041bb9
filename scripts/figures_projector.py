"""The figure of docs/projector.md: source, isocentre and detector of three views, and how a ray is sampled.

Run from the repository: `.venv/bin/python scripts/figures_projector.py`. Positions come from the projector's own rays.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from xrecon.geometry import ConeBeam
from xrecon.projector.backends.lines import lines_of
from xrecon.projector.rays import ray_frame

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "figures" / "projector-geometry.png"
HALF_MM = 179.2
"""Half an edge of the volume: 224 voxels of 1.6 mm."""
UP = np.array([0.0, 0.0, 1.0])
ROWS_COLOUR, COLS_COLOUR, RAY_COLOUR = "C3", "C0", "C1"


def _lps(dhw: Any) -> Any:
    """(d, h, w) mm to LPS (x, y, z) mm."""
    array = np.asarray(dhw)
    return np.stack([array[..., 2], array[..., 1], -array[..., 0]], axis=-1)


def plot_view(axes: Any, view: ConeBeam, title: str, *, azimuth_deg: float) -> None:
    """One view in three dimensions: volume, source, detector with its first pixel and directions, four edge rays."""
    frame = ray_frame(view)
    rows, cols = view.detector_shape
    source = _lps(frame.source)
    pixels = _lps(frame.pixels(rows, cols))
    corners = pixels[[0, 0, -1, -1], [0, -1, -1, 0]]
    axes.add_collection3d(Poly3DCollection([corners], facecolor="0.75", edgecolor="0.3", alpha=0.5))
    _draw_cube(axes)
    for corner in corners:
        axes.plot(*np.stack([source, corner], axis=1), color=RAY_COLOUR, linewidth=0.6)
    axes.plot(*np.stack([source, corners.mean(axis=0)], axis=1), color=RAY_COLOUR, linewidth=1.4)
    axes.scatter(*source, color="k", s=28)
    axes.text(*(source + 35 * UP), "source", fontsize=8, ha="center")
    isocentre = np.asarray(view.translation_mm)
    axes.scatter(*isocentre, color="C2", s=20)
    axes.text(*(isocentre + 22 * UP), "isocentre", fontsize=8, color="C2", ha="center")
    axes.scatter(*corners[0], color="C4", s=18)
    axes.text(*(corners[0] + 0.12 * (corners[0] - corners[2])), "pixel (0, 0)", fontsize=7, color="C4", ha="center")
    for end, colour, name in ((corners[3], ROWS_COLOUR, "rows"), (corners[1], COLS_COLOUR, "cols")):
        axes.quiver(*corners[0], *(0.75 * (end - corners[0])), color=colour, linewidth=1.8, arrow_length_ratio=0.12)
        axes.text(*(corners[0] + 0.85 * (end - corners[0])), name, fontsize=8, color=colour)
    _draw_patient_axes(axes)
    axes.set_title(title, fontsize=10)
    axes.set_xlim(-420, 420)
    axes.set_ylim(-420, 420)
    axes.set_zlim(-420, 420)
    axes.set_box_aspect((1, 1, 1), zoom=1.7)
    axes.view_init(elev=22, azim=azimuth_deg)
    axes.set_axis_off()


def _draw_cube(axes: Any) -> None:
    signs = np.array([-1.0, 1.0]) * HALF_MM
    for a in signs:
        for b in signs:
            axes.plot(signs, [a, a], [b, b], color="0.55", linewidth=0.7)
            axes.plot([a, a], signs, [b, b], color="0.55", linewidth=0.7)
            axes.plot([a, a], [b, b], signs, color="0.55", linewidth=0.7)


def _draw_patient_axes(axes: Any) -> None:
    """Directions of the tensor's axes at the cube's first voxel."""
    start = np.array([-HALF_MM, -HALF_MM, HALF_MM])
    for direction, name in (((0, 0, -1), "D: feet"), ((0, 1, 0), "H: back"), ((1, 0, 0), "W: patient's left")):
        step = 130.0 * np.asarray(direction, dtype=float)
        axes.quiver(*start, *step, color="0.25", linewidth=1.2, arrow_length_ratio=0.15)
        axes.text(*(start + 1.15 * step), name, fontsize=7, color="0.25")


def plot_sampling(axes: Any) -> None:
    """A ray through a small voxel plane: one sample per plane of its dominant axis, weighted with its slab."""
    shape, view = (7, 7, 9), ConeBeam(30.0, 60.0, (3, 3), (4.2, 4.2), angle_deg=24.0, translation_mm=(-3.7, 0.0, 0.0))
    frame = ray_frame(view)
    (lines,) = lines_of(frame, shape, (1.0, 1.0, 1.0), view.detector_shape)
    v0, dv, k0, k1 = (float(lines.values[i, 1, 1]) for i in (2, 3, 4, 5))
    planes, columns = shape[1], shape[2]
    for k in range(planes):
        axes.plot(np.arange(columns), np.full(columns, k), "o", color="0.7", markersize=4)
        axes.axhline(k, color="0.85", linewidth=0.8, zorder=0)
    axes.add_patch(plt.Rectangle((-0.5, -0.5), columns, planes, fill=False, edgecolor="0.4"))
    along = np.array([-1.6, planes + 0.6])
    axes.plot(v0 + along * dv, along, color=RAY_COLOUR, linewidth=1)
    axes.plot(v0 + np.array([k0, k1]) * dv, [k0, k1], color=RAY_COLOUR, linewidth=3, alpha=0.5)
    for k in range(planes):
        share = min(k + 0.5, k1) - max(k - 0.5, k0)
        if share <= 0:
            continue
        position = v0 + k * dv
        inside = float(np.clip(position, 0, columns - 1))  # beyond the outer centres the edge voxels count alone
        left = min(int(inside), columns - 2)
        for voxel in (left, left + 1):
            weight = max(1 - abs(inside - voxel), 0)
            if weight > 0:
                axes.plot([voxel], [k], "o", color="C2", markersize=3 + 7 * weight)
        axes.plot([position], [k], "x", color="k", markersize=7)
        axes.text(columns - 0.2, k, f"{share:.2f}", fontsize=8, va="center")
    axes.text(columns + 0.1, -0.9, "share of slab", fontsize=8, va="center", ha="center")
    axes.text(v0 + k0 * dv, k0 - 0.25, "enters at $k_0$", fontsize=8, ha="right")
    axes.text(v0 + k1 * dv + 0.3, k1 + 0.75, "leaves at $k_1$", fontsize=8, ha="left")
    axes.set(xlim=(-2.0, columns + 1.2), ylim=(planes + 0.4, -1.6), aspect="equal")
    axes.set_title("Joseph sampling, one row of voxels per plane", fontsize=10)
    axes.set_xlabel("second axis, voxels", fontsize=8)
    axes.set_ylabel("planes k of the dominant axis", fontsize=8)
    axes.tick_params(labelsize=7)


def draw(output: Path) -> None:
    """Write the figure."""
    base = ConeBeam(400.0, 700.0, (128, 128), (2.92, 2.92))
    views = (
        (base, "PA: angle 0", -25.0),
        (base.moved(angle_deg=90.0), "Left lateral: angle 90", -62.0),
        (
            base.moved(angle_deg=20.0, tilt_deg=-15.0, roll_deg=12.0, translation_mm=(6.0, -5.0, 8.0)),
            "Angle 20, tilt -15, roll 12, moved",
            -10.0,
        ),
    )
    figure = plt.figure(figsize=(11.0, 9.6), layout="constrained")
    for i, (view, title, azimuth_deg) in enumerate(views):
        plot_view(figure.add_subplot(2, 2, i + 1, projection="3d"), view, title, azimuth_deg=azimuth_deg)
    plot_sampling(figure.add_subplot(2, 2, 4))
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=80)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    draw(parser.parse_args().output)


if __name__ == "__main__":
    main()
