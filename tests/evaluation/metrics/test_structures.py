"""Heart and spine next to a label map: hand values, the truth's own value, files, refusals."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from xrecon.cli.app import build_app
from xrecon.data.dataset import PreparedDataset
from xrecon.errors import ConfigError, InputError
from xrecon.evaluation.metrics.structures import (
    STRUCTURE_METRICS,
    StructureMaps,
    load_structure_maps,
    structure_masks,
    structure_metrics,
)
from xrecon.io.nifti import write_nifti
from xrecon.volume import Volume

GRID_MM = 4.0


def boxes() -> tuple[Volume, dict[str, np.ndarray]]:
    """Lung with a heart of 10 voxels' edge, a liver below it that touches it, and a spine behind."""
    hu = np.full((32, 32, 32), -850.0, np.float32)
    heart, spine, liver = (np.zeros(hu.shape, bool) for _ in range(3))
    heart[8:18, 8:18, 12:22] = True
    liver[18:30, 8:18, 4:28] = True
    spine[:, 24:28, 14:18] = True
    hu[heart | liver] = 40.0
    hu[spine] = 300.0
    return Volume.centred(hu, (GRID_MM,) * 3), {"heart": heart, "spine": spine}


def measured(estimate: Volume) -> dict[str, float | None]:
    truth, masks = boxes()
    return structure_metrics(estimate, truth, masks, StructureMaps(maps={"x": Path("x")}).rules())


def test_the_truth_itself_is_perfect() -> None:
    truth, _ = boxes()
    metrics = measured(truth)
    assert list(metrics) == [metric.name for metric in STRUCTURE_METRICS]
    assert metrics["heart_dice"] == metrics["spine_dice"] == 1.0
    assert metrics["heart_shift_mm"] == metrics["spine_shift_mm"] == 0.0
    assert metrics["heart_mae_hu"] == metrics["spine_mae_hu"] == 0.0


def test_a_heart_one_voxel_to_the_left() -> None:
    """1000 voxels each, 900 shared, and the liver below does not count as heart."""
    truth, masks = boxes()
    hu = truth.hu.copy()
    hu[masks["heart"]] = -850.0
    hu[8:18, 8:18, 13:23] = 40.0
    metrics = measured(truth.with_hu(hu))
    assert metrics["heart_dice"] == pytest.approx(0.9)
    assert metrics["heart_shift_mm"] == pytest.approx(GRID_MM)
    assert metrics["heart_mae_hu"] == pytest.approx(89.0)
    assert metrics["spine_dice"] == 1.0


def test_a_chest_without_heart_and_spine() -> None:
    truth, _ = boxes()
    metrics = measured(truth.with_hu(np.full(truth.shape, -850.0, np.float32)))
    assert metrics["heart_dice"] == metrics["spine_dice"] == 0.0
    assert metrics["heart_shift_mm"] is None
    assert metrics["spine_mae_hu"] == pytest.approx(1150.0)


def write_map(chests: Path, folder: Path) -> Path:
    """A label map of test case "one" on its CT's grid: 51 in the middle, 30 at the back."""
    case = next(case for case in PreparedDataset(chests, "test") if case.name == "one").load()
    labels = np.zeros(case.ct.shape, np.uint8)
    labels[24:40, 16:32, 28:44] = 51
    labels[:, 40:48, 28:36] = 30
    write_nifti(folder / "one.nii.gz", labels, case.affine, description="test")
    settings = folder / "structures.yaml"
    settings.write_text("maps:\n  one: one.nii.gz\n", encoding="utf-8")
    return settings


def test_masks_lie_where_the_map_says(chests: Path, tmp_path: Path) -> None:
    maps = load_structure_maps(write_map(chests, tmp_path))
    case = next(case for case in PreparedDataset(chests, "test") if case.name == "one").load()
    masks = structure_masks(maps, "one", case)
    assert masks["heart"].sum() == 16**3 and masks["heart"][24:40, 16:32, 28:44].all()
    assert masks["spine"][:, 40:48, 28:36].all() and masks["spine"].sum() == 64 * 64


def test_command_measures_them_on_two_workers(chests: Path, tmp_path: Path) -> None:
    """Rows are those of one process, with heart and spine in the case that has a map."""
    pytest.importorskip("distributed", reason="needs the extra `scale`")
    common = ["evaluate", "--dataset", chests, "--no-baselines", "--model", "atlas", "--no-anatomy"]
    tables = []
    for name, more in (("one", ()), ("two", ("--workers", 2, "--structures", write_map(chests, tmp_path)))):
        done = CliRunner().invoke(build_app(), [*map(str, [*common, *more, "-o", tmp_path / name])])
        assert done.exit_code == 0, done.stderr
        with (tmp_path / name / "per-case.csv").open(encoding="utf-8", newline="") as file:
            tables.append({row["case"]: row for row in csv.DictReader(file)})
    alone, together = tables
    assert "heart_dice" not in alone["one"]
    assert [together[case]["psnr_2500_db"] for case in ("one", "two")] == [
        alone[case]["psnr_2500_db"] for case in ("one", "two")
    ]
    assert float(together["one"]["heart_mae_hu"]) > 0
    assert together["two"]["heart_mae_hu"] == ""
    assert "Heart and spine" in (tmp_path / "two" / "report.html").read_text(encoding="utf-8")


def test_unusable_maps_are_refused(chests: Path, tmp_path: Path) -> None:
    settings = write_map(chests, tmp_path)
    text = settings.read_text(encoding="utf-8")
    for more, message in (("hart: {}\n", "did you mean 'heart'"), ("heart: {labels: []}\n", "heart")):
        settings.write_text(text + more, encoding="utf-8")
        with pytest.raises(ConfigError, match=message):
            load_structure_maps(settings)
    settings.write_text("maps:\n  one: gone.nii.gz\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"missing: one: .*gone\.nii\.gz"):
        load_structure_maps(settings)
    settings.write_text(text + "heart: {labels: [77], from_hu: -200, within_mm: 20}\n", encoding="utf-8")
    maps = load_structure_maps(settings)
    case = next(iter(PreparedDataset(chests, "test"))).load()
    with pytest.raises(InputError, match="none of the labels 77 of the heart"):
        structure_masks(maps, "one", case)
    out = tmp_path / "o"
    done = CliRunner().invoke(
        build_app(), ["evaluate", "--dataset", str(chests), "--structures", str(settings), "-o", str(out)]
    )
    assert done.exit_code == 2 and "none of the labels 77" in done.stderr  # before any work, not once per model
    assert not (out / "results").exists()
    settings.write_text(text.replace("one:", "nobody:"), encoding="utf-8")
    done = CliRunner().invoke(
        build_app(),
        ["evaluate", "--dataset", str(chests), "--model", "atlas", "--structures", str(settings),
         "-o", str(tmp_path / "o")],
    )  # fmt: skip
    assert done.exit_code == 2 and "the label maps are of nobody" in done.stderr
