"""DICOM films: inversion, log transform, tags, refusal of what is no film."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.dicom_factory import write_film_dicom, write_series
from xrecon.errors import InputError
from xrecon.io.dicom.film import read_dicom_film


def picture(shape: tuple[int, int] = (30, 20), top: int = 4000) -> np.ndarray:
    """A ramp with a dense (bright) block."""
    image = np.linspace(100, 1000, shape[0] * shape[1]).reshape(shape)
    image[5:9, 3:6] = top
    return image.astype(np.uint16)


def dense_is_bright(pixels: np.ndarray) -> bool:
    return bool(pixels[5:9, 3:6].min() > pixels[0].max())


@pytest.mark.parametrize(
    ("dark", "tags"),
    [
        (False, {}),
        (True, {"PhotometricInterpretation": "MONOCHROME1"}),
        (True, {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}),
        (True, {"PresentationLUTShape": "INVERSE"}),
        (False, {"PresentationLUTShape": "IDENTITY", "PixelIntensityRelationshipSign": -1}),
        (True, {"PixelIntensityRelationshipSign": 1, "PresentationIntentType": "FOR PROCESSING"}),
        (False, {"PixelIntensityRelationshipSign": 1, "PresentationIntentType": "FOR PRESENTATION"}),
    ],
)
def test_inversion(tmp_path: Path, dark: bool, tags: dict[str, Any]) -> None:
    stored = 4095 - picture() if dark else picture()
    film = read_dicom_film(write_film_dicom(tmp_path / "a.dcm", stored, BitsStored=12, HighBit=11, **tags))
    assert dense_is_bright(film.pixels)
    assert film.inverted == dark
    assert any("inverted" in note for note in film.notes) == dark
    assert np.allclose(film.pixels, picture() / 4095, atol=1e-6)


@pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE"])
def test_contradicting_tags_are_said(tmp_path: Path, shape: str) -> None:
    photometric = "MONOCHROME1" if shape == "IDENTITY" else "MONOCHROME2"
    path = write_film_dicom(
        tmp_path / "a.dcm", picture(), PhotometricInterpretation=photometric, PresentationLUTShape=shape
    )
    assert any("contradict" in note for note in read_dicom_film(path).notes)


@pytest.mark.parametrize("sign", [1, -1])
def test_linear_raw_data_are_log_transformed(tmp_path: Path, sign: int) -> None:
    integral = np.linspace(0, 5, 600).reshape(30, 20)
    intensity = np.rint(60000 * np.exp(-integral)).astype(np.uint16)
    stored = intensity if sign == 1 else 65535 - intensity
    film = read_dicom_film(
        write_film_dicom(
            tmp_path / "a.dcm",
            stored,
            PixelIntensityRelationship="LIN",
            PixelIntensityRelationshipSign=sign,
            PresentationIntentType="FOR PROCESSING",
        )
    )
    assert any("log-transformed" in note for note in film.notes)
    assert np.allclose(film.pixels, integral / 5, atol=0.01)


def test_log_raw_data_stay_as_they_are(tmp_path: Path) -> None:
    path = write_film_dicom(
        tmp_path / "a.dcm", picture(), PixelIntensityRelationship="LOG", PresentationIntentType="FOR PROCESSING"
    )
    assert np.allclose(read_dicom_film(path).pixels, picture() / 65535, atol=1e-6)


def test_tags(tmp_path: Path) -> None:
    path = write_film_dicom(
        tmp_path / "a.dcm",
        picture(),
        ViewPosition="LL",
        DistanceSourceToDetector=1830,
        DistanceSourceToPatient=1650,
        ImagerPixelSpacing=[0.143, 0.144],
        PixelSpacing=[0.13, 0.131],
        PixelSpacingCalibrationType="GEOMETRY",
        EstimatedRadiographicMagnificationFactor=1.1,
        PatientOrientation=["P", "F"],
        KVP=120,
        PixelIntensityRelationship="LOG",
        PresentationIntentType="FOR PRESENTATION",
    )
    tags = read_dicom_film(path).tags
    assert tags.view == "lateral"
    assert (tags.source_to_detector_mm, tags.source_to_patient_mm, tags.kvp) == (1830, 1650, 120)
    assert (tags.imager_pixel_mm, tags.pixel_spacing_mm) == ((0.143, 0.144), (0.13, 0.131))
    assert (tags.pixel_spacing_calibration, tags.magnification) == ("GEOMETRY", 1.1)
    assert (tags.patient_orientation, tags.log_relationship, tags.intent) == (("P", "F"), "LOG", "FOR PRESENTATION")


def test_absent_and_empty_tags_are_none(tmp_path: Path) -> None:
    path = write_film_dicom(tmp_path / "a.dcm", picture(), ViewPosition="", ImagerPixelSpacing=[], KVP="")
    tags = read_dicom_film(path).tags
    assert (tags.view, tags.imager_pixel_mm, tags.kvp, tags.patient_orientation) == (None, None, None, None)


def test_padding_is_darkest(tmp_path: Path) -> None:
    image = picture()
    image[:2] = 65535
    path = write_film_dicom(tmp_path / "a.dcm", image, PixelPaddingValue=65535)
    film = read_dicom_film(path)
    assert (film.pixels[:2] == film.pixels[2:].min()).all()
    assert dense_is_bright(film.pixels)


def test_grey_rgb_is_accepted_and_colour_refused(tmp_path: Path) -> None:
    grey = np.repeat((picture() // 16).astype(np.uint8)[..., None], 3, axis=2)

    def write(name: str, pixels: np.ndarray) -> Path:
        tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
        return write_film_dicom(tmp_path / name, pixels, Rows=30, Columns=20, **tags)

    assert dense_is_bright(read_dicom_film(write("a.dcm", grey)).pixels)
    coloured = grey.copy()
    coloured[..., 0] = 255 - coloured[..., 0]
    with pytest.raises(InputError, match="colour"):
        read_dicom_film(write("b.dcm", coloured))


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"Modality": "MG"}, "Modality"),
        ({"Modality": "CT"}, "load_ct"),
        ({"NumberOfFrames": 2, "Rows": 15}, "2 frames"),
        ({"Rows": None}, "Rows|no image"),
        ({"PixelData": b"\0" * 50}, "truncated or damaged"),
        ({"PixelData": b"\7\0" * 600}, "same value 7"),
        ({"ImagerPixelSpacing": [0.1, 0.1, 0.1]}, "ImagerPixelSpacing"),
    ],
)
def test_what_is_no_film_is_refused(tmp_path: Path, tags: dict[str, Any], words: str) -> None:
    path = write_film_dicom(tmp_path / "bad.dcm", picture(), **tags)
    with pytest.raises(InputError, match=words) as caught:
        read_dicom_film(path)
    assert "bad.dcm" in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_a_ct_slice_is_sent_elsewhere(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s")
    with pytest.raises(InputError, match="load_ct"):
        read_dicom_film(folder / "IM0000")
