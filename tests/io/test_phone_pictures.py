"""Pictures of films taken with telephones: several pictures in one JPEG, and the orientation in EXIF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xrecon.errors import InputError
from xrecon.io.image import read_image_film


def picture() -> Image.Image:
    ramp = np.add.outer(np.arange(64) * 2, np.arange(48) * 2).astype(np.uint8)
    return Image.fromarray(np.repeat(ramp[..., None], 3, axis=-1))


def phone(path: Path, *more: Image.Image, **options: Any) -> Path:
    first = picture()
    first.save(path, format="MPO", save_all=True, append_images=list(more), quality=95, **options)
    return path


@pytest.mark.parametrize("count", [1, 3])
def test_the_first_picture_is_read_and_that_is_said(tmp_path: Path, count: int) -> None:
    small = Image.new("RGB", (20, 16), "white")
    film = read_image_film(phone(tmp_path / "a.jpg", *[small] * count))
    np.testing.assert_allclose(film.pixels, np.asarray(picture())[..., 0] / 255, atol=0.03)
    assert any(f"holds {count + 1} pictures" in note and "the first was read" in note for note in film.notes)


def test_exif_orientation_of_several_pictures(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    film = read_image_film(phone(tmp_path / "a.jpg", Image.new("RGB", (20, 16)), exif=exif.tobytes()))
    np.testing.assert_allclose(film.pixels, np.rot90(np.asarray(picture())[..., 0], -1) / 255, atol=0.03)
    assert any("upright" in note for note in film.notes) and any("pictures" in note for note in film.notes)


def test_pages_stay_refused(tmp_path: Path) -> None:
    grey = picture().convert("L")
    grey.save(tmp_path / "a.tiff", save_all=True, append_images=[grey])
    grey.save(tmp_path / "a.png", save_all=True, append_images=[grey.rotate(180)])
    for name in ("a.tiff", "a.png"):
        with pytest.raises(InputError, match="holds 2 pages or frames"):
            read_image_film(tmp_path / name)


def test_a_plain_jpeg_brings_no_note(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.jpg", quality=95)
    assert read_image_film(tmp_path / "a.jpg").notes == ()
