"""Copies and series without a UID, unusual image kinds, and enhanced files that hold several phases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, generate_uid

from support.dicom_factory import anatomy, dataset, write_series
from xrecon import load_ct
from xrecon.errors import InputError


def _moved() -> np.ndarray:
    return np.roll(anatomy(), 2, axis=1)


def _without_uids(number: int, series: str = "") -> Any:
    def edit(ds: Dataset, _k: int) -> None:
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = series, "", ""
        ds.SeriesNumber = number

    return edit


def test_two_series_without_a_uid_are_not_guessed(tmp_path: Path) -> None:
    write_series(tmp_path / "a", edit=_without_uids(3))
    write_series(tmp_path / "b", _moved(), edit=_without_uids(3))
    with pytest.raises(InputError, match=r"nothing tells apart: #1 .*a/.* and #2 .*b/.*choose --series '#1'"):
        load_ct(tmp_path)
    first, second = (load_ct(tmp_path, series=name).hu for name in ("#1", "#2"))
    assert not np.array_equal(first, second)


def test_the_number_of_a_series_without_a_uid_chooses_it(tmp_path: Path) -> None:
    write_series(tmp_path, edit=_without_uids(3))
    for path in sorted(tmp_path.iterdir()):
        path.rename(path.with_name(f"first-{path.name}"))
    write_series(tmp_path, _moved(), edit=_without_uids(4))
    volume = load_ct(tmp_path)
    assert any("first of the equally large ones of 2 series" in note and "#2 series 4" in note for note in volume.notes)
    assert not np.array_equal(load_ct(tmp_path, series="4").hu, volume.hu)


@pytest.mark.parametrize("series", ["", "1.2.3.4"])
def test_a_copy_with_new_instance_uids_is_read_once(tmp_path: Path, series: str) -> None:
    for folder in ("a", "b"):
        write_series(tmp_path / folder, edit=_without_uids(3, series))
    volume = load_ct(tmp_path)
    assert volume.hu.shape[0] == len(anatomy())
    assert any("lies here 2 times, with the same pixels" in note for note in volume.notes)
    assert not any("picked" in note for note in volume.notes)


@pytest.mark.parametrize(
    "kind",
    [
        ["ORIGINAL", "SECONDARY", "AXIAL"], ["ORIGINAL", "PRIMARY", "OTHER"],
        ["ORIGINAL", "PRIMARY", "AXIAL", "MAXIMUM"], ["ORIGINAL", "PRIMARY", "AXIAL", "CPR"],
    ],
)  # fmt: skip
def test_more_images_of_another_kind_do_not_win_over_originals(tmp_path: Path, kind: list[str]) -> None:
    def edit(ds: Dataset, _k: int) -> None:
        ds.StudyInstanceUID, ds.ImageType = "1.2.3", kind

    def original(ds: Dataset, _k: int) -> None:
        ds.StudyInstanceUID = "1.2.3"

    write_series(tmp_path / "a", edit=original)
    write_series(tmp_path / "b", anatomy((40, 24, 28)), spacing=(2.5, 2.0, 1.5), number=4, edit=edit)
    volume = load_ct(tmp_path)
    assert volume.hu.shape[0] == len(anatomy())
    assert any("original slices, although they are fewer" in note for note in volume.notes)


def test_a_short_original_stack_does_not_stand_for_the_chest(tmp_path: Path) -> None:
    def unstated(ds: Dataset, _k: int) -> None:
        del ds.ImageType
        ds.StudyInstanceUID = "1.2.3"

    def original(ds: Dataset, k: int) -> bool:
        ds.StudyInstanceUID = "1.2.3"
        return k < 9

    write_series(tmp_path / "a", edit=unstated)
    write_series(tmp_path / "b", number=4, edit=original)
    assert load_ct(tmp_path).hu.shape[0] == len(anatomy())


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _enhanced(path: Path, group: str, keyword: str, values: tuple[Any, Any]) -> Path:
    stacks = (anatomy(), _moved())
    pixels = np.rint(np.concatenate(stacks) + 1024).astype(np.uint16)
    ds = dataset(EnhancedCTImageStorage, pixels, series=generate_uid(), study=generate_uid())
    ds.Modality, ds.ImageType, ds.SeriesNumber = "CT", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], 3
    ds.NumberOfFrames = len(pixels)
    shared = _item(
        PixelMeasuresSequence=Sequence([_item(PixelSpacing=[2.0, 1.5], SliceThickness=5)]),
        PlaneOrientationSequence=Sequence([_item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]),
        PixelValueTransformationSequence=Sequence([_item(RescaleSlope=1, RescaleIntercept=-1024)]),
    )
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence(
        [
            _item(
                PlanePositionSequence=Sequence([_item(ImagePositionPatient=[-21, -24, 100 + 5 * k])]),
                **{group: Sequence([_item(**{keyword: value})])},
            )
            for stack, value in zip(stacks, values, strict=True)
            for k in range(len(stack))
        ]
    )
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("group", "keyword", "values", "choices"),
    [
        ("FrameContentSequence", "FrameAcquisitionNumber", (4, 7), ("3@4", "3@7")),
        ("FrameContentSequence", "TemporalPositionIndex", (1, 2), ("3@1", "3@2")),
        ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase", (40, 75), ("3@1", "3@2")),
    ],
)
def test_phases_of_an_enhanced_file_are_named_and_can_be_chosen(
    tmp_path: Path, group: str, keyword: str, values: tuple[Any, Any], choices: tuple[str, str]
) -> None:
    path = _enhanced(tmp_path / "ct.dcm", group, keyword, values)
    with pytest.raises(InputError, match=f"2 acquisitions .*choose --series {choices[0]} or --series {choices[1]}"):
        load_ct(path)
    first, second = (load_ct(path, series=choice).hu for choice in choices)
    assert first.shape == second.shape == anatomy().shape
    assert not np.array_equal(first, second)
