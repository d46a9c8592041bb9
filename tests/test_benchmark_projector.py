"""The projector benchmark measures what it says, and runs without the packages that it compares with."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    path, threads = list(sys.path), torch.get_num_threads()
    spec = importlib.util.spec_from_file_location("benchmark_projector", BENCHMARKS / "projector.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    torch.set_num_threads(threads)
    sys.path[:] = path
    for name in [name for name in sys.modules if name.split(".")[0] == "peers"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def cases(benchmark: ModuleType) -> Any:
    return sys.modules["peers.cases"]


def test_runs_without_peers_and_writes_json(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "projector.json"
    arguments = ["--peers", "xrecon", "xrecon-pose", "--cases", "tilted sagittal", "aligned frontal", "--reduce", "7"]
    arguments += ["--repeats", "1", "--slow-repeats", "1", "--threads", "1", "--path-sizes", "12", "--no-memory"]
    assert benchmark.main([*arguments, "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    report = json.loads(output.read_text())
    assert [(row["case"], row["peer"]) for row in report["rows"]] == [
        ("tilted sagittal", "xrecon"),
        ("tilted sagittal", "xrecon-pose"),
        ("aligned frontal", "xrecon"),
        ("aligned frontal", "xrecon-pose"),
    ]
    for row in report["rows"]:
        assert (
            row["forward_ms"] >= row["forward_best_ms"] > 0
            and row["both_ms"] >= row["both_best_ms"] > 0
            and row["case"] in printed
        )
        assert row["error_max"] < 0.03 and row["mismatch"] < 1e-6  # 11 mm voxels
    assert {row["path"] for row in report["paths"]} == {"compiled", "matrix products", "plain"}
    assert all(row["relative_difference"] < 1e-4 for row in report["paths"])
    assert report["goals"] == [], "goals are for the full sizes"
    assert report["environment"]["packages"]["torch"] and report["processor"]


def test_an_absent_package_is_named_and_left_out(
    benchmark: ModuleType, cases: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> Any:
        raise ImportError("no such library")

    peer = benchmark.Peer
    absent, failing = peer("absent", "a-package-that-nobody-has", broken), peer("failing", "torch", broken)
    monkeypatch.setattr(benchmark, "PEERS", {"absent": absent, "failing": failing})
    peers, reasons = benchmark._installed(["absent", "failing"], cases.CASES[0])
    assert peers == [] and set(reasons) == {"absent", "failing"}
    assert "not installed" in reasons["absent"] and "no such library" in reasons["failing"]
    assert "left out: absent" in capsys.readouterr().out


def test_goals_compare_with_rtk_in_the_same_case(benchmark: ModuleType, cases: Any) -> None:
    case = cases.CASES[0]
    common = {"case": case.name, "error_max": 5e-4, "mismatch": 2e-6, "forward_mb": 22.5, "both_mb": None}
    rows = [
        {"peer": "xrecon", "forward_ms": 5.0, "both_ms": 20.0, **common},
        {"peer": "rtk", "forward_ms": 20.0, "both_ms": 100.0, **common},
    ]
    goals = {goal["goal"]: (goal["value"], goal["met"]) for goal in benchmark.compare_with_goals([case], rows)}
    assert goals == {
        "times as fast as RTK, forward": (4.0, True),
        "times as fast as RTK, both": (5.0, False),
        "largest error, relative": (5e-4, True),
        "mismatch of the transpose": (2e-6, False),
        "added memory, volumes": (pytest.approx(22.5e6 / 4 / 224**3), True),
    }


@pytest.mark.parametrize("index", [0, 2, 3])
def test_exact_film_agrees_with_quadrature(cases: Any, index: int) -> None:
    case = cases.CASES[index].reduced(16)
    film = cases.phantom_film(case)
    source = case.frame.source.numpy()
    pixel = case.frame.pixels(*case.view.detector_shape).numpy()[2, 5]
    steps = (np.arange(20_000) + 0.5) / 20_000
    points = source + steps[:, None] * (pixel - source)
    inside = (np.abs(points) < case.size * case.spacing_mm / 2).all(axis=1)
    mu = sum(
        blob.peak_per_mm * np.exp(-((points - blob.centre_mm) ** 2).sum(axis=1) / (2 * blob.sigma_mm**2))
        for blob in cases.PHANTOM
    )
    expected = float((mu * inside).mean() * np.linalg.norm(pixel - source))
    assert expected > 0.05
    np.testing.assert_allclose(film[2, 5], expected, rtol=1e-4)


def test_voxels_hold_means_of_the_phantom(cases: Any) -> None:
    fine, coarse = (cases.phantom_volume(cases.CASES[0].reduced(factor)) for factor in (8, 16))
    blocks = fine.reshape(14, 2, 14, 2, 14, 2).mean(dim=(1, 3, 5))
    torch.testing.assert_close(coarse, blocks, rtol=1e-5, atol=1e-9)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's memory high-water mark")
def test_added_memory_counts_what_is_beyond_the_result(benchmark: ModuleType) -> None:
    measure = sys.modules["peers.measure"]

    def task() -> tuple[torch.Tensor]:
        scratch = torch.ones(16 * 2**20)  # 67 MB, given back before the end
        return (scratch[: 8 * 2**20] + 1,)

    added = measure._added_mb(task)
    assert added is None or abs(added - 67.1) < 5


def test_turns_give_each_task_its_repeats(benchmark: ModuleType) -> None:
    calls: list[str] = []
    tasks = {name: (lambda name=name: calls.append(name)) for name in ("often", "rare")}
    medians = sys.modules["peers.measure"].in_turns(tasks, {"often": 7, "rare": 2})
    assert set(medians) == {"often", "rare"} and all(median >= best >= 0 for median, best in medians.values())
    # One untimed run at the beginning of each turn.
    assert calls == ["often"] * 4 + ["rare"] * 3 + ["often"] * 4 + ["often"] * 2
