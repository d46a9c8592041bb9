"""Grey films that are stored as colour: YBR, RGB and palettes; real colour stays refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.uid import RLELossless

from support.dicom_factory import write_film_dicom
from xrecon.errors import InputError
from xrecon.io.dicom.film import read_dicom_film

GREY = np.add.outer(np.arange(24) * 6, np.arange(20) * 5).astype(np.uint8)
EIGHT = {
    "Rows": 24,
    "Columns": 20,
    "BitsAllocated": 8,
    "BitsStored": 8,
    "HighBit": 7,
    "SamplesPerPixel": 3,
    "PlanarConfiguration": 0,
}


def ybr(grey: NDArray[Any], middle: int = 128) -> NDArray[Any]:
    return np.stack([grey, np.full_like(grey, middle), np.full_like(grey, middle)], axis=-1)


def rgb(grey: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(grey[..., None], 3, axis=-1)


@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_RCT", "YBR_ICT"])
def test_uncompressed_ybr(tmp_path: Path, photometric: str) -> None:
    path = write_film_dicom(tmp_path / "a.dcm", ybr(GREY), PhotometricInterpretation=photometric, **EIGHT)
    np.testing.assert_allclose(read_dicom_film(path).pixels, GREY / 255, atol=1e-6)


def test_rgb_and_planes_one_after_the_other(tmp_path: Path) -> None:
    path = write_film_dicom(tmp_path / "a.dcm", rgb(GREY), PhotometricInterpretation="RGB", **EIGHT)
    np.testing.assert_allclose(read_dicom_film(path).pixels, GREY / 255, atol=1e-6)
    planes = np.moveaxis(ybr(GREY), -1, 0).reshape(24, 20, 3)  # the bytes count, not the shape
    by_plane = {**EIGHT, "PlanarConfiguration": 1}
    path = write_film_dicom(tmp_path / "b.dcm", planes, PhotometricInterpretation="YBR_FULL", **by_plane)
    np.testing.assert_allclose(read_dicom_film(path).pixels, GREY / 255, atol=1e-6)


@pytest.mark.parametrize(("photometric", "picture"), [("YBR_FULL", ybr(GREY)), ("RGB", rgb(GREY))])
def test_rle(tmp_path: Path, photometric: str, picture: NDArray[np.uint8]) -> None:
    path = write_film_dicom(tmp_path / "a.dcm", picture, PhotometricInterpretation=photometric, **EIGHT)
    import pydicom

    data = pydicom.dcmread(path)
    data.compress(RLELossless, generate_instance_uid=False)
    data.save_as(tmp_path / "rle.dcm", enforce_file_format=True)
    np.testing.assert_allclose(read_dicom_film(tmp_path / "rle.dcm").pixels, GREY / 255, atol=1e-6)


@pytest.mark.parametrize(("photometric", "shown"), [("YBR_FULL", "chroma"), ("RGB", "tint")])
def test_colour_is_refused(tmp_path: Path, photometric: str, shown: str) -> None:
    picture = ybr(GREY) if shown == "chroma" else rgb(GREY)
    picture[4:12, 4:12, 2] = 250
    path = write_film_dicom(tmp_path / "a.dcm", picture, PhotometricInterpretation=photometric, **EIGHT)
    with pytest.raises(InputError, match="a colour picture"):
        read_dicom_film(path)


def palette(path: Path, red: NDArray[np.uint16], green: NDArray[np.uint16]) -> Path:
    tables: dict[str, Any] = {}
    for name, table in (("Red", red), ("Green", green), ("Blue", red)):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tables[f"{name}PaletteColorLookupTableData"] = table.astype("<u2").tobytes()
    tables |= {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PhotometricInterpretation": "PALETTE COLOR"}
    return write_film_dicom(path, GREY, **tables)


def test_a_palette_is_applied(tmp_path: Path) -> None:
    table = (65535 - np.arange(256) * 257).astype(np.uint16)
    film = read_dicom_film(palette(tmp_path / "a.dcm", table, table))
    np.testing.assert_allclose(film.pixels, 1 - GREY / 255, atol=1e-4)
    with pytest.raises(InputError, match="a colour picture"):
        read_dicom_film(palette(tmp_path / "b.dcm", table, table[::-1]))
