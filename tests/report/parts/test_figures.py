"""Figures: orientation of what is displayed, panels, windows, notice, files."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from xrecon.errors import InputError, OutputExistsError
from xrecon.report.parts.figures import (
    CT_WINDOW_HU,
    central_planes,
    film_figure,
    planes_figure,
    projection_figure,
    reconstruction_preview,
    save_figure,
    support_figure,
)
from xrecon.volume import RESEARCH_NOTICE, Volume

DPI = 60


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.texts] + [t.get_text() for axes in figure.axes for t in axes.texts]


def named(figure: Figure) -> dict[str, Axes]:
    return {str(axes.get_label()): axes for axes in figure.axes if axes.get_images()}


def pixels(figure: Figure, axes: Axes) -> np.ndarray:
    """Grey levels 0..255 that are really drawn inside the axes, without the letters at its border."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    page = np.asarray(Image.open(buffer).convert("L"), dtype=float)
    left, bottom, width, height = axes.get_position().bounds
    rows, cols = page.shape
    box = page[
        round(rows * (1 - bottom - height)) : round(rows * (1 - bottom)),
        round(cols * left) : round(cols * (left + width)),
    ]
    r, c = box.shape
    return box[int(0.15 * r) : int(0.85 * r), int(0.12 * c) : int(0.88 * c)]


def marked(corner: tuple[int, int, int]) -> np.ndarray:
    """Air with a dense bar through the canonical point `corner`, long enough to cross all central planes."""
    d, h, w = corner
    hu = np.full((16, 20, 24), -1000.0, np.float32)
    hu[d, h, :] = hu[d, :, w] = hu[:, h, w] = 300.0
    return hu


def centroid(image: np.ndarray) -> tuple[float, float]:
    """Brightness-weighted (row, column), 0..1."""
    weight = image - image.min()
    rows, cols = np.indices(image.shape)
    total = weight.sum()
    return float((weight * rows).sum() / total / image.shape[0]), float((weight * cols).sum() / total / image.shape[1])


def block(where: tuple[slice, slice, slice]) -> np.ndarray:
    hu = np.full((16, 20, 24), -1000.0, np.float32)
    hu[where] = 300.0
    return hu


MIDDLE = slice(None)


@pytest.mark.parametrize(
    ("plane", "where", "expected"),
    [
        ("axial", (MIDDLE, slice(4, 7), slice(5, 9)), ("top", "left")),  # front, patient's right
        ("coronal", (slice(3, 6), MIDDLE, slice(5, 9)), ("top", "left")),  # head, patient's right
        ("sagittal", (slice(3, 6), slice(4, 7), MIDDLE), ("top", "left")),  # head, front
        ("axial", (MIDDLE, slice(13, 16), slice(15, 19)), ("bottom", "right")),
        ("coronal", (slice(10, 13), MIDDLE, slice(15, 19)), ("bottom", "right")),
        ("sagittal", (slice(10, 13), slice(13, 16), MIDDLE), ("bottom", "right")),
    ],
)
def test_the_drawn_pixels_follow_the_radiological_convention(make_reconstruction, plane, where, expected) -> None:
    figure = planes_figure(make_reconstruction(block(where)))
    row, col = centroid(pixels(figure, named(figure)[f"reconstruction {plane}"]))
    assert ("top" if row < 0.45 else "bottom" if row > 0.55 else "middle") == expected[0]
    assert ("left" if col < 0.45 else "right" if col > 0.55 else "middle") == expected[1]


def test_a_volume_stored_in_another_orientation_is_shown_alike() -> None:
    volume = Volume.centred(marked((3, 4, 5)), (12.0, 10.0, 8.0))
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag([-1, 1, -1])
    matrix[:3, 3] = (15, 0, 23)
    turned = Volume(np.ascontiguousarray(volume.hu[::-1, :, ::-1]), volume.affine @ matrix)
    assert not turned.is_canonical
    for plane, image in central_planes(volume).items():
        assert image.max() == 300.0
        np.testing.assert_array_equal(image, central_planes(turned)[plane])


def test_planes_pass_through_the_centre_with_the_axes_of_the_convention(truth) -> None:
    planes = central_planes(truth)
    np.testing.assert_array_equal(planes["coronal"], truth.hu[:, 10, :])
    np.testing.assert_array_equal(planes["sagittal"], truth.hu[:, :, 12])
    np.testing.assert_array_equal(planes["axial"], truth.hu[8])


def test_preview_shows_films_planes_truth_and_difference(make_reconstruction, truth) -> None:
    reconstruction = make_reconstruction()
    figure = reconstruction_preview(reconstruction, truth)
    panels = named(figure)
    rows = ("reconstruction", "truth", "difference")
    expected = {f"{kind} {view}" for kind in ("input", "reprojection") for view in ("pa", "lateral")}
    expected |= {f"{row} {plane}" for row in rows for plane in ("coronal", "sagittal", "axial")}
    assert expected <= set(panels)
    image = panels["difference axial"].get_images()[0]
    np.testing.assert_allclose(image.get_array(), reconstruction.volume.hu[8] - truth.hu[8])
    assert image.get_clim() == (-500.0, 500.0)
    assert panels["truth coronal"].get_images()[0].get_clim() == CT_WINDOW_HU
    assert any("PA, re-projection, residual 12.3 %" in text for text in texts(figure))


def test_a_film_and_its_reprojection_share_one_window_and_letters(make_reconstruction) -> None:
    panels = named(projection_figure(make_reconstruction()))
    for view, letters in (("pa", ["R", "L", "H", "F"]), ("lateral", ["A", "P", "H", "F"])):
        film, again = panels[f"input {view}"], panels[f"reprojection {view}"]
        assert film.get_images()[0].get_clim() == again.get_images()[0].get_clim()
        assert [t.get_text() for t in film.texts] == letters == [t.get_text() for t in again.texts]
    assert panels["input pa"].get_images()[0].get_clim() != panels["input lateral"].get_images()[0].get_clim()


def test_proportions_are_those_of_the_patient(make_reconstruction) -> None:
    figure = planes_figure(make_reconstruction())
    wide, high = figure.get_size_inches()
    panels = named(figure)
    sizes = {"coronal": (16 * 12, 24 * 8), "sagittal": (16 * 12, 20 * 10), "axial": (20 * 10, 24 * 8)}
    scales = []
    for plane, (height_mm, width_mm) in sizes.items():
        _, _, width, height = panels[f"reconstruction {plane}"].get_position().bounds
        scales += [height * high / height_mm, width * wide / width_mm]
    assert scales == pytest.approx([scales[0]] * 6)


def test_every_figure_carries_the_notice(make_reconstruction, truth) -> None:
    reconstruction = make_reconstruction(spread=True)
    figures = [
        reconstruction_preview(reconstruction),
        reconstruction_preview(reconstruction, truth),
        planes_figure(reconstruction),
        projection_figure(reconstruction),
        support_figure(reconstruction),
        film_figure(*reconstruction.films),
    ]
    assert all(RESEARCH_NOTICE in texts(figure) for figure in figures)


def test_support_figure_adds_the_spread_only_if_there_is_one(make_reconstruction) -> None:
    assert set(named(support_figure(make_reconstruction()))) >= {"support axial", "support coronal"}
    assert "spread axial" not in named(support_figure(make_reconstruction()))
    assert "spread axial" in named(support_figure(make_reconstruction(spread=True)))


def test_names_with_dollar_signs_are_drawn_literally(make_reconstruction) -> None:
    figure = planes_figure(make_reconstruction(model=r"$\broken{"))
    figure.savefig(io.BytesIO(), format="png", dpi=DPI)
    assert any(r"$\broken{" in text for text in texts(figure))


def test_saved_png_carries_the_notice_and_is_not_overwritten(make_reconstruction, tmp_path: Path) -> None:
    figure = film_figure(*make_reconstruction().films)
    path = save_figure(figure, tmp_path / "films.png")
    with Image.open(path) as image:
        assert image.text["Description"] == RESEARCH_NOTICE
        assert image.width > 600
    with pytest.raises(OutputExistsError):
        save_figure(figure, path)
    save_figure(figure, path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["films.png"]
    with pytest.raises(InputError, match=r"\.png"):
        save_figure(figure, tmp_path / "films.jpg")


def test_wrong_pairs_are_refused(make_reconstruction, truth) -> None:
    reconstruction = make_reconstruction()
    with pytest.raises(InputError, match="in this order"):
        film_figure(*reversed(reconstruction.films))
    other = truth.resampled((8, 10, 12), truth.spacing_mm)
    with pytest.raises(InputError, match="resample"):
        reconstruction_preview(reconstruction, other)


def test_drawing_leaves_pyplot_alone(make_reconstruction) -> None:
    before = "matplotlib.pyplot" in sys.modules
    reconstruction_preview(make_reconstruction()).savefig(io.BytesIO(), format="png", dpi=30)
    assert ("matplotlib.pyplot" in sys.modules) == before
