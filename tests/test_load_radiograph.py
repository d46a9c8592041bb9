"""Films to Radiograph: hanging, view, distances, pixel pitch, inversion, and notes for all that is assumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from support.dicom_factory import write_film_dicom
from xrecon.errors import InputError
from xrecon.geometry import ConeBeam
from xrecon.radiograph import Radiograph, load_radiograph

PA = {"ViewPosition": "PA", "PatientOrientation": ["L", "F"], "PhotometricInterpretation": "MONOCHROME2"}


def picture() -> np.ndarray:
    """30 x 20; a dense marker at the top left: head, and the patient's right (PA) or front (lateral)."""
    image = np.full((30, 20), 1000, dtype=np.uint16)
    image[:, 8:12] = 2000
    image[2:6, 2:5] = 4000
    return image


def film(path: Path, pixels: np.ndarray | None = None, **tags: Any) -> Path:
    stored = picture() if pixels is None else pixels
    return write_film_dicom(path / "film.dcm", np.ascontiguousarray(stored), **{**PA, **tags})


def png(path: Path) -> Path:
    Image.fromarray((picture() // 16).astype(np.uint8)).save(path / "film.png")
    return path / "film.png"


def marker(radiograph: Radiograph) -> tuple[float, float]:
    row, col = np.unravel_index(np.argmax(radiograph.image), radiograph.image.shape)
    return float(row), float(col)


def said(radiograph: Radiograph, words: str) -> bool:
    return any(words in note for note in radiograph.notes)


def test_full_tags_leave_nothing_assumed(tmp_path: Path) -> None:
    path = film(tmp_path, ImagerPixelSpacing=[12, 15], DistanceSourceToDetector=1500, DistanceSourceToPatient=1350)
    radiograph = load_radiograph(path, "pa")
    geometry = radiograph.geometry
    assert (geometry.source_to_detector_mm, geometry.source_to_isocentre_mm) == (1500, 1350)
    assert (geometry.pixel_mm, geometry.detector_shape, geometry.angle_deg) == ((12, 15), (30, 20), 0)
    assert not said(radiograph, "assumed")
    assert (radiograph.quantity, radiograph.view) == ("display", "pa")


def test_png_has_everything_assumed_and_said(tmp_path: Path) -> None:
    radiograph = load_radiograph(png(tmp_path), view="pa")
    geometry = radiograph.geometry
    assert (geometry.source_to_detector_mm, geometry.source_to_isocentre_mm) == (1800, 1540)
    assert geometry.pixel_at_isocentre_mm == pytest.approx((384 / 30, 384 / 30))
    for words in ("no view", "no orientation", "384 mm at the isocentre", "1800 mm (chest)", "260 mm before"):
        assert said(radiograph, words), words


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (["L", "F"], picture()),
        (["R", "F"], picture()[:, ::-1]),
        (["L", "H"], picture()[::-1]),
        (["R", "H"], picture()[::-1, ::-1]),
        (["F", "L"], picture().T),
        (["H", "R"], picture()[::-1, ::-1].T),
        (["LF", "FR"], picture()),
    ],
)
def test_pa_is_hung_by_patient_orientation(tmp_path: Path, orientation: list[str], stored: np.ndarray) -> None:
    spacing = [10, 15] if stored.shape == (30, 20) else [15, 10]
    radiograph = load_radiograph(
        film(tmp_path, stored, PatientOrientation=orientation, ImagerPixelSpacing=spacing), "pa"
    )
    assert marker(radiograph) == (2, 2)
    assert radiograph.geometry.pixel_mm == (10, 15)
    moved = orientation[0][0] != "L" or orientation[1][0] != "F"
    assert (said(radiograph, "flipped") or said(radiograph, "turned")) == moved


@pytest.mark.parametrize(("front", "stored"), [("P", picture()), ("A", picture()[:, ::-1])])
@pytest.mark.parametrize(("position", "angle", "mirrored"), [("LL", 90, False), ("RL", -90, True)])
def test_lateral_is_hung_with_the_front_on_the_left(
    tmp_path: Path, front: str, stored: np.ndarray, position: str, angle: float, mirrored: bool
) -> None:
    path = film(tmp_path, stored, ViewPosition=position, PatientOrientation=[front, "F"])
    radiograph = load_radiograph(path, "lateral")
    assert marker(radiograph) == (2, 2)
    assert (radiograph.geometry.angle_deg, radiograph.geometry.mirrored) == (angle, mirrored)
    assert said(radiograph, "right lateral") == (position == "RL")


def test_ap_film_gets_the_ap_beam_and_a_note(tmp_path: Path) -> None:
    radiograph = load_radiograph(film(tmp_path, ViewPosition="AP"), "pa")
    assert (radiograph.geometry.angle_deg, radiograph.geometry.mirrored) == (180, True)
    assert said(radiograph, "is AP")


@pytest.mark.parametrize(("position", "view"), [("LL", "pa"), ("RL", "pa"), ("PA", "lateral"), ("AP", "lateral")])
def test_contradicting_view_is_refused(tmp_path: Path, position: str, view: str) -> None:
    with pytest.raises(InputError, match=r"film\.dcm.*ViewPosition.*swap the two films"):
        load_radiograph(film(tmp_path, ViewPosition=position), view)


def test_orientation_contradicting_the_view(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"PatientOrientation .0020,0020. is L\\F"):
        load_radiograph(film(tmp_path, ViewPosition=""), "lateral")
    assert said(load_radiograph(film(tmp_path, PatientOrientation=["P", "F"]), "pa"), "ignored")


def test_unknown_view_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose pa or lateral"):
        load_radiograph(png(tmp_path), "ap")


@pytest.mark.parametrize(
    ("tags", "pixel", "isocentre", "words"),
    [
        ({"ImagerPixelSpacing": [12, 12]}, 12, 1740, "260 mm before"),
        ({"PixelSpacing": [12, 12]}, 12, 1740, "taken as the pitch at the detector"),
        (
            {"PixelSpacing": [12, 12], "PixelSpacingCalibrationType": "FIDUCIAL"},
            12 * 2000 / 1740,
            1740,
            "FIDUCIAL",
        ),
        (
            {"PixelSpacing": [12, 12], "PixelSpacingCalibrationType": "GEOMETRY", "DistanceSourceToPatient": 1600},
            15,
            1600,
            "scaled by the magnification 1.25",
        ),
        ({"ImagerPixelSpacing": [15, 15], "PixelSpacing": [12, 12]}, 15, 1600, "over PixelSpacing"),
        ({"ImagerPixelSpacing": [12, 12], "EstimatedRadiographicMagnificationFactor": 1.25}, 12, 1600, "stated mag"),
        ({"ImagerPixelSpacing": [12, 12], "DistanceSourceToPatient": 2000}, 12, 1740, "does not fit"),
        ({"ImagerPixelSpacing": [12, 12], "DistanceSourceToPatient": 1960}, 12, 1740, "does not fit"),
        ({"ImagerPixelSpacing": [12, 12], "EstimatedRadiographicMagnificationFactor": 30}, 12, 1740, "absurd: ignored"),
        (
            {"ImagerPixelSpacing": [12, 12], "EstimatedRadiographicMagnificationFactor": 0.5},
            12,
            1740,
            "absurd: ignored",
        ),
        (
            {
                "ImagerPixelSpacing": [15, 15],
                "PixelSpacing": [12, 12],
                "EstimatedRadiographicMagnificationFactor": 1.02,
            },
            15,
            1600,
            "cannot lie 39 mm before the detector",
        ),
        (
            {
                "ImagerPixelSpacing": [15, 15],
                "PixelSpacing": [12, 12],
                "EstimatedRadiographicMagnificationFactor": 1.1,
            },
            15,
            2000 / 1.1,
            "is 1.25: check the distances",
        ),
    ],
)
def test_spacing_and_magnification_logic(
    tmp_path: Path, tags: dict[str, Any], pixel: float, isocentre: float, words: str
) -> None:
    radiograph = load_radiograph(film(tmp_path, DistanceSourceToDetector=2000, **tags), "pa")
    assert radiograph.geometry.pixel_mm == pytest.approx((pixel, pixel))
    assert radiograph.geometry.source_to_isocentre_mm == pytest.approx(isocentre)
    assert said(radiograph, words)


@settings(deadline=None, max_examples=25)
@given(st.floats(0, 1e5), st.floats(0, 1e5), st.floats(0, 20))
def test_no_stated_distance_gives_an_impossible_geometry(
    tmp_path_factory: pytest.TempPathFactory, detector: float, patient: float, magnification: float
) -> None:
    path = film(
        tmp_path_factory.mktemp("f"),
        DistanceSourceToDetector=f"{detector:.6g}",
        DistanceSourceToPatient=f"{patient:.6g}",
        EstimatedRadiographicMagnificationFactor=f"{magnification:.6g}",
    )
    geometry = load_radiograph(path, "pa").geometry
    assert 1.0 < geometry.magnification <= 3.0


def test_two_equal_magnifications_are_no_contradiction(tmp_path: Path) -> None:
    tags = {"PixelSpacing": [12, 12], "EstimatedRadiographicMagnificationFactor": 1.26}
    path = film(tmp_path, DistanceSourceToDetector=2000, ImagerPixelSpacing=[15, 15], **tags)
    assert not said(load_radiograph(path, "pa"), "check the distances")


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = film(tmp_path, ImagerPixelSpacing=[14, 7])
    with pytest.raises(InputError, match=r"film\.dcm: ImagerPixelSpacing .*14 mm high and 7 mm wide; .*--pixel-mm"):
        load_radiograph(path, "pa")
    assert load_radiograph(path, "pa", pixel_mm=12).geometry.pixel_mm == (12, 12)
    assert said(load_radiograph(film(tmp_path, ImagerPixelSpacing=[12, 11]), "pa"), "not square")
    assert not said(load_radiograph(film(tmp_path, ImagerPixelSpacing=[12, 12]), "pa"), "not square")


@pytest.mark.parametrize(("mode", "levels"), [("1", 2), ("L", 4)])
def test_a_dithered_or_posterised_picture_is_said_to_be_one(tmp_path: Path, mode: str, levels: int) -> None:
    ramp = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    picture = Image.fromarray(ramp).convert("1") if mode == "1" else Image.fromarray(ramp // 64 * 64)
    picture.save(tmp_path / "few.png")
    assert said(load_radiograph(tmp_path / "few.png", "pa"), f"only {levels} grey levels")
    Image.fromarray(ramp).save(tmp_path / "many.png")
    assert not said(load_radiograph(tmp_path / "many.png", "pa"), "grey levels")


def test_absurd_spacing_is_refused_unless_overridden(tmp_path: Path) -> None:
    path = film(tmp_path, ImagerPixelSpacing=[0, 0])
    with pytest.raises(InputError, match=r"film\.dcm: ImagerPixelSpacing .0018,1164. .*pixel_mm"):
        load_radiograph(path, "pa")
    assert load_radiograph(path, "pa", pixel_mm=0.3).geometry.pixel_mm == (0.3, 0.3)
    with pytest.raises(InputError, match="pixel_mm"):
        load_radiograph(path, "pa", pixel_mm=-1)


def test_inversion_can_be_overridden(tmp_path: Path) -> None:
    plain = load_radiograph(png(tmp_path), "pa")
    assert marker(plain) == (2, 2)
    inverted = load_radiograph(png(tmp_path), "pa", invert=True)
    assert np.allclose(inverted.image, 1 - plain.image)
    dark = film(tmp_path, 4095 - picture(), PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    assert marker(load_radiograph(dark, "pa")) == (2, 2)
    assert np.array_equal(load_radiograph(dark, "pa", invert=True).image, load_radiograph(dark, "pa").image)
    assert marker(load_radiograph(dark, "pa", invert=False)) != (2, 2)


def test_mirror_flips_once(tmp_path: Path) -> None:
    plain, mirrored = load_radiograph(png(tmp_path), "pa"), load_radiograph(png(tmp_path), "pa", mirror=True)
    assert np.array_equal(mirrored.image, plain.image[:, ::-1])
    assert said(mirrored, "mirrored")


def test_given_geometry_is_the_fallback(tmp_path: Path) -> None:
    geometry = replace(ConeBeam.preset("chest", size=60), detector_shape=(60, 40), tilt_deg=3.0, name="mine")
    radiograph = load_radiograph(png(tmp_path), "pa", geometry=geometry)
    assert radiograph.geometry == geometry.with_detector((30, 20))
    assert said(radiograph, "fill the detector of mine")
    with pytest.raises(InputError, match="of another shape"):
        load_radiograph(png(tmp_path), "pa", geometry=replace(geometry, detector_shape=(60, 50)))
    with pytest.raises(InputError, match="no lateral view"):
        load_radiograph(png(tmp_path), "lateral", geometry=geometry)
    ap = load_radiograph(
        film(tmp_path, ViewPosition="AP", ImagerPixelSpacing=[10, 10]), "pa", geometry=geometry
    ).geometry
    assert (ap.angle_deg, ap.mirrored, ap.tilt_deg) == (180, True, 3.0)


@pytest.mark.parametrize("quantity", ["line_integral", "display"])
def test_saved_films_come_back_exactly(tmp_path: Path, quantity: Any) -> None:
    geometry = ConeBeam.preset("x2ct", "lateral", size=12).moved(angle_deg=-4.5, translation_mm=(1, 2, 3))
    image = np.random.default_rng(0).random((12, 12), dtype=np.float32) * (6 if quantity == "line_integral" else 1)
    original = Radiograph(image, "lateral", geometry, quantity=quantity)
    path = original.save(tmp_path / "out" / "lat")
    again = load_radiograph(path, "lateral")
    assert np.array_equal(again.image, original.image)
    assert (again.geometry, again.quantity, again.view) == (geometry, quantity, "lateral")
    png_film = load_radiograph(path.with_suffix(".png"), "lateral")
    assert (png_film.geometry, png_film.quantity) == (geometry, "display")
    assert np.corrcoef(png_film.image.ravel(), image.ravel())[0, 1] > 0.99
    with pytest.raises(InputError, match="side-car"):
        load_radiograph(path, "pa")
    if quantity == "line_integral":
        with pytest.raises(InputError, match="leave out invert"):
            load_radiograph(path, "lateral", invert=True)


@pytest.mark.data
def test_real_films_load_with_notes(shared_data: Path) -> None:
    paths = sorted((shared_data / "xray").glob("pair_*_*.png"))[:6]
    for path in paths:
        radiograph = load_radiograph(path, path.stem.split("_")[-1])
        assert radiograph.notes
        assert 0 <= radiograph.image.min() < radiograph.image.max() <= 1
    assert paths
