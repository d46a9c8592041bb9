"""Pictures of films and reconstructions in radiological display: the patient's right on the image's left."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from xrecon.errors import InputError
from xrecon.evaluation.metrics.image import WINDOW_HU
from xrecon.inference.result import Reconstruction
from xrecon.io.output.atomic import atomic_path
from xrecon.radiograph import VIEWS, Radiograph
from xrecon.report.parts.panels import DPI, Panel, Row, compose, percentile_window
from xrecon.volume import RESEARCH_NOTICE, Volume

CT_WINDOW_HU = (-1000.0, 400.0)
"""Grey window of the CT planes: lungs and soft tissue at once."""

DIFFERENCE_HU = 500.0
"""The difference maps run from minus this to plus this."""

VIEW_NAMES = {"pa": "PA", "lateral": "Lateral"}
"""How people call the views."""
_Letters = tuple[str, str, str, str]  # left, right, top, bottom
FILM_LETTERS: dict[str, _Letters] = {"pa": ("R", "L", "H", "F"), "lateral": ("A", "P", "H", "F")}
PLANE_LETTERS: dict[str, _Letters] = {
    "coronal": ("R", "L", "H", "F"),
    "sagittal": ("A", "P", "H", "F"),
    "axial": ("R", "L", "A", "P"),
}
FILM_FOOTER = "R right, L left, A front, P back, H head, F feet of the patient."
_FOOTER = f"{FILM_FOOTER} Planes through the centre of the volume."


def reconstruction_preview(reconstruction: Reconstruction, truth: Volume | None = None) -> Figure:
    """Films beside their re-projections, and three planes of the CT; with a truth also its planes and the difference.

    Raises:
        InputError: the truth is on another grid than the reconstruction.
    """
    rows = [*_film_rows(reconstruction), *_plane_rows(reconstruction.volume, truth)]
    return compose(rows, heading="Synthetic CT from two radiographs", remark=_model(reconstruction), footer=_FOOTER)


def projection_figure(reconstruction: Reconstruction) -> Figure:
    """The two input films, each beside the re-projection of the CT in the same grey window."""
    return compose(
        _film_rows(reconstruction),
        heading="Films",
        remark=_model(reconstruction),
        footer=FILM_FOOTER,
    )


def planes_figure(reconstruction: Reconstruction, truth: Volume | None = None) -> Figure:
    """Three planes of the CT; with a truth also its planes and the difference. Raises InputError as the preview."""
    rows = _plane_rows(reconstruction.volume, truth)
    return compose(rows, heading="CT planes", remark=_model(reconstruction), footer=_FOOTER)


def support_figure(reconstruction: Reconstruction) -> Figure:
    """Three planes of the ray support (share of the films that see the voxel) and of the ensemble's spread, if any."""
    grid = reconstruction.volume
    support = central_planes(grid, reconstruction.support)
    rows = [
        Row(
            "Ray support",
            _panels("support", support, grid, window=(0.0, 1.0), colours="viridis_r"),
            remark="share of the two films whose rays cross the voxel",
            bar_label="share of films",
        )
    ]
    if reconstruction.spread is not None:
        top = percentile_window(reconstruction.spread, 0.0, 99.5)[1]
        spread = central_planes(grid, reconstruction.spread)
        rows.append(
            Row(
                "Spread",
                _panels("spread", spread, grid, window=(0.0, top), colours="magma"),
                remark="standard deviation over the members of the ensemble",
                bar_label="HU",
                bar_ends=(False, True),
            )
        )
    return compose(rows, heading="How far the films reach", remark=_model(reconstruction), footer=_FOOTER)


def film_figure(pa: Radiograph, lateral: Radiograph) -> Figure:
    """PA and lateral film side by side.

    Raises:
        InputError: the films are given in the wrong order.
    """
    if (pa.view, lateral.view) != VIEWS:
        raise InputError(f"expected a PA and a lateral film in this order, got views {pa.view!r} and {lateral.view!r}")
    panels = [_film_panel(film, film, key="input", title=VIEW_NAMES[film.view]) for film in (pa, lateral)]
    remark = "dense tissue is bright"
    return compose([Row("PA and lateral", panels, remark=remark)], heading="Radiographs", footer=FILM_FOOTER)


def central_planes(volume: Volume, values: NDArray[np.float32] | None = None) -> dict[str, NDArray[np.float32]]:
    """The three planes through the centre, oriented for display: row 0 on top, column 0 on the left.

    Args:
        volume: any orientation; permuted and flipped to D feet, H back, W left.
        values: [D, H, W] on the grid of `volume`, drawn in place of its HU.

    Returns: "coronal" [D, W] (head on top, the patient's right on the left), "sagittal" [D, H] (head on top, front on
    the left), "axial" [H, W] (front on top, the patient's right on the left).

    Raises:
        InputError: `values` have another shape than the volume.
    """
    if values is not None:
        volume = volume.with_hu(values)
    hu = (volume if volume.is_canonical else volume.canonical()).hu
    d, h, w = (n // 2 for n in hu.shape)
    return {"coronal": hu[:, h, :], "sagittal": hu[:, :, w], "axial": hu[d, :, :]}


def save_figure(figure: Figure, path: Path, *, overwrite: bool = False) -> Path:
    """Write a PNG whose text chunks carry the research notice; atomic.

    Raises:
        InputError: the name does not end in .png, or the folder cannot be written.
        OutputExistsError: the file exists and `overwrite` is False.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: figures are written as PNG; choose a name that ends in .png")
    with atomic_path(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, facecolor="auto", metadata=png_metadata())
    return path


def preview_png(reconstruction: Reconstruction, truth: Volume) -> bytes:
    """`reconstruction_preview` as the bytes of a PNG whose text chunks carry the research notice."""
    buffer = io.BytesIO()
    figure = reconstruction_preview(reconstruction, truth)
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="auto", metadata=png_metadata())
    return buffer.getvalue()


def png_metadata() -> dict[str, str]:
    """Text chunks of every PNG that xrecon writes."""
    return {"Title": "xrecon", "Description": RESEARCH_NOTICE, "Software": "xrecon"}


def percent(share: float) -> str:
    """A share as text, such as "4.2 %"; "n/a" where it is not finite."""
    return f"{100 * share:.1f} %" if math.isfinite(share) else "n/a"


def _film_rows(reconstruction: Reconstruction) -> list[Row]:
    panels: list[Panel] = []
    for film, again in zip(reconstruction.films, reconstruction.reprojections, strict=True):
        if film.view != again.view:
            raise InputError(f"the {film.view} film is paired with a re-projection of the {again.view} view")
        name = VIEW_NAMES[film.view]
        residual = reconstruction.residual.get(film.view)
        words = "" if residual is None else f", residual {percent(residual.after)}"
        panels.append(_film_panel(film, film, key="input", title=f"{name}, input film"))
        panels.append(_film_panel(again, film, key="reprojection", title=f"{name}, re-projection{words}"))
    return [Row("Input films and re-projections", panels, remark="one grey window per view; dense tissue is bright")]


def _film_panel(film: Radiograph, reference: Radiograph, *, key: str, title: str) -> Panel:
    """`film` in the grey window of `reference`, at its size at the isocentre."""
    rows, cols = film.image.shape
    row_mm, col_mm = film.geometry.pixel_at_isocentre_mm
    return Panel(
        film.image,
        (rows * row_mm, cols * col_mm),
        title,
        FILM_LETTERS[film.view],
        percentile_window(reference.image),
        key=f"{key} {film.view}",
    )


def _plane_rows(volume: Volume, truth: Volume | None) -> list[Row]:
    remark = f"window {CT_WINDOW_HU[0]:.0f} to {CT_WINDOW_HU[1]:.0f} HU"
    estimate = volume if volume.is_canonical else volume.canonical()
    rows = [Row("Reconstruction (synthetic)", _ct("reconstruction", estimate), remark, "HU", (True, True))]
    if truth is None:
        return rows
    true = truth if truth.is_canonical else truth.canonical()
    if true.shape != estimate.shape or not np.allclose(true.spacing_mm, estimate.spacing_mm, atol=1e-3):
        raise InputError(
            f"the truth ({true!r}) is not on the grid of the reconstruction ({estimate!r}): resample it first "
            "(Volume.resampled)"
        )
    difference = central_planes(estimate, np.clip(estimate.hu, *WINDOW_HU) - np.clip(true.hu, *WINDOW_HU))
    limits = (-DIFFERENCE_HU, DIFFERENCE_HU)
    panels = _panels("difference", difference, estimate, window=limits, colours="RdBu_r")
    name = "Truth (synthetic)" if truth.synthetic else "Truth (measured CT)"
    legend = "reconstruction minus truth, both limited to -1024..1476 HU; red is too dense"
    rows.append(Row(name, _ct("truth", true), remark, "HU", (True, True)))
    rows.append(Row("Difference", panels, legend, "HU", (True, True)))
    return rows


def _ct(key: str, volume: Volume) -> list[Panel]:
    return _panels(key, central_planes(volume), volume, window=CT_WINDOW_HU, colours="gray")


def _panels(
    key: str, planes: dict[str, NDArray[np.float32]], grid: Volume, *, window: tuple[float, float], colours: str
) -> list[Panel]:
    grid = grid if grid.is_canonical else grid.canonical()
    d, h, w = (n * s for n, s in zip(grid.shape, grid.spacing_mm, strict=True))
    extents = {"coronal": (d, w), "sagittal": (d, h), "axial": (h, w)}
    return [
        Panel(image, extents[name], name.capitalize(), PLANE_LETTERS[name], window, colours, f"{key} {name}")
        for name, image in planes.items()
    ]


def _model(reconstruction: Reconstruction) -> str:
    """Model and grid in a few words, for the corner of a figure."""
    volume = reconstruction.volume
    grid = f"{'×'.join(map(str, volume.shape))} voxels of {' × '.join(f'{s:.2f}' for s in volume.spacing_mm)} mm"
    name = reconstruction.provenance.get("model")
    return f"model {name}, {grid}" if name else grid
