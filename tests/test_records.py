"""The record beside every result: which keys, and that it holds digests and no paths."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from xrecon.errors import InputError
from xrecon.json_text import json_text
from xrecon.records import RunRecord
from xrecon.volume import RESEARCH_NOTICE


def test_record_of_files_has_digests_and_no_path(tmp_path: Path) -> None:
    ct = tmp_path / "name of a patient.nii"
    ct.write_bytes(b"voxels")
    values = RunRecord.of_files("xrecon segment", seed=None, files={"ct": ct}, settings={"series": None}).to_dict()
    assert list(values) == ["notice", "command", "environment", "seed", "inputs", "settings"]
    assert values["notice"] == RESEARCH_NOTICE
    assert values["command"] == "xrecon segment"
    assert values["seed"] is None
    assert values["inputs"] == {"ct": {"sha256": hashlib.sha256(b"voxels").hexdigest()}}
    assert values["settings"] == {"series": None}
    text = json_text(values)
    assert "patient" not in text
    assert str(tmp_path) not in text
    assert json.loads(text)["environment"]["packages"]["numpy"]


def test_a_run_on_a_data_set_names_the_data_set_and_the_models() -> None:
    record = RunRecord(
        command="xrecon evaluate", seed=3, settings={"size": 64}, dataset={"subset": "test"}, models={"atlas": "1a2b"}
    )
    values = record.to_dict()
    assert list(values) == ["notice", "command", "environment", "seed", "dataset", "models", "settings"]
    assert (values["seed"], values["dataset"], values["models"]) == (3, {"subset": "test"}, {"atlas": "1a2b"})


def test_inputs_that_are_absent_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.nii"):
        RunRecord.of_files("xrecon segment", seed=None, files={"ct": tmp_path / "absent.nii"}, settings={})
