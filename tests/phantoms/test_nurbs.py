"""NURBS chests: ellipsoids of known volume and place, and files that are not what they should be."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.nurbs_text import LEFT, RIGHT
from xrecon.errors import InputError, MissingPartError
from xrecon.phantoms.nurbs import read_nrb
from xrecon.phantoms.nurbs_thorax import GECATSIM, nurbs_phantom


def test_what_is_read_is_what_was_written(nurbs_file: Path) -> None:
    surfaces = read_nrb(nurbs_file)
    assert [(surface.name, surface.material) for surface in surfaces] == [("body", 1), ("rlung", 2), ("llung", 2)]
    points = surfaces[1].sampled()
    assert np.allclose(points[0], points[0, 0], atol=1e-3) and np.allclose(points[:, 0], points[:, -1], atol=1e-3)
    radius = np.linalg.norm((points - np.asarray(RIGHT[2])) / np.asarray(RIGHT[3]), axis=-1)
    assert np.abs(radius - 1.0).max() < 0.002


def test_volumes_places_and_hu(nurbs_file: Path) -> None:
    phantom = nurbs_phantom(nurbs_file, size=48, spacing_mm=8.0)
    assert phantom.names == ("body", "rlung", "llung") and phantom.volume.synthetic
    middle = np.array([-2.5, 10.0, 130.0])  # of the box round both lungs
    share = (55.0 - phantom.volume.hu) / (55.0 + 770.0)
    for label, (_, _, centre, radii) in ((1, RIGHT), (2, LEFT)):
        region = np.zeros(share.shape, dtype=bool)
        half = slice(0, 24) if label == 1 else slice(24, 48)
        region[:, :, half] = (phantom.labels == 0)[:, :, half] | (phantom.labels == label)[:, :, half]
        truth_ml = 4 / 3 * np.pi * float(np.prod(radii)) / 1000
        assert np.count_nonzero(phantom.labels == label) * phantom.volume.voxel_ml == pytest.approx(truth_ml, rel=0.03)
        inside = region & (phantom.volume.hu < 54) & (phantom.volume.hu > -771)
        # Partial volumes included, the share is exact to the facets; voxels with outside air are left out.
        near = np.linalg.norm(_offsets(phantom.volume.shape, centre - middle) / (np.asarray(radii) + 12.0), axis=-1) < 1
        assert (share * (inside & near)).sum() * phantom.volume.voxel_ml == pytest.approx(truth_ml, rel=0.01)
        at = np.argwhere(phantom.labels == label).mean(axis=0)
        expected = [-(centre[2] - middle[2]) / 8 + 23.5, (centre[1] - middle[1]) / 8 + 23.5]
        assert at[:2] == pytest.approx(expected, abs=0.2)
        assert at[2] == pytest.approx((centre[0] - middle[0]) / 8 + 23.5, abs=0.2)
    assert phantom.volume.hu[0, 0, 0] == -1000.0


def _offsets(shape: tuple[int, ...], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """[D, H, W, 3] x, y, z in mm from a centre, on a grid of 8 mm."""
    d, h, w = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * 8.0 for n in shape), indexing="ij")
    return np.stack([w, h, -d], axis=-1) - centre


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rlung\n2\n", "rlung\n77\n", "material 77 is not known"),
        ("U Knot Vector", "U Knots", "line 6: expected the line 'U Knot Vector', found 'U Knots'"),
        ("rlung\n2\n", "rlung\nnan\n", "expected a material, found 'nan'"),
        ("25 :M", "inf :M", "expected a count, found 'inf :M'"),
        ("33 :N", "two :N", "line 5: expected a count, found 'two :N'"),
        ("25 :M", "3 :M", "more than 3 and at most"),
        ("Control Points\n", "Control Points\n1 2\n", "expected three coordinates, found '1 2'"),
        ("Control Points\n", "Control Points\n1 2 nan\n", "expected finite coordinates"),
        ("lung\n2\n", "lung\n1\n", "no surface has the material 2"),
    ],
)
def test_another_file_is_refused_with_the_line(
    nurbs_file: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    damaged = tmp_path / "damaged.nrb"
    text = nurbs_file.read_text(encoding="utf-8")
    assert old in text
    count = -1 if "lung\n2" in old and not old.startswith("r") else 1
    damaged.write_text(text.replace(old, new, count), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        nurbs_phantom(damaged, size=16)


def test_empty_cut_and_absent_files(nurbs_file: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.nrb"
    empty.write_text("\n \n", encoding="utf-8")
    with pytest.raises(InputError, match="no surface in it"):
        nurbs_phantom(empty)
    empty.write_text(nurbs_file.read_text(encoding="utf-8")[:3000], encoding="utf-8")
    with pytest.raises(InputError, match=r"expected .*, found"):
        nurbs_phantom(empty)
    with pytest.raises(InputError, match="absent"):
        nurbs_phantom(tmp_path / "absent.nrb")


@pytest.mark.skipif(importlib.util.find_spec(GECATSIM) is not None, reason="gecatsim is installed")
def test_without_gecatsim_it_says_what_to_install() -> None:
    with pytest.raises(MissingPartError, match="pip install gecatsim"):
        nurbs_phantom(GECATSIM)


@pytest.mark.skipif(importlib.util.find_spec(GECATSIM) is None, reason="gecatsim is not installed")
def test_the_chest_of_gecatsim() -> None:
    phantom = nurbs_phantom(GECATSIM, size=64)
    lungs = [np.count_nonzero(phantom.labels == label) * phantom.volume.voxel_ml for label in (1, 2)]
    assert all(1200 < surface < 1700 for surface in lungs)
    at = [np.argwhere(phantom.labels == label)[:, 2].mean() for label in (1, 2)]
    assert at[0] < 32 < at[1]  # the right lung on the left of the picture
    bone = np.argwhere(phantom.volume.hu > 200)
    assert bone[:, 1].mean() < 28  # the sternum in front
