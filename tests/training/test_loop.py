"""The loop: what it learns, that it goes on exactly where it was, and what it leaves on the disk."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from support.training_runs import SLIM, small_dataset, small_training
from xrecon.augmentation.settings import AugmentConfig
from xrecon.errors import CheckpointError, ConfigError, DivergedError, InputError, OutputExistsError
from xrecon.models.checkpoint import load_model
from xrecon.training.loop import Outcome, fit
from xrecon.training.run_config import Training
from xrecon.training.run_folder import RunFolder

pytest.importorskip("lightning_fabric")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """An uninterrupted run of 3 steps."""
    return fit(_training(data), tmp_path_factory.mktemp("whole") / "run")


def _training(data: Path) -> Training:
    augment = {**AugmentConfig.off().model_dump(mode="json"), "affine": {}, "exposure": {}}
    return small_training(
        data,
        optimiser={"learning_rate": 1e-3, "ema": 0.9, "accumulate": 2, "clip_norm": 5.0},
        data={"augment": augment},
        run={"steps": 3, "checkpoint_every": 1, "validate_every": 2},
    )


def _weights(outcome: Outcome) -> dict[str, torch.Tensor]:
    assert outcome.model is not None
    return load_file(outcome.model / "model.safetensors")


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_its_settings_figures_pictures_checkpoints_and_a_model(whole: Outcome, data: Path) -> None:
    folder = whole.folder
    assert whole.finished
    assert whole.step == 3
    stored = Training.model_validate(yaml.safe_load((folder / "config.yaml").read_text()))
    assert stored == _training(data)
    facts = json.loads((folder / "run.json").read_text())
    assert facts["seed"] == 0
    assert facts["environment"]["packages"]["torch"] == torch.__version__
    assert len(facts["data"]["dataset_sha256"]) == 64
    assert "NOT FOR DIAGNOSIS" in facts["notice"]
    steps = [line for line in _lines(folder) if line["kind"] == "step"]
    assert [line["step"] for line in steps] == [1, 2, 3]
    assert {"voxel", "projection", "adversarial", "discriminator_real", "discriminator_fake", "rate", "seconds"} <= set(
        steps[0]
    )
    assert sorted(path.name for path in (folder / "panels").iterdir()) == ["step-00000002.png", "step-00000003.png"]
    assert len(list((folder / "checkpoints").iterdir())) in (2, 3)  # the last two, and the best
    network, information = load_model(folder / "model")
    assert information.metrics["validation_psnr"] == pytest.approx(whole.validation["psnr"])
    assert set(information.metrics["validation_cases"]) == {"case0", "case2"}  # fold 0, which did not train
    films = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert network(*films).shape == (1, 1, 64, 64, 64)


@pytest.mark.slow
def test_the_same_settings_give_the_same_weights(whole: Outcome, data: Path, tmp_path: Path) -> None:
    assert _same(_weights(fit(_training(data), tmp_path / "run")), _weights(whole))


def test_a_run_that_was_stopped_goes_on_exactly(whole: Outcome, data: Path, tmp_path: Path) -> None:
    limited = _training(data).model_copy(deep=True)
    limited = limited.model_copy(update={"run": limited.run.model_copy(update={"minutes": 1e-6})})
    for expected in (1, 2):
        stopped = fit(limited, tmp_path / "run", resume="auto")
        assert stopped.step == expected
        assert not stopped.finished
    assert _same(_weights(fit(_training(data), tmp_path / "run", resume="auto")), _weights(whole))
    assert [line["step"] for line in _lines(tmp_path / "run") if line["kind"] == "step"] == [1, 2, 3]


def test_a_killed_run_goes_on_exactly(whole: Outcome, data: Path, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            from pathlib import Path
            import yaml
            from xrecon.training.run_config import Training
            from xrecon.training.loop import fit
            settings = Training.model_validate(yaml.safe_load(Path(sys.argv[1]).read_text()))
            fit(settings, Path(sys.argv[2]))
            """
        )
    )
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump(_training(data).model_dump(mode="json")))
    run = tmp_path / "run"
    with subprocess.Popen([sys.executable, str(script), str(settings), str(run)]) as process:
        deadline = time.monotonic() + 300
        while not list(run.glob("checkpoints/step-*.ckpt")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert RunFolder(run).latest() is not None
    (run / "checkpoints" / ".unfinished-00000099").write_bytes(b"half a checkpoint")
    resumed = fit(_training(data), run, resume="auto")
    assert _same(_weights(resumed), _weights(whole))
    assert not list(run.glob("checkpoints/.unfinished*"))


@pytest.mark.slow
def test_a_full_disk_keeps_the_checkpoint_before(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_fabric import Fabric

    written = []

    def save(self: Fabric, path: Path, state: object, filter: object = None) -> None:
        if written:
            Path(path).write_bytes(b"the beginning")
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        original(self, path, state)

    original = Fabric.save
    monkeypatch.setattr(Fabric, "save", save)
    with pytest.raises(OSError, match="No space left"):
        fit(_training(data), tmp_path / "run")
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000001.ckpt"]
    assert fit(_training(data), tmp_path / "run", resume="auto").finished


@pytest.mark.slow
def test_overfits_one_case(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data", count=2)
    training = small_training(
        data,
        losses={"adversarial": 0.0, "projection": 0.0},
        optimiser={"learning_rate": 2e-2, "decay_share": 0.3},
        run={"steps": 24, "checkpoint_every": 1000, "validate_every": 1000},
    )
    fit(training, tmp_path / "run")
    voxel = [line["voxel"] for line in _lines(tmp_path / "run") if line["kind"] == "step"]
    assert voxel[-1] < 0.25 * voxel[0]  # type: ignore[operator]


@pytest.mark.slow
def test_the_discriminator_learns_to_tell(data: Path, tmp_path: Path) -> None:
    training = small_training(data, optimiser={"learning_rate": 1e-12, "discriminator_rate": 5e-3}, run={"steps": 10})
    fit(training, tmp_path / "run")
    steps = [line for line in _lines(tmp_path / "run") if line["kind"] == "step"]
    first, last = (sum(float(line[f"discriminator_{of}"]) for of in ("real", "fake")) for line in (steps[0], steps[-1]))  # type: ignore[arg-type]
    assert last < 0.5 * first


def test_divergence_stops_the_run_and_keeps_what_was_good(data: Path, tmp_path: Path) -> None:
    training = small_training(data, optimiser={"learning_rate": 1e30}, run={"checkpoint_every": 1})
    with pytest.raises(DivergedError, match="became infinite or NaN at step"):
        fit(training, tmp_path / "run")
    newest = RunFolder(tmp_path / "run").latest()
    assert newest is not None


def test_wrong_starts_are_refused(whole: Outcome, data: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputExistsError, match="--resume auto"):
        fit(_training(data), whole.folder)
    changed = _training(data).model_copy(update={"seed": 5})
    with pytest.raises(ConfigError, match="begun with other settings of seed"):
        fit(changed, whole.folder, resume="auto")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        fit(_training(data), tmp_path / "a", resume=str(tmp_path / "none.ckpt"))
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        fit(_training(data), tmp_path / "b", resume=str(broken))
    with pytest.raises(InputError, match=r"dataset\.json"):
        fit(small_training(tmp_path), tmp_path / "c")


SHARDED = """
import sys
from pathlib import Path
import torch, yaml
from xrecon.training import loop
from xrecon.training.run_config import Training

torch.set_num_threads(1)
settings = Training.model_validate(yaml.safe_load(Path(sys.argv[1]).read_text()))
if len(sys.argv) > 3:
    loop._out_of_time = lambda *_: True  # the time limit, after one step
outcome = loop.fit(settings, Path(sys.argv[2]), resume="auto")
print(outcome.step, outcome.finished)
"""


@pytest.mark.slow
def test_a_sharded_run_goes_on_from_its_checkpoint_and_ends_with_whole_weights(data: Path, tmp_path: Path) -> None:
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    training = small_training(
        data,
        generator={"settings": {**SLIM, "dropout": 0.0}},
        optimiser={"ema": 0.9, "clip_norm": 1.0},
        run={"devices": 2, "strategy": "fsdp", "steps": 3},
    )
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump(training.model_dump(mode="json")))
    weights = []
    for folder, stops in (("whole", [()]), ("parts", [("stop",), ()])):
        for more in stops:
            command = [sys.executable, str(script), str(settings), str(tmp_path / folder), *more]
            subprocess.run(command, check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
        weights.append(load_file(tmp_path / folder / "model" / "model.safetensors"))
    # Gradients differ by about 1 % from run to run, as above, which leaves 0.0016; without Adam's moments it is 0.044.
    apart, size = (
        math.sqrt(sum(float(value.square().sum()) for value in values))
        for values in ([value - weights[1][name] for name, value in weights[0].items()], weights[0].values())
    )
    assert apart < 0.01 * size
    steps = [line["step"] for line in _lines(tmp_path / "parts") if line["kind"] == "step"]
    assert steps == [1, 2, 3]
