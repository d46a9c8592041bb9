"""The lung network and its training: laws of its parts, and the real command on the artificial thorax."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from xrecon.errors import CheckpointError, InputError, OutputExistsError
from xrecon.models.checkpoint import WEIGHTS_NAME, load_model, save_model
from xrecon.models.lung_network import (
    LungNet,
    LungNetConfig,
    _fold,
    _unfold,
    network_input,
    predict,
)
from xrecon.phantoms.thorax import Phantom
from xrecon.training.lungs.augment import augment
from xrecon.training.lungs.held_out import held_out
from xrecon.training.lungs.loop import STATE_NAME, LungTraining, train_lungs
from xrecon.training.lungs.loss import lung_loss
from xrecon.training.lungs.planted_cases import OCCUPANCIES, Recipe, coarse_case, make_cases, read_case, recipes

TINY = LungNetConfig(channels=(4, 6), pitch_mm=12.0)
QUICK = LungTraining(minutes=0.02, shape=(16, 16, 16), checkpoint_minutes=0.005)


SMALL = [
    Recipe("healthy"),
    Recipe("subcutaneous"),
    Recipe("pneumothorax", side="left", occupancy=0.65, seed=3),
]


@pytest.fixture(scope="module")
def phantom_cases(phantom64_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[str, Path]]]:
    """Three variants of the artificial thorax, under the names of four patients."""
    folder = tmp_path_factory.mktemp("cases")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xrecon.training.lungs.planted_cases.recipes", lambda _index, seed=0, rounds=1: SMALL)
        files = make_cases([("one", phantom64_file)], folder, pitch_mm=12.0, progress=lambda _line: None)
        yield [(name, path) for name in ("a", "b", "c", "d") for _, path in files]


def test_folding_keeps_every_value_in_its_place() -> None:
    x = torch.arange(2 * 3 * 8 * 4 * 6, dtype=torch.float32).reshape(2, 3, 8, 4, 6)
    folded = _fold(x)
    assert folded.shape == (2, 24, 4, 2, 3)
    assert torch.equal(_unfold(folded), x)
    assert set(folded[0, :8, 0, 0, 0].tolist()) == set(x[0, 0, :2, :2, :2].flatten().tolist())


def test_the_windows_are_scaled_and_clipped() -> None:
    values = network_input(torch.tensor([-2000.0, -1000.0, -650.0, 0.0, 3000.0]).reshape(1, 1, 1, 5))
    assert values.shape == (1, 2, 1, 1, 5)
    assert values[0, 0].flatten().tolist() == [-1.0, -1.0, 0.0, 1.0, 1.0]
    assert values[0, 1].flatten().tolist() == [-1.0, -1.0, -1.0, 0.0, 1.0]


def test_the_shipped_size_stays_below_five_megabytes() -> None:
    assert 2 * sum(weight.numel() for weight in LungNet().parameters()) < 5_000_000


def test_shares_add_up_on_any_grid() -> None:
    torch.manual_seed(0)
    hu = np.random.default_rng(0).uniform(-1000, 200, (37, 50, 61)).astype(np.float32)
    shares = predict(LungNet(TINY).eval(), hu, (5.0, 2.0, 2.0)).fine()
    assert shares.shape == (3, *hu.shape)
    np.testing.assert_allclose(shares.sum(axis=0), 1.0, atol=1e-5)
    assert shares.min() > -1e-5


def test_saved_weights_are_the_same_and_guarded(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = LungNet(TINY)
    save_model(network, tmp_path, name="tiny", training_data="none", licence="none", dtype=torch.float16)
    loaded, information = load_model(tmp_path, dtype=torch.float32)
    assert information.parameters == sum(weight.numel() for weight in network.parameters())
    for before, after in zip(network.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(before.half().float(), after)
    with pytest.raises(OutputExistsError):
        save_model(network, tmp_path, name="tiny", training_data="none", licence="none", dtype=torch.float16)
    weights = tmp_path / WEIGHTS_NAME
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged or changed"):
        load_model(tmp_path)


def test_every_patient_gets_every_size_and_each_its_own() -> None:
    first, second = recipes(0), recipes(1)
    assert first == recipes(0)
    assert first != second
    for variants in (first, second):
        assert sorted(r.occupancy for r in variants if r.kind == "pneumothorax") == sorted(OCCUPANCIES)
        assert {r.kind for r in variants} == {"healthy", "bulla", "stomach", "subcutaneous", "pneumothorax"}
        assert len({r.name for r in variants}) == len(variants)


def test_more_rounds_add_to_the_first() -> None:
    once, often = recipes(2), recipes(2, rounds=3)
    assert often[: len(once)] == once
    added = often[len(once) :]
    assert sorted(r.occupancy for r in added) == sorted(2 * OCCUPANCIES)
    assert len({r.seed for r in often if r.kind == "pneumothorax"}) == 3 * len(OCCUPANCIES)
    assert len({r.name for r in often}) == len(often)


def test_the_coarse_truth_keeps_volumes(phantom64: Phantom) -> None:
    case = coarse_case(phantom64.volume, np.minimum(phantom64.labels, 2), 12.0)
    assert case.hu.shape == case.sides.shape == (32, 32, 32)
    for side in (1, 2):
        ml = float((case.sides == side).sum()) * 12.0**3 / 1000.0
        assert ml == pytest.approx(float((phantom64.labels == side).sum()) * phantom64.volume.voxel_ml, rel=0.1)


def test_planted_air_belongs_to_its_side(phantom_cases: list[tuple[str, Path]]) -> None:
    files = {path.stem.split("__")[1]: path for _, path in phantom_cases}
    healthy = read_case(files["healthy"])
    sick = read_case(files["left_65_supine"])
    dark = [(sick.hu[sick.sides == side] < -900).mean() for side in (1, 2)]
    assert dark[0] < 0.05 < 0.2 < dark[1]
    dice = 2.0 * ((sick.sides > 0) & (healthy.sides > 0)).sum() / ((sick.sides > 0).sum() + (healthy.sides > 0).sum())
    assert dice > 0.85


def test_cases_are_made_once(phantom64_file: Path, phantom_cases: list[tuple[str, Path]]) -> None:
    folder = phantom_cases[0][1].parent
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    files = make_cases([("one", phantom64_file)], folder, pitch_mm=12.0, progress=lambda _line: None)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")} == before
    assert len(files) == len(before)


def test_a_damaged_case_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"x\.npz: not a training case"):
        read_case(tmp_path / "x.npz")


def test_augmentation_never_mirrors(phantom_cases: list[tuple[str, Path]]) -> None:
    case = read_case(next(path for _, path in phantom_cases if path.stem.endswith("healthy")))
    hu, sides = torch.from_numpy(case.hu.astype(np.float32)), torch.from_numpy(case.sides)
    for seed in range(12):
        rng = torch.Generator().manual_seed(seed)
        moved, labels = augment(hu, sides, (32, 28, 32), rng)
        assert moved.shape == labels.shape == (32, 28, 32)
        assert torch.isfinite(moved).all()
        right, left = ((labels == side).nonzero()[:, 2].float().mean() for side in (1, 2))
        assert right + 5 < left
        again = augment(hu, sides, (32, 28, 32), torch.Generator().manual_seed(seed))
        assert torch.equal(again[0], moved)


def test_the_loss_prefers_the_truth() -> None:
    sides = torch.randint(3, (1, 8, 8, 8), generator=torch.Generator().manual_seed(0))
    right = 8.0 * torch.nn.functional.one_hot(sides, 3).movedim(-1, 1).float()
    hu = torch.zeros(1, 8, 8, 8)
    good, bad = (float(lung_loss(x, sides, hu, 3.0)) for x in (right, -right))
    assert good < 0.1 < 1.0 < bad


def test_too_much_dense_lung_costs_as_much_as_too_little() -> None:
    hu = torch.full((1, 12, 12, 12), 40.0)
    hu[..., 9:] = -900.0
    sides = torch.zeros(1, 12, 12, 12, dtype=torch.long)
    sides[..., 5:] = 1

    def loss(border: int) -> float:
        guess = torch.zeros_like(sides)
        guess[..., border:] = 1
        return float(lung_loss(6.0 * torch.nn.functional.one_hot(guess, 3).movedim(-1, 1).float(), sides, hu, 6.0))

    less, right, more = loss(6), loss(5), loss(4)
    assert right < min(less, more)
    assert less - right == pytest.approx(more - right, rel=0.2)


def test_every_fifth_patient_is_held_out() -> None:
    names = [f"p{i}" for i in range(14)]
    assert held_out(names) == ("p2", "p7", "p12")
    assert held_out(["a", "a", "b"]) == ()


def test_training_learns_stores_and_resumes(phantom_cases: list[tuple[str, Path]], tmp_path: Path) -> None:
    lines: list[str] = []
    network, metrics = train_lungs(phantom_cases, tmp_path, settings=QUICK, network=TINY, progress=lines.append)
    assert metrics.held_out_patients == ("c",)
    assert metrics.steps > 0
    assert 0.0 <= metrics.to_dict()["held_out_dice_at_12_mm_healthy"]["mean"] <= 1.0
    assert "held out: c" in lines[0]
    longer = replace_minutes(QUICK, 0.03)
    more, later = train_lungs(
        phantom_cases, tmp_path, settings=longer, network=TINY, resume=True, progress=lines.append
    )
    assert later.steps > metrics.steps
    assert any(not torch.equal(a, b) for a, b in zip(network.parameters(), more.parameters(), strict=True))
    with pytest.raises(CheckpointError, match="another network"):
        train_lungs(phantom_cases, tmp_path, settings=QUICK, network=LungNetConfig(), resume=True)
    (tmp_path / STATE_NAME).unlink()
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train_lungs(phantom_cases, tmp_path, settings=QUICK, network=TINY, resume=True)


def test_training_begins_with_given_weights(phantom_cases: list[tuple[str, Path]], tmp_path: Path) -> None:
    torch.manual_seed(5)
    start = LungNet(TINY)
    before = [weight.detach().clone() for weight in start.parameters()]
    still = QUICK.model_copy(update={"minutes": 0.001, "learning_rate": 0.0, "weight_decay": 0.0})
    network, metrics = train_lungs(phantom_cases, tmp_path, settings=still, start=start, progress=lambda _line: None)
    assert metrics.steps > 0
    assert network.config == TINY
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(before, network.parameters(), strict=True))


def replace_minutes(settings: LungTraining, minutes: float) -> LungTraining:
    return settings.model_copy(update={"minutes": minutes})


def test_no_cases_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training cases"):
        train_lungs([], tmp_path, settings=QUICK)


def test_a_variant_that_does_not_fit_is_told(
    phantom64_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wet = replace(Recipe("pneumothorax", occupancy=0.5), effusion_ml=3000.0)
    monkeypatch.setattr("xrecon.training.lungs.planted_cases.recipes", lambda _index, seed=0, rounds=1: [wet])
    lines: list[str] = []
    assert make_cases([("one", phantom64_file)], tmp_path, pitch_mm=12.0, progress=lines.append) == []
    assert "does not fit" in lines[0]


@pytest.mark.slow
def test_the_command_makes_weights_that_segment_takes(phantom64_file: Path, tmp_path: Path) -> None:
    """Everything that made the shipped weights, on one artificial patient and for a second."""
    from typer.testing import CliRunner

    from xrecon.cli.app import build_app
    from xrecon.ptxseg.hemithoraces.lung_models import resolve

    folder, out = tmp_path / "cases", tmp_path / "run"
    folder.mkdir()
    (folder / phantom64_file.name).write_bytes(phantom64_file.read_bytes())
    result = CliRunner().invoke(build_app(), ["train", "lungs", str(folder), "-o", str(out), "--minutes", "0.01"])
    assert result.exit_code == 0, result.output
    assert load_model(out)[1].family == "lungs"
    assert resolve(str(out)).load() is not None
    again = ["train", "lungs", str(folder), "-o", str(tmp_path / "again"), "--minutes", "0.01", "--start", str(out)]
    result = CliRunner().invoke(build_app(), again)
    assert result.exit_code == 0, result.output
    assert load_model(tmp_path / "again")[1].metrics["begun_with_sha256"] == load_model(out)[1].sha256


def test_weights_to_start_with_have_to_be_there(phantom64_file: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from xrecon.cli.app import build_app

    folder, absent = str(phantom64_file.parent), str(tmp_path / "absent")
    result = CliRunner().invoke(build_app(), ["train", "lungs", folder, "-o", str(tmp_path / "o"), "--start", absent])
    assert result.exit_code == 2
    assert "absent: holds no model.safetensors" in result.stderr
    assert not (tmp_path / "o").exists()
