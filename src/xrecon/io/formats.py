"""Which reader a file needs, decided by its first bytes and not by its name."""

from __future__ import annotations

from pathlib import Path

from xrecon.errors import InputError
from xrecon.io.guards.kinds import sniff
from xrecon.io.raw import RawFilm, RawVolume

VOLUMES = "give a CT as NIfTI (.nii, .nii.gz), DICOM folder or zip, or MHA/MHD/NRRD"
FILMS = "give a film as PNG, JPEG, TIFF or DICOM CR/DX"
_OTHER_PICTURES = {
    b"BM": "BMP",
    b"GIF8": "GIF",
    b"\x00\x00\x00\x0cjP": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"%PDF": "PDF",
}
_FILM_KINDS = ("png", "jpeg", "tiff")


def read_volume(path: Path, *, series: str | None = None) -> RawVolume:
    """Read a CT of any supported kind.

    Args:
        path: a file, or the folder of a DICOM series.
        series: for DICOM with several series: number, UID or its end, or description (see `read_dicom_ct`).

    Raises:
        InputError: missing, damaged, of an unknown kind, or no usable CT.
        MissingPartError: the kind needs an optional package.
    """
    path = Path(path)
    if path.is_dir():
        kind = "dicom"
    else:
        kind = sniff(path)
    if series is not None and kind not in ("dicom", "zip"):
        raise InputError(f"{path}: --series {series!r} is for DICOM folders and zips, this is {kind}; leave it out")
    if kind in ("dicom", "zip"):
        from xrecon.io.dicom.series import read_dicom_ct

        return read_dicom_ct(path, series=series)
    if kind == "nifti":
        from xrecon.io.nifti import read_nifti

        return read_nifti(path)
    if kind in ("mha", "nrrd"):
        from xrecon.io.itk import read_itk

        return read_itk(path)
    if kind in _FILM_KINDS:
        raise InputError(f"{path}: is a {kind.upper()} picture, not a volume; {VOLUMES}")
    raise InputError(f"{path}: {_unknown(path, kind)}; {VOLUMES}")


def read_film(path: Path) -> RawFilm:
    """Read one radiograph of any supported kind, with the side-car of `xrecon simulate` where there is one.

    Raises:
        InputError: missing, damaged, of an unknown kind, or no usable film.
        MissingPartError: a compressed DICOM file whose decoder is not installed.
    """
    path = Path(path)
    kind = sniff(path)
    if kind in _FILM_KINDS:
        from xrecon.io.film_file import read_film_file, side_car_of
        from xrecon.io.image import read_image_film

        side_car = side_car_of(path)
        return read_image_film(path) if side_car is None else read_film_file(path, side_car)
    if kind == "dicom":
        from xrecon.io.dicom.film import read_dicom_film

        return read_dicom_film(path)
    if kind in ("nifti", "mha", "nrrd"):
        raise InputError(f"{path}: is a volume ({kind}), not a film; {FILMS}. To make films of a CT: xrecon simulate")
    picture = _other_picture(path)
    if picture is not None:
        raise InputError(f"{path}: is a {picture} file, a kind of picture that is not read: export it again; {FILMS}")
    raise InputError(f"{path}: {_unknown(path, kind)}; {FILMS}")


def _other_picture(path: Path) -> str | None:
    """Name of a kind of picture that is known, but not read."""
    with path.open("rb") as stream:
        head = stream.read(16)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"hevc", b"avif"):
        return "HEIC or AVIF"
    return next((name for magic, name in _OTHER_PICTURES.items() if head.startswith(magic)), None)


def _unknown(path: Path, kind: str) -> str:
    if kind == "gzip":
        return "is gzipped, but holds no NIfTI inside; unpack it first"
    if kind == "zip":
        return "is a zip; unpack it and give the file itself"
    named = f" although its name ends in {path.suffix}" if path.suffix else ""
    return f"is of an unknown kind by its first bytes{named}; it may be damaged or renamed: export it again"
