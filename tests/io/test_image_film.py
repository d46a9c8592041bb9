"""Films from PNG, JPEG and TIFF, and the films that `xrecon simulate` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xrecon.errors import InputError, OutputExistsError
from xrecon.geometry import ConeBeam
from xrecon.io.film_file import FilmFiles, side_car_of, write_film
from xrecon.io.formats import read_film
from xrecon.io.image import read_image_film

RAMP = np.arange(600, dtype=np.float64).reshape(20, 30) / 599


def eight() -> np.ndarray:
    return np.rint(RAMP * 255).astype(np.uint8)


def sixteen() -> np.ndarray:
    return np.rint(RAMP * 65535).astype(np.uint16)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_eight_and_sixteen_bits_are_lossless(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(eight()).save(tmp_path / f"a.{suffix}")
    Image.fromarray(sixteen()).save(tmp_path / f"b.{suffix}")
    assert np.allclose(read_image_film(tmp_path / f"a.{suffix}").pixels, eight() / 255, atol=1e-7)
    assert np.allclose(read_image_film(tmp_path / f"b.{suffix}").pixels, sixteen() / 65535, atol=1e-7)


def test_big_endian_tiff(tmp_path: Path) -> None:
    Image.frombytes("I;16B", (30, 20), sixteen().astype(">u2").tobytes()).save(tmp_path / "a.tiff")
    assert np.allclose(read_image_film(tmp_path / "a.tiff").pixels, sixteen() / 65535, atol=1e-7)


def test_white_is_zero_tiff_is_inverted(tmp_path: Path) -> None:
    Image.fromarray(65535 - sixteen()).save(tmp_path / "a.tiff", tiffinfo={262: 0})
    film = read_image_film(tmp_path / "a.tiff")
    assert np.allclose(film.pixels, sixteen() / 65535, atol=1e-6)
    assert any("white is zero" in note for note in film.notes)


def test_jpeg_grey_and_colour_grey(tmp_path: Path) -> None:
    Image.fromarray(eight()).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(eight()).convert("RGB").save(tmp_path / "b.jpg", quality=95)
    for name in ("a.jpg", "b.jpg"):
        assert np.allclose(read_image_film(tmp_path / name).pixels, RAMP, atol=0.03)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "RGB", "1"])
def test_other_modes_that_are_grey(tmp_path: Path, mode: str) -> None:
    Image.fromarray(eight()).convert(mode, dither=Image.Dither.NONE).save(tmp_path / "a.png")
    expected = (RAMP > 0.5) if mode == "1" else RAMP
    assert np.corrcoef(read_image_film(tmp_path / "a.png").pixels.ravel(), expected.ravel())[0, 1] > 0.6


def test_transparency_is_dropped_and_said(tmp_path: Path) -> None:
    image = Image.fromarray(eight()).convert("LA")
    image.putalpha(100)
    image.save(tmp_path / "a.png")
    film = read_image_film(tmp_path / "a.png")
    assert np.allclose(film.pixels, eight() / 255, atol=1e-7)
    assert any("transparen" in note for note in film.notes)


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying; to be turned by 90 degrees clockwise
    Image.fromarray(eight()).save(tmp_path / "a.png", exif=exif)
    film = read_image_film(tmp_path / "a.png")
    assert np.allclose(film.pixels, np.rot90(eight(), -1) / 255, atol=1e-7)
    assert any("EXIF" in note for note in film.notes)


def test_coloured_picture_is_refused(tmp_path: Path) -> None:
    rgb = np.stack([eight(), eight()[::-1], eight()], axis=2)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: a colour picture"):
        read_image_film(tmp_path / "a.png")


def test_several_pages_are_refused(tmp_path: Path) -> None:
    page = Image.fromarray(eight())
    page.save(tmp_path / "a.tiff", save_all=True, append_images=[page, page])
    with pytest.raises(InputError, match="3 pages"):
        read_image_film(tmp_path / "a.tiff")


def test_float_tiff_without_side_car_is_scaled_and_said(tmp_path: Path) -> None:
    Image.fromarray((RAMP * 7 - 2).astype(np.float32)).save(tmp_path / "a.tiff")
    film = read_image_film(tmp_path / "a.tiff")
    assert np.allclose(film.pixels, RAMP, atol=1e-6)
    assert film.quantity == "display"
    assert any("own range" in note for note in film.notes)


GEOMETRY = ConeBeam.preset("x2ct", "lateral", size=16)
INTEGRALS = np.random.default_rng(0).gamma(2.0, 1.3, (16, 16)).astype(np.float32)


def written(folder: Path, **keywords: Any) -> FilmFiles:
    return write_film(folder / "lat.v1", INTEGRALS, view="lateral", geometry=GEOMETRY, notice="NOTICE", **keywords)


def test_film_file_round_trip_is_exact(tmp_path: Path) -> None:
    files = written(tmp_path / "new", notes=("why",), extra={"seed": 4})
    assert [p.name for p in (files.tiff, files.png, files.json)] == ["lat.v1.tiff", "lat.v1.png", "lat.v1.json"]
    film = read_film(files.tiff)
    assert np.array_equal(film.pixels, INTEGRALS)
    assert (film.quantity, film.geometry, film.tags.view) == ("line_integral", GEOMETRY, "lateral")
    values = json.loads(files.json.read_text())
    assert (values["schema"], values["notice"], values["seed"]) == ("xrecon-film/1", "NOTICE", 4)
    with Image.open(files.tiff) as tiff, Image.open(files.png) as png:
        assert tiff.tag_v2[270] == "NOTICE"
        assert png.text["Comment"] == "NOTICE"


def test_display_png_takes_geometry_from_the_side_car(tmp_path: Path) -> None:
    film = read_film(written(tmp_path).png)
    assert (film.quantity, film.geometry) == ("display", GEOMETRY)
    low, high = np.percentile(INTEGRALS, (0.5, 99.5))
    assert np.allclose(film.pixels, np.clip((INTEGRALS - low) / (high - low), 0, 1), atol=1e-4)


def test_writing_is_all_or_nothing_and_deterministic(tmp_path: Path) -> None:
    first = written(tmp_path)
    content = [p.read_bytes() for p in (first.tiff, first.png, first.json)]
    with pytest.raises(OutputExistsError):
        written(tmp_path)
    first.tiff.unlink()
    with pytest.raises(OutputExistsError, match=r"lat\.v1\.png"):
        written(tmp_path)
    assert not first.tiff.exists()
    again = written(tmp_path, overwrite=True)
    assert [p.read_bytes() for p in (again.tiff, again.png, again.json)] == content


def damage(files: FilmFiles, **changes: Any) -> Path:
    values = {**json.loads(files.json.read_text()), **changes}
    files.json.write_text(json.dumps(values))
    return files.tiff


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": "xrecon-film/9"}, "schema"),
        ({"view": "oblique"}, "view"),
        ({"quantity": "counts"}, "quantity"),
        ({"geometry": None}, "geometry"),
        ({"geometry": {"a": 1}}, "geometry"),
        ({"geometry": ConeBeam.preset("chest", size=9).to_dict()}, "do not belong together"),
        ({"sha256": {"tiff": "0" * 64}}, "sha256"),
    ],
)
def test_damaged_side_cars_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_film(damage(written(tmp_path), **changes))


def test_broken_and_foreign_json(tmp_path: Path) -> None:
    files = written(tmp_path)
    files.json.write_text("{")
    with pytest.raises(InputError, match=r"lat\.v1\.json"):
        read_film(files.tiff)
    files.json.write_text('{"patient": "no film schema"}')
    assert side_car_of(files.tiff) is None
    assert read_film(files.tiff).geometry is None


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("a.bmp", b"BM" + bytes(60), "BMP"),
        ("a.gif", b"GIF89a" + bytes(60), "GIF"),
        ("renamed.png", b"RIFF\0\0\0\0WEBPVP8 " + bytes(60), "WebP"),
        ("phone.heic", b"\0\0\0\x18ftypheic" + bytes(60), "HEIC"),
        ("scan.pdf", b"%PDF-1.7" + bytes(60), "PDF"),
    ],
)
def test_pictures_of_other_kinds_are_named(tmp_path: Path, name: str, head: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(head)
    with pytest.raises(InputError, match=rf"is a {kind}.*not read: export it again; give a film as PNG"):
        read_film(tmp_path / name)


def test_colours_of_few_levels_are_said(tmp_path: Path) -> None:
    few = np.repeat((eight() // 16)[..., None], 3, axis=2)
    Image.fromarray(few).save(tmp_path / "few.png")
    assert any("only 16 grey levels" in note for note in read_image_film(tmp_path / "few.png").notes)
    Image.fromarray(np.repeat(eight()[..., None], 3, axis=2)).save(tmp_path / "all.png")
    assert read_image_film(tmp_path / "all.png").notes == ()
