"""The X2CT-GAN / X-Recon data layout: one `ct_xray_data.h5` per case with `ct`, `xray1` and `xray2`, and list files.

Axes of the layout (X2CT-GAN, Ying et al., CVPR 2019; X-Recon, arXiv 2407.15356): `ct` is [D, H, W] with D from the
head down, H from the front to the back, W from the patient's right to left; `xray1` is the PA film [D, W], `xray2` the
lateral one [D, H]: the axes of this package. The values are HU + 1024, clipped at 0, and grey values 0..255, each film
scaled by its own maximum.

The layout stores no voxel size that can be trusted: the recipe of X2CT-GAN makes cubes of 320 mm, later resized, and
tools of that family go on writing 1 mm. Here the edge of the cube counts, and the voxel size follows from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from xrecon.data.dataset import PreparedDataset
from xrecon.data.exported import Exported
from xrecon.data.manifest import load_manifest
from xrecon.data.split import Subset
from xrecon.errors import GeometryError, InputError, MissingPartError
from xrecon.geometry import VIEW_POSITIONS, VIEWS, ConeBeam
from xrecon.io.guards.arrays import check_count
from xrecon.io.guards.files import check_file
from xrecon.io.output.atomic import atomic_path, write_text_atomic
from xrecon.json_text import json_text
from xrecon.radiograph import Radiograph
from xrecon.volume import RESEARCH_NOTICE, Volume

FILE_NAME = "ct_xray_data.h5"
RECIPE_EXTENT_MM = 320.0
"""Edge of the cube in the published data recipe: 320 voxels of 1 mm."""
_DETECTOR_MM = 500.0
_DISTANCES_MM = (541.0, 949.0)
_OFFSET_HU = 1024.0
_GREY = 255.0
_FILM_KEYS = {"pa": "xray1", "lateral": "xray2"}
_STALE_SHARE = 0.02


@dataclass(frozen=True)
class X2ctCase:
    """A case of the layout: CT, and the two films ("line_integral" where the file says how they were scaled)."""

    ct: Volume
    pa: Radiograph
    lateral: Radiograph


def recipe_beam(view: str, size: int) -> ConeBeam:
    """Geometry of the recipe of X2CT-GAN: source to isocentre 541 mm, source to detector 949 mm, a 500 mm detector.

    Args:
        view: "pa" or "lateral".
        size: pixels per edge of the detector.
    """
    angle, mirrored = VIEW_POSITIONS[view]
    pitch = _DETECTOR_MM / size
    return ConeBeam(*_DISTANCES_MM, (size, size), (pitch, pitch), angle_deg=angle, mirrored=mirrored, name="x2ct")


def read_x2ct(path: Path, *, extent_mm: float | None = None) -> X2ctCase:
    """Read one case.

    Args:
        path: the h5 file, or its folder.
        extent_mm: edge of the cube, mm; None: as this package wrote it, else original size times original spacing where
            the file holds `ori_size` and `spacing`, else the recipe's 320 mm. The notes say which.

    Raises:
        InputError: not such a file, values that are not HU + 1024, films or a CT of impossible shape.
        MissingPartError: h5py is not installed.
    """
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    check_file(path)
    try:
        with _h5py().File(path, "r") as stored:
            return _case(stored, path, extent_mm)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"{path}: not a case of the X2CT layout ({error}); expected the datasets ct [D, H, W], xray1 and xray2 "
            "[rows, cols]"
        ) from error


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise MissingPartError("the X2CT layout needs h5py; install it with: pip install h5py") from None
    return h5py


def _case(stored: Any, path: Path, extent_mm: float | None) -> X2ctCase:
    values = _array(stored, "ct", 3, path)
    low, high = float(values.min()), float(values.max())
    if low < -5.0 or high < 1000.0:
        raise InputError(
            f"{path}: ct runs from {low:g} to {high:g}; the layout holds HU + 1024 (air 24, water 1024, bone above)"
        )
    extent, notes = _extent(stored, values.shape, extent_mm)
    spacing = tuple(edge / n for edge, n in zip(extent, values.shape, strict=True))
    centred = Volume.centred(values - np.float32(_OFFSET_HU), (spacing[0], spacing[1], spacing[2]))
    affine = centred.affine
    if extent_mm is None and "affine" in stored.attrs:
        affine = np.asarray(json.loads(stored.attrs["affine"]), dtype=np.float64)
    ct = Volume(centred.hu, affine, synthetic=bool(stored.attrs.get("synthetic", False)), notes=notes)
    pa, lateral = (_film(stored, view, path) for view in VIEWS)
    return X2ctCase(ct, pa, lateral)


def _array(stored: Any, key: str, axes: int, path: Path) -> NDArray[np.float32]:
    dataset = stored[key]
    shape = tuple(int(n) for n in dataset.shape)
    if len(shape) != axes or dataset.dtype.kind not in "iuf":
        raise InputError(f"{path}: {key} has shape {shape} and type {dataset.dtype}; expected {axes} axes of numbers")
    check_count(shape, path)
    values = np.asarray(dataset[()], dtype=np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: {key} holds NaN or infinity; export the case again")
    return values


def _extent(
    stored: Any, shape: tuple[int, ...], extent_mm: float | None
) -> tuple[tuple[float, float, float], tuple[str, ...]]:
    """Edges (D, H, W) of the grid, mm, and how they were found."""
    original = _three(stored, "ori_size")
    spacing = _three(stored, "spacing")
    if extent_mm is not None:
        edges, why = (extent_mm,) * 3, "as asked"
    elif "extent_mm" in stored.attrs:
        stored_mm = [float(edge) for edge in np.ravel(stored.attrs["extent_mm"])]
        edges, why = (stored_mm[0], stored_mm[-2], stored_mm[-1]), "as written by xrecon"
    elif original is not None and spacing is not None:
        first, second, third = (n * s for n, s in zip(original, spacing, strict=True))
        edges, why = (first, second, third), "original size times original spacing"
    else:
        edges, why = (RECIPE_EXTENT_MM,) * 3, "the published recipe; give another one if it was not followed"
    notes = [f"the grid is {' x '.join(f'{edge:g}' for edge in edges)} mm: {why}"]
    if spacing is not None:
        claimed = [n * s for n, s in zip(shape, spacing, strict=True)]
        if max(abs(c - e) / e for c, e in zip(claimed, edges, strict=True)) > _STALE_SHARE:
            true = " x ".join(f"{e / n:.3f}" for e, n in zip(edges, shape, strict=True))
            notes.append(
                f"the stored spacing {' x '.join(f'{s:g}' for s in spacing)} mm is from before a resize; the voxels "
                f"are {true} mm"
            )
    return edges, tuple(notes)


def _three(stored: Any, key: str) -> tuple[float, float, float] | None:
    if key not in stored:
        return None
    values = np.ravel(stored[key][()]).astype(float)
    if values.size != 3 or not (np.isfinite(values).all() and (values > 0).all()):
        return None
    return float(values[0]), float(values[1]), float(values[2])


def _film(stored: Any, view: str, path: Path) -> Radiograph:
    key = _FILM_KEYS[view]
    image = _array(stored, key, 2, path)
    if float(image.min()) < -0.5 or float(image.max()) > _GREY + 0.5:
        raise InputError(f"{path}: {key} runs from {image.min():g} to {image.max():g}; the layout holds 0..255")
    attributes = stored[key].attrs
    beam = recipe_beam(view, image.shape[1]).with_detector((image.shape[0], image.shape[1]))
    notes: tuple[str, ...] = (f"{view} film: geometry of the published recipe assumed",)
    if "geometry" in attributes:
        try:
            beam, notes = ConeBeam.from_dict(json.loads(attributes["geometry"])), ()
        except GeometryError as error:
            raise InputError(f"{path}: {key}: {error}") from error
    if "line_integral_per_grey" in attributes:
        return Radiograph(image * np.float32(attributes["line_integral_per_grey"]), view, beam, notes=notes)
    return Radiograph(image / np.float32(_GREY), view, beam, quantity="display", notes=notes)


def write_x2ct(folder: Path, case: X2ctCase, *, overwrite: bool = False) -> Path:
    """Write `<folder>/ct_xray_data.h5`, atomically.

    Beside the three datasets of the layout, attributes hold what it lacks: edge and affine of the grid, the films'
    geometry, and the factor from grey to line integral. Readers that know only the layout ignore them.

    Returns the file's path. Raises OutputExistsError, InputError, MissingPartError.
    """
    ct = case.ct.canonical()
    h5py = _h5py()
    final = Path(folder) / FILE_NAME
    with atomic_path(final, overwrite=overwrite) as temporary, h5py.File(temporary, "w") as out:
        values = np.clip(np.rint(ct.hu + _OFFSET_HU), 0, 32767).astype(np.int16)
        out.create_dataset("ct", data=values, compression="gzip", compression_opts=4)
        out.attrs["notice"] = RESEARCH_NOTICE
        out.attrs["extent_mm"] = [n * s for n, s in zip(ct.shape, ct.spacing_mm, strict=True)]
        out.attrs["affine"] = json_text(ct.affine, indent=None)
        out.attrs["synthetic"] = ct.synthetic
        for film in (case.pa, case.lateral):
            key = _FILM_KEYS[film.view]
            top = float(film.image.max()) if film.is_quantitative else 1.0
            grey = np.clip(film.image, 0.0, None) * np.float32(_GREY / max(top, 1e-6))
            out.create_dataset(key, data=np.minimum(grey, _GREY).astype(np.float32))
            out[key].attrs["geometry"] = json_text(film.geometry.to_dict(), indent=None)
            if film.is_quantitative:
                out[key].attrs["line_integral_per_grey"] = top / _GREY
    return final


def export_x2ct(
    dataset: Path, folder: Path, *, overwrite: bool = False, advance: Callable[[int], None] = lambda _n: None
) -> Exported:
    """Write a prepared data set in the layout, with `train.txt`, `test.txt` and `aux.txt` (one case name per line).

    Raises InputError, OutputExistsError, MissingPartError.
    """
    _h5py()
    lists: dict[str, list[str]] = {}
    manifest = load_manifest(dataset)
    for subset in get_args(Subset):
        if not manifest.of_subset(subset):
            continue
        for case in PreparedDataset(dataset, subset):
            arrays = case.load()
            pa, lateral = arrays.films()
            write_x2ct(folder / case.name, X2ctCase(arrays.volume(), pa, lateral), overwrite=overwrite)
            lists.setdefault(subset, []).append(case.name)
            advance(1)
        write_text_atomic(folder / f"{subset}.txt", "\n".join(sorted(lists[subset])) + "\n", overwrite=overwrite)
    return Exported(lists)
