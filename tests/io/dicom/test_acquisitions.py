"""Several acquisitions in one series: told apart by header, order, folder, position or picture, and never blended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from support.dicom_factory import write_series
from xrecon.errors import InputError
from xrecon.io.dicom.acquisitions import separate_by_content
from xrecon.volume import Volume, load_ct

ONE_CT = "lie in one another"
Edit = Callable[[Dataset, int], Any]


def breath(shift: float, slices: int = 24) -> np.ndarray:
    """HU [k, row, col]: two lungs that widen towards the feet, and move along the table by `shift` slices."""
    k, y, x = np.meshgrid(np.arange(slices) + shift, np.arange(32), np.arange(32), indexing="ij")
    hu = np.where(np.hypot(y - 16, x - 16) < 14, 40.0, -1000.0)
    hu[np.hypot(y - 16, x - 10) < 2.5 + 0.16 * k] = -850
    hu[np.hypot(y - 14, x - 23) < 1.5 + 0.16 * k] = -850
    return hu


def tagged(**values: Any) -> Edit:
    def edit(ds: Dataset, _k: int) -> None:
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    return edit


def several(
    folder: Path,
    offsets: tuple[float, ...],
    edits: tuple[Edit | None, ...] = (),
    *,
    keep: int = 24,
    apart: bool = False,
) -> Path:
    """One series of several breaths, each every 6 mm from its offset (mm) on; the last one has `keep` slices."""
    series, study = generate_uid(), generate_uid()
    for number, offset in enumerate(offsets):

        def edit(ds: Dataset, k: int, number: int = number) -> bool:
            ds.SeriesInstanceUID, ds.StudyInstanceUID = series, study
            if edits and edits[number] is not None:
                edits[number](ds, k)  # type: ignore[misc]
            return number < len(offsets) - 1 or k < keep

        place = folder / str(number)
        write_series(place, breath(3.0 * number), spacing=(6, 2, 2), origin=(-21, -24, 100 + offset), edit=edit)
        if not apart:
            for file in place.iterdir():
                file.rename(folder / f"{number}{file.name}")
            place.rmdir()
    return folder


def without_numbers(ds: Dataset, _k: int) -> None:
    del ds.InstanceNumber


def in_order(first: int) -> Edit:
    def edit(ds: Dataset, k: int) -> None:
        ds.InstanceNumber = first + k

    return edit


HEADERS: dict[str, tuple[Edit, Edit]] = {
    "acquisition numbers": (tagged(AcquisitionNumber=4), tagged(AcquisitionNumber=7)),
    "one number only": (tagged(), tagged(AcquisitionNumber=1)),
    "times": (tagged(AcquisitionTime="101500.2"), tagged(AcquisitionTime="102245")),
    "dates and times": (tagged(AcquisitionDateTime="20200101101500"), tagged(AcquisitionDateTime="20200101102245")),
    "kernels": (tagged(ConvolutionKernel="B30f"), tagged(ConvolutionKernel="B70f")),
    "tube voltages": (tagged(KVP="80"), tagged(KVP="140")),
    "cardiac phases": (tagged(NominalPercentageOfCardiacPhase=35), tagged(NominalPercentageOfCardiacPhase=75)),
    "temporal positions": (tagged(TemporalPositionIdentifier=1), tagged(TemporalPositionIdentifier=2)),
    "slice thickness": (tagged(SliceThickness=5), tagged(SliceThickness=1.25)),
    "order": (in_order(1), in_order(200)),
    "nothing": (without_numbers, without_numbers),
}


def choices(message: str) -> list[str]:
    words = message.replace("(", " ").replace(";", " ").split()
    return list(dict.fromkeys(word for word in words if "@" in word))


@pytest.mark.parametrize("header", list(HEADERS))
@pytest.mark.parametrize("offset", [0.5, 1.0, 1.5, 3.0])
def test_two_breaths_are_refused_and_each_can_be_chosen(tmp_path: Path, header: str, offset: float) -> None:
    folder = several(tmp_path / "ct", (0.0, offset), HEADERS[header])
    with pytest.raises(InputError, match=ONE_CT) as refused:
        load_ct(folder)
    names = choices(str(refused.value))
    assert len(names) == 2, refused.value
    starts = []
    for name in names:
        volume = load_ct(folder, series=name)
        assert volume.shape == (24, 32, 32) and volume.spacing_mm[0] == pytest.approx(6)
        starts.append(round(float(volume.affine[2, 3] - 23 * 6), 3))
        breaths = [np.abs(volume.hu[::-1] - breath(shift)).max() for shift in (0.0, 3.0)]
        assert min(breaths) <= 1 and max(breaths) > 100
    assert sorted(starts) == [100.0, 100.0 + offset]
    with pytest.raises(InputError, match="has no acquisition number '99'"):
        load_ct(folder, series="3@99")


@pytest.mark.parametrize("header", ["acquisition numbers", "kernels", "tube voltages", "times"])
def test_two_pictures_of_every_place_are_told_apart(tmp_path: Path, header: str) -> None:
    with pytest.raises(InputError, match=ONE_CT):
        load_ct(several(tmp_path / "ct", (0.0, 0.0), HEADERS[header]))


@pytest.mark.parametrize("header", ["acquisition numbers", "order", "times"])
def test_the_complete_one_of_two_is_read_and_both_are_named(tmp_path: Path, header: str) -> None:
    volume = load_ct(several(tmp_path / "ct", (0.0, 1.5), HEADERS[header], keep=8))
    assert np.abs(volume.hu[::-1] - breath(0.0)).max() <= 1
    assert any(ONE_CT in note and "read the complete one" in note for note in volume.notes)


TRIGGERED = (tagged(TriggerTime=0), tagged(TriggerTime=300), tagged(TriggerTime=600))


@pytest.mark.parametrize("edits", [(), (without_numbers,) * 3, TRIGGERED], ids=["plain", "no order", "triggered"])
@pytest.mark.parametrize("offsets", [(0.0, 2.0, 4.0), (0.0, 1.0, 3.5)], ids=["even", "uneven"])
def test_three_phases(tmp_path: Path, edits: tuple[Edit, ...], offsets: tuple[float, ...]) -> None:
    folder = several(tmp_path / "ct", offsets, edits)
    with pytest.raises(InputError, match="3 acquisitions that lie in one another") as refused:
        load_ct(folder)
    shapes = {load_ct(folder, series=name).shape for name in choices(str(refused.value))}
    assert shapes == {(24, 32, 32)}


def test_breaths_in_folders_of_their_own_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=ONE_CT):
        load_ct(several(tmp_path / "ct", (0.0, 3.0), apart=True))


# One CT, however its header looks.
ORDINARY: dict[str, Edit] = {
    "blocks with numbers": lambda ds, k: setattr(ds, "AcquisitionNumber", k // 4 + 1),
    "two blocks": lambda ds, k: setattr(ds, "AcquisitionNumber", k // 12 + 1),
    "a number for each slice": lambda ds, k: setattr(ds, "AcquisitionNumber", k + 1),
    "times that run": lambda ds, k: setattr(ds, "AcquisitionTime", f"1015{k // 8:02d}"),
    "tube voltage in two spellings": lambda ds, k: setattr(ds, "KVP", "120" if k % 2 else "120.0"),
    "thickness a hair apart": lambda ds, k: setattr(ds, "SliceThickness", "2.94" if k % 2 else "2.96"),
    "trigger times": lambda ds, k: setattr(ds, "TriggerTime", 31.5 * k),
    "order along the table": lambda ds, k: setattr(ds, "InstanceNumber", 24 - k),
    "no order": without_numbers,
}


@pytest.mark.parametrize("name", list(ORDINARY))
def test_one_ct_stays_one(tmp_path: Path, name: str) -> None:
    volume = load_ct(write_series(tmp_path / "ct", breath(0.0), spacing=(6, 2, 2), edit=ORDINARY[name]))
    assert np.abs(volume.hu[::-1] - breath(0.0)).max() <= 1
    assert volume.notes == ()


def test_positions_with_one_decimal_are_no_second_comb(tmp_path: Path) -> None:
    def rounded(ds: Dataset, k: int) -> None:
        ds.ImagePositionPatient = [-21, -24, round(100 + 1.25 * k, 1)]

    hu = breath(0.0, 48)
    volume = load_ct(write_series(tmp_path / "ct", hu, spacing=(1.25, 2, 2), edit=rounded))
    assert volume.shape[0] == 48


@pytest.mark.parametrize("noise_hu", [20.0, 150.0, 400.0])
def test_noise_is_no_second_breath(noise_hu: float) -> None:
    rng = np.random.default_rng(1)
    thin = np.repeat(breath(0.0, 16), 8, axis=0)
    noisy = (thin + rng.normal(0, noise_hu, thin.shape)).astype(np.float32)
    for planes in (noisy, rng.normal(0, noise_hu, thin.shape).astype(np.float32)):
        assert separate_by_content(planes, _planes(len(planes)), 0.6 * np.arange(len(planes))) == ()


def _planes(count: int) -> Any:
    """What `separate_by_content` looks at: numbers in order, one folder."""

    class Scan:
        def __init__(self, instance: int) -> None:
            self.instance = instance

    class File:
        name = "ct/file"

    class Plane:
        def __init__(self, instance: int) -> None:
            self.scan, self.file = Scan(instance), File()

    return [Plane(k) for k in range(count)]


@pytest.mark.data
@pytest.mark.parametrize("step", [1, 2, 4])
def test_real_chests_are_one_ct_each_and_two_breaths_are_not(shared_data: Path, step: int) -> None:
    for path in sorted((shared_data / "ct").glob("*.nii.gz")):
        ct: Volume = load_ct(path)
        planes = np.ascontiguousarray(ct.hu[::-step])
        places = ct.spacing_mm[0] * step * np.arange(len(planes))
        assert separate_by_content(planes, _planes(len(planes)), places) == (), path.name
        if ct.spacing_mm[0] * step > 8.0:
            continue  # anatomy changes as much between slices so far apart as a breath of 5 mm changes it
        mixed = planes.copy()
        mixed[1::2] = np.roll(planes, round(5 / ct.spacing_mm[1]), axis=1)[1::2]  # 5 mm towards the back
        assert len(separate_by_content(mixed, _planes(len(planes)), places)) == 2, path.name
