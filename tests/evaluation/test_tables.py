"""Summary tables: means, standard deviations, gaps, markdown and CSV."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from xrecon.errors import InputError, OutputExistsError
from xrecon.evaluation.tables import PerCase, Statistic, format_statistic, summary, summary_table, write_csv

ROWS = [
    PerCase("a", "pca", {"mae_hu": 10.0, "ssim_3d": 0.5}, 1.0),
    PerCase("b", "pca", {"mae_hu": 14.0, "ssim_3d": None}, 3.0),
    PerCase("a", "atlas", {"mae_hu": 20.0, "dice": 0.25}, 0.5),
]


def test_mean_and_sample_standard_deviation_per_model() -> None:
    table = summary(ROWS)
    assert list(table) == ["pca", "atlas"]
    assert table["pca"]["mae_hu"] == Statistic(12.0, pytest.approx(math.sqrt(8)), 2)
    assert table["pca"]["seconds"].mean == pytest.approx(2.0)
    assert table["atlas"]["mae_hu"] == Statistic(20.0, None, 1)


def test_missing_values_are_left_out_and_counted() -> None:
    table = summary(ROWS)
    assert table["pca"]["ssim_3d"] == Statistic(0.5, None, 1)
    assert table["pca"]["dice"] == Statistic(None, None, 0)
    nan = summary([PerCase("a", "m", {"x": math.nan}, 1.0), PerCase("b", "m", {"x": 2.0}, 1.0)])
    assert nan["m"]["x"] == Statistic(2.0, None, 1)


def test_an_infinite_psnr_gives_an_infinite_mean_without_sd() -> None:
    rows = [PerCase(c, "m", {"psnr_2500_db": v}, 1.0) for c, v in (("a", math.inf), ("b", 20.0))]
    statistic = summary(rows)["m"]["psnr_2500_db"]
    assert statistic == Statistic(math.inf, None, 2)
    assert format_statistic("psnr_2500_db", statistic) == "inf"


def test_markdown_is_rectangular_and_states_units_and_partial_counts() -> None:
    lines = summary_table([*ROWS, PerCase("c|d", "x|y", {}, 1.0)]).splitlines()
    assert len(lines) == 5
    assert len({len(line) for line in lines}) == 1
    assert "MAE, whole volume (HU)" in lines[0]
    assert "12.0 ± 2.8" in lines[2]
    assert "0.5000 (n=1)" in lines[2]
    assert "0.25 " in lines[3]
    assert lines[4].startswith("| x\\|y")
    assert lines[1].count("|") == lines[0].count("|")


def test_csv_keeps_full_precision_and_empty_cells(tmp_path: Path) -> None:
    third = 1 / 3
    path = write_csv(tmp_path / "out" / "cases.csv", [*ROWS, PerCase("b", "atlas", {"mae_hu": third}, 2.0)])
    with path.open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["case", "model", "mae_hu", "ssim_3d", "dice", "seconds"]
    assert float(table[3]["mae_hu"]) == third
    assert table[1]["ssim_3d"] == ""
    assert [row["case"] for row in table] == ["a", "b", "a", "b"]


def test_csv_is_not_overwritten_silently(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "cases.csv", ROWS)
    before = path.read_bytes()
    with pytest.raises(OutputExistsError):
        write_csv(path, ROWS[:1])
    assert path.read_bytes() == before
    write_csv(path, ROWS[:1], overwrite=True)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2


def test_no_rows_and_double_cases_are_refused(tmp_path: Path) -> None:
    for function in (summary, summary_table, lambda rows: write_csv(tmp_path / "x.csv", rows)):
        with pytest.raises(InputError, match="no results"):
            function([])
        with pytest.raises(InputError, match="twice"):
            function([ROWS[0], ROWS[0]])
    assert not (tmp_path / "x.csv").exists()
