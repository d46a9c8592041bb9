"""Case files: what is written is read, unloaded and unchanged; damage is an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.dataset_factory import random_case, write_dataset
from xrecon.anatomy.frame import framed
from xrecon.data.case_file import CaseData, case_bytes, read_case, scan_box
from xrecon.data.dataset import PreparedDataset
from xrecon.errors import InputError
from xrecon.volume import Volume

ARRAYS = ("ct", "pa", "lateral", "sides", "air", "body")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "set", {"a": "train", "b": "train", "c": "train", "d": "test"}, folds=3)


def test_a_case_reads_back_exactly_and_unloaded(tmp_path: Path) -> None:
    case = random_case(24, 3)
    path = tmp_path / "case.safetensors"
    path.write_bytes(case_bytes(case))
    read = read_case(path)
    for name in ARRAYS:
        assert np.array_equal(getattr(read, name), getattr(case, name)), name
        assert getattr(read, name).dtype == getattr(case, name).dtype
    assert np.array_equal(read.affine, case.affine)
    assert read.scan_box == case.scan_box
    assert read.beams == case.beams
    assert read.measured().sum() == 23 * 24 * 20
    assert read.volume().spacing_mm == pytest.approx((16.0, 16.0, 16.0))
    assert read.films()[1].view == "lateral"


def test_the_same_case_gives_the_same_bytes() -> None:
    assert case_bytes(random_case(16, 4)) == case_bytes(random_case(16, 4))
    assert len(case_bytes(random_case(16, 4))) % 8 == 0


def test_mapped_arrays_serve_torch_and_do_not_change_the_file(folder: Path) -> None:
    case = PreparedDataset(folder)[0]
    arrays = case.load()
    tensor = torch.from_numpy(arrays.ct)  # a read-only array would warn, and warnings are errors
    tensor += 1
    case.verify()
    assert np.array_equal(case.load().ct + 1, tensor.numpy())


def test_safetensors_itself_reads_the_file(folder: Path) -> None:
    from safetensors.numpy import load_file

    case = PreparedDataset(folder)[1]
    other = load_file(case.path)
    assert all(np.array_equal(other[name], getattr(case.load(), name)) for name in ARRAYS)


@pytest.mark.parametrize("cut", [0, 5, 100, 2000, 20_000])
def test_a_truncated_case_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "case.safetensors"
    path.write_bytes(case_bytes(random_case())[:cut])
    with pytest.raises(InputError, match=r"case\.safetensors"):
        read_case(path)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3000), st.integers(0, 255))
def test_a_damaged_header_never_crashes(position: int, value: int) -> None:
    import tempfile

    content = bytearray(case_bytes(random_case()))
    content[position] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.safetensors"
        path.write_bytes(content)
        try:
            assert isinstance(read_case(path), CaseData)
        except InputError as error:
            assert "case.safetensors" in str(error)


def test_wrong_arrays_are_not_written() -> None:
    with pytest.raises(InputError, match=r"ct of a case of size 16 must be int16 \[16, 16, 16\], got float32"):
        case_bytes(replace(random_case(), ct=random_case().ct.astype(np.float32)))


def test_scan_box_of_a_scan_that_ends_inside_the_frame() -> None:
    hu = np.zeros((10, 40, 40), dtype=np.float32)
    hu[0, 0, 0] = 1
    scan = Volume.centred(hu, (10.0, 10.0, 10.0))
    frame = framed(scan, 48, centre_mm=np.zeros(3))  # 8 mm voxels, 384 mm; the scan spans 100 x 400 x 400 mm
    assert scan_box(scan, frame) == ((18, 30), (0, 48), (0, 48))
