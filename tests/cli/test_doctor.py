from __future__ import annotations

import builtins
import getpass
import importlib.util
import json
import os
import platform
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from xrecon import __version__
from xrecon.cli import doctor
from xrecon.cli.app import build_app
from xrecon.environment import git_commit, package_version, run_environment


def run_doctor(*arguments: str) -> Any:
    return CliRunner().invoke(build_app(), ["doctor", *arguments])


def test_table_names_versions_device_threads_and_parts() -> None:
    done = run_doctor()
    assert done.exit_code == 0, done.stderr
    for text in (__version__, platform.python_version(), "device", "threads", "sample CT", "anatomical prior"):
        assert text in done.stdout


def test_json_holds_the_same_facts() -> None:
    done = run_doctor("--json")
    report = json.loads(done.stdout)
    environment = report["environment"]
    assert environment["xrecon"] == __version__
    assert environment["device"] in ("cpu", "cuda", "mps")
    assert environment["threads"] >= 1
    assert environment["packages"]["numpy"] == package_version("numpy")
    assert report["torch_error"] is None
    assert report["machine"]["memory_gb"] > 0.1
    names = [part["name"] for part in report["parts"]]
    assert len(names) == len(set(names)) == len(doctor.EXTRAS) + 2
    assert all(part["gives"] and part["install"] for part in report["parts"])


def test_every_extra_of_the_package_is_listed() -> None:
    # Of the sources, not of the installed metadata, which an editable installation does not renew.
    project = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    section = project.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    declared = set(re.findall(r"^([a-z0-9-]+) = \[", section, re.MULTILINE)) - {"dev"}
    assert len(declared) > 5
    assert {extra for extra, *_ in doctor.EXTRAS} == declared


def test_a_missing_extra_says_what_it_would_give(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "SimpleITK" else real(name))
    part = doctor.optional_parts()[0]
    assert (part.present, part.version) == (False, None)
    assert part.install == "pip install SimpleITK"
    text = run_doctor().stdout
    assert "missing" in text
    assert "pip install SimpleITK" in text


def test_a_damaged_torch_is_reported_and_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name == "torch":
            raise OSError("libtorch.so: cannot open shared object file")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    done = run_doctor()
    assert done.exit_code == 0
    assert "torch is not usable" in done.stdout
    assert "pip install torch==2.13.0" in done.stderr


def test_environment_names_no_person_machine_or_folder() -> None:
    text = json.dumps(run_environment())
    assert os.sep + "home" not in text
    assert sys.prefix not in text
    assert socket.gethostname() not in text
    user = getpass.getuser()
    assert f'"{user}"' not in text


def test_commit_is_a_hash_or_none() -> None:
    commit = git_commit()
    assert commit is None or set(commit.removesuffix("-dirty")) <= set("0123456789abcdef")
