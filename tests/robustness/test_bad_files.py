"""Every kind of bad file ends in one InputError that names the file, what is wrong and what to do about it."""

from __future__ import annotations

import gzip
import json
import re
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import xrecon
from support.dicom_factory import anatomy, write_film_dicom, write_series
from xrecon.errors import InputError, XReconError

MENDS = (
    "again", "check", "give", "crop", "correct", "repair", "convert", "export", "unpack", "subtract", "remove", "split",
    "choose", "save", "shrink", "pack", "leave out", "move", "add it",
)  # fmt: skip
"""Words by which a message says what to do."""


def nifti(path: Path, **fields: object) -> Path:
    image = nib.Nifti1Image(anatomy().T.astype(np.int16), np.diag([1.5, 2, 5, 1]))
    raw = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]), check=False)
    for key, value in fields.items():
        header[key] = value
    raw[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(raw)) if path.suffix == ".gz" else bytes(raw))
    return path


def values(path: Path, data: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(data, np.diag([1.5, 2, 5, 1])), path)
    return path


def cut(path: Path, share: float = 0.5) -> Path:
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    return path


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def nan_volume(path: Path) -> Path:
    data = anatomy().T.copy()
    data[3, 4, 5] = np.nan
    return values(path, data)


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def zip_bomb(path: Path) -> Path:
    block = b"\0" * (300 * 2**20)
    return zipped(path, {"bomb.dcm": block})


def series(folder: Path, tag: str) -> Path:
    return write_series(folder, edit=lambda ds, k: delattr(ds, tag) if k == 4 else None)


def folder(path: Path, **files: bytes) -> Path:
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


BAD_VOLUMES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda t: t / "gone.nii.gz", "does not exist"),
    "empty file": (lambda t: write(t / "a.nii", b""), "0 bytes"),
    "text renamed to .nii": (lambda t: write(t / "a.nii", b"patient list\n" * 100), "unknown kind"),
    "text in gzip": (lambda t: write(t / "a.nii.gz", gzip.compress(b"words " * 500)), "no NIfTI inside"),
    "broken magic": (lambda t: nifti(t / "a.nii", magic=b"xyz"), "does not start like a NIfTI"),
    "truncated nii.gz": (lambda t: cut(nifti(t / "a.nii.gz")), "truncated|damaged"),
    "truncated within the header": (lambda t: cut(nifti(t / "a.nii"), 0.012), "truncated|unknown kind"),
    "truncated nii": (lambda t: cut(nifti(t / "a.nii")), "truncated"),
    "gzip without end": (lambda t: cut(nifti(t / "a.nii.gz"), 0.998), "truncated|damaged"),
    "bomb: header claims 27 gigavoxels": (
        lambda t: nifti(t / "a.nii.gz", dim=[3, 3000, 3000, 3000, 1, 1, 1, 1]),
        "limit",
    ),
    "bomb: header claims 1 GB": (
        lambda t: nifti(t / "a.nii.gz", dim=[3, 800, 800, 800, 1, 1, 1, 1]),
        "truncated or hostile",
    ),
    "gzip with endless tail": (
        lambda t: write(t / "a.nii.gz", nifti(t / "a.nii.gz").read_bytes() + gzip.compress(b"\0" * (65 * 2**20))),
        "more data than the header promises",
    ),
    "zip bomb": (lambda t: zip_bomb(t / "a.zip"), "zip bomb"),
    "zip slip": (lambda t: zipped(t / "a.zip", {"../../evil.dcm": b"\0" * 128 + b"DICM"}), "zip slip"),
    "zip without DICOM": (lambda t: zipped(t / "a.zip", {"a.txt": b"x"}), "found no DICOM"),
    "truncated zip": (lambda t: cut(zipped(t / "a.zip", {"a": b"x" * 100})), "zip is damaged"),
    "NaN": (lambda t: nan_volume(t / "a.nii.gz"), "1 of 13440 voxels are NaN"),
    "infinite": (lambda t: values(t / "a.nii", np.where(anatomy().T == 900, np.inf, anatomy().T)), "infinite"),
    "constant": (lambda t: values(t / "a.nii", np.full((8, 8, 8), -1000, np.int16)), "same value -1000"),
    "normalised": (
        lambda t: values(t / "a.nii", np.random.default_rng(0).random((8, 8, 8), dtype=np.float32)),
        "normal",
    ),
    "lost intercept": (lambda t: values(t / "a.nii", (anatomy().T + 1024).astype(np.int16)), "subtract 1024"),
    "8 bit": (lambda t: values(t / "a.nii", (np.arange(512).reshape(8, 8, 8) % 256).astype(np.uint8)), "8-bit"),
    "infinite affine": (lambda t: nifti(t / "a.nii", srow_x=[np.inf, 0, 0, 0]), "finite 4 x 4 affine"),
    "singular affine": (lambda t: nifti(t / "a.nii", srow_x=[0, 2, 0, 0]), "singular"),
    "zero spacing": (lambda t: nifti(t / "a.nii", srow_z=[0, 0, 0, 0]), "spacing of 1.5 x 2 x 0 mm"),
    "spacing of 1e4 mm": (lambda t: nifti(t / "a.nii", srow_z=[0, 0, 1e4, 0]), "10000"),
    "RGB NIfTI": (lambda t: nifti(t / "a.nii", datatype=128, bitpix=24), "datatype"),
    "4-D NIfTI": (lambda t: values(t / "a.nii", np.zeros((4, 4, 4, 3), np.int16)), "save the one volume"),
    "empty folder": (lambda t: folder(t / "a"), "found no DICOM"),
    "folder without DICOM": (lambda t: folder(t / "a", notes=b"text", x=b"\x89PNG"), "found no DICOM"),
    "folder with damaged DICOM": (
        lambda t: folder(t / "a", x=b"\0" * 128 + b"DICM" + b"\xff" * 50),
        "damaged|truncated",
    ),
    "missing RescaleSlope": (lambda t: series(t / "a", "RescaleSlope"), r"RescaleSlope \(0028,1053\) is missing"),
    "missing RescaleIntercept": (lambda t: series(t / "a", "RescaleIntercept"), r"RescaleIntercept .* is missing"),
    "missing position": (lambda t: series(t / "a", "ImagePositionPatient"), r"ImagePositionPatient .* is missing"),
    "missing pixels": (lambda t: series(t / "a", "PixelData"), "PixelData"),
    "an image": (lambda t: png(t / "a.png"), "PNG picture, not a volume"),
    "truncated MHA": (
        lambda t: write(t / "a.mha", b"ObjectType = Image\nNDims = 3\nDimSize = 9 9 9\n"),
        "damaged|truncated",
    ),
    "NRRD of words": (lambda t: write(t / "a.nrrd", b"NRRD0004\nnonsense\n\n"), "damaged"),
}


def png(path: Path) -> Path:
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20)).save(path)
    return path


def png_bomb(path: Path, side: int) -> Path:
    """A PNG of a few bytes whose header claims side x side pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return write(
        path, b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )


def pages(path: Path) -> Path:
    page = Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20) % 200)
    page.save(path, save_all=True, append_images=[page])
    return path


def image(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def colour() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (20, 20, 3)).astype(np.uint8)


def bad_side_car(path: Path) -> Path:
    (path.with_suffix(".json")).write_text(json.dumps({"schema": "xrecon-film/1"}))
    return png(path)


BAD_FILMS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda t: t / "gone.png", "does not exist"),
    "folder": (lambda t: folder(t / "a"), "expected a file"),
    "empty file": (lambda t: write(t / "a.png", b""), "0 bytes"),
    "text renamed": (lambda t: write(t / "a.png", b"words"), "unknown kind"),
    "truncated PNG": (lambda t: cut(png(t / "a.png")), "damaged or truncated"),
    "truncated JPEG": (lambda t: cut(image(t / "a.jpg", colour()[..., 0])), "damaged or truncated"),
    "truncated TIFF": (lambda t: cut(image(t / "a.tiff", colour()[..., 0])), "damaged or truncated"),
    "PNG bomb": (lambda t: png_bomb(t / "a.png", 60_000), "limit"),
    "PNG bomb just above our limit": (lambda t: png_bomb(t / "a.png", 13_000), "limit"),
    "PNG of no size": (lambda t: png_bomb(t / "a.png", 0), "damaged|every axis"),
    "several pages": (lambda t: pages(t / "a.tiff"), "2 pages"),
    "several frames": (lambda t: pages(t / "a.png"), "2 pages"),
    "colour (3-D) PNG": (lambda t: image(t / "a.png", colour()), "colour picture"),
    "constant": (lambda t: image(t / "a.png", np.full((20, 20), 7, np.uint8)), "same value"),
    "tiny": (lambda t: image(t / "a.png", np.eye(3, dtype=np.uint8)), "only 3 x 3 pixels"),
    "NaN": (lambda t: image(t / "a.tiff", np.full((20, 20), np.nan, np.float32)), "NaN"),
    "CMYK": (lambda t: _cmyk(t / "a.jpg"), "'CMYK' is not supported"),
    "bad side-car": (lambda t: bad_side_car(t / "a.png"), "a.json"),
    "a volume": (lambda t: nifti(t / "a.nii.gz"), "is a volume"),
    "a CT slice": (lambda t: next(write_series(t / "a").iterdir()), "load_ct"),
    "DICOM with a broken number": (
        lambda t: write_film_dicom(
            t / "a.dcm", np.arange(400, dtype=np.uint16).reshape(20, 20), PixelSpacing=[0.1] * 3
        ),
        r"PixelSpacing \(0028,0030\)",
    ),
    "DICOM truncated": (
        lambda t: cut(write_film_dicom(t / "a.dcm", np.arange(40_000, dtype=np.uint16).reshape(200, 200))),
        "truncated or damaged|damaged or truncated",
    ),
}


def _cmyk(path: Path) -> Path:
    Image.fromarray(colour()).convert("CMYK").save(path)
    return path


def assert_helpful(error: InputError, path: Path, words: str) -> None:
    message = str(error)
    assert path.stem in message, "names the file"
    assert any(mend in message for mend in MENDS), f"says what to do: {message}"
    assert "SECRET" not in message
    assert re.search(words, message), message


@pytest.mark.parametrize("name", BAD_VOLUMES)
def test_bad_volume(tmp_path: Path, name: str) -> None:
    make, words = BAD_VOLUMES[name]
    path = make(tmp_path)
    with pytest.raises(InputError) as caught:
        xrecon.load_ct(path)
    assert_helpful(caught.value, path, words)


@pytest.mark.parametrize("name", BAD_FILMS)
def test_bad_film(tmp_path: Path, name: str) -> None:
    make, words = BAD_FILMS[name]
    path = make(tmp_path)
    with pytest.raises(InputError) as caught:
        xrecon.load_radiograph(path, "pa")
    assert_helpful(caught.value, path, words)


@pytest.mark.parametrize(
    "name", ["bomb: header claims 1 GB", "bomb: header claims 27 gigavoxels", "gzip with endless tail"]
)
def test_bombs_allocate_nothing(tmp_path: Path, name: str) -> None:
    path = BAD_VOLUMES[name][0](tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            xrecon.load_ct(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50e6


@pytest.mark.parametrize("kind", ["film.dcm", "film.png", "film.tiff", "film.jpg", "ct.nii", "series"])
def test_random_damage_never_leaks_another_error(tmp_path: Path, kind: str) -> None:
    """Bytes of the header overwritten at random: either it loads, or the one kind of error names the file."""
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 4000, (24, 20)).astype(np.uint16)
    target = source = tmp_path / kind
    if kind == "film.dcm":
        write_film_dicom(source, pixels, ImagerPixelSpacing=[15, 15], ViewPosition="PA", NumberOfFrames=1)
    elif kind == "series":
        target = sorted(write_series(source, anatomy()[5:11]).iterdir())[2]
    elif kind == "ct.nii":
        nifti(source)
    else:
        image(source, pixels if kind != "film.jpg" else (pixels // 16).astype(np.uint8))
    original = target.read_bytes()
    refused = 0
    for _ in range(60):
        raw = bytearray(original)
        for place in rng.integers(0, min(len(raw), 1200), 4):
            raw[place] = rng.integers(256)
        target.write_bytes(bytes(raw))
        try:
            xrecon.load_radiograph(source, "pa") if kind.startswith("film") else xrecon.load_ct(source)
        except XReconError as error:
            refused += 1
            assert source.name in str(error)
    assert refused > 0
