"""One training step of both networks: the same on several processes as on one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from support.training_runs import SLIM, small_dataset, small_training
from xrecon.training.gan import Gan
from xrecon.training.samples import TrainingSamples, open_data
from xrecon.training.session import make_fabric, volume_size

pytest.importorskip("lightning_fabric")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(tmp_path_factory.mktemp("data"))


GRADIENTS = """
import sys
from pathlib import Path
import torch, yaml
sys.path.insert(0, sys.argv[3])
from xrecon.training.run_config import Training
from xrecon.training.gan import Gan
from xrecon.training.samples import TrainingSamples, loader, open_data
from xrecon.training.session import make_fabric
from xrecon.training.sharding import whole

torch.set_num_threads(1)
settings = Training.model_validate(yaml.safe_load(Path(sys.argv[1]).read_text()))
fabric = make_fabric(settings)
cases, _ = open_data(settings.data)
samples = TrainingSamples(cases, settings.data.augment, size=64, seed=0)
batches = loader(samples, first=0, settings=settings.data, rank=fabric.global_rank, processes=fabric.world_size)
gan = Gan(settings, fabric, spacing_mm=6.0, steps=10)
tensors = {}
def record(name, module, optimiser):
    step = optimiser.step
    def recording_step(*a, **k):
        for key, parameter in module.named_parameters():
            if parameter.grad is not None:
                tensors[name + "." + key] = whole(parameter.grad).clone()
        return step(*a, **k)
    optimiser.step = recording_step
record("generator", gan.network, gan.generator_optimiser)
record("discriminator", gan.plain_discriminator, gan.discriminator_optimiser)
gan.step([next(batches)], 0)
tensors.update({"after." + key: whole(value).clone() for key, value in gan.network.state_dict().items()})
torch.save(tensors, f"{sys.argv[2]}-{fabric.global_rank}.pt")
"""


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_two_processes_with_one_case_each_are_one_process_with_two(strategy: str, data: Path, tmp_path: Path) -> None:
    script = tmp_path / "gradients.py"
    script.write_text(GRADIENTS)
    outcomes = {}
    for processes, batch in ((2, 1), (1, 2)):
        settings = tmp_path / f"settings{processes}.yaml"
        training = small_training(
            data,
            generator={"settings": {**SLIM, "dropout": 0.0}},
            data={"batch_size": batch, "fold": None},
            run={"devices": processes, "strategy": strategy if processes > 1 else "auto"},
        )
        settings.write_text(yaml.safe_dump(training.model_dump(mode="json")))
        place = tmp_path / f"gradients{processes}"
        command = [
            sys.executable,
            str(script),
            str(settings),
            str(place),
            str(Path(__file__).parents[1]),
        ]
        subprocess.run(command, check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
        outcomes[processes] = [torch.load(f"{place}-{rank}.pt", weights_only=True) for rank in range(processes)]
    single, (first, second) = outcomes[1][0], outcomes[2]
    assert single.keys() == first.keys()
    assert any(name.startswith("discriminator") for name in single)
    largest = max(float(value.norm()) for name, value in single.items() if not name.startswith("after"))
    for name, value in single.items():
        assert torch.equal(first[name], second[name]), name  # identical weights and gradients on all ranks
        if not name.startswith("after"):
            # Float32 sums in another order, through many normalisations; a share that is wrong would be off by half.
            assert float((first[name] - value).norm()) <= 0.03 * float(value.norm()) + 1e-5 * largest, name


@pytest.mark.parametrize(("precision", "fused"), [("32-true", True), ("bf16-mixed", False)])
def test_adam_takes_a_step_in_one_go_where_nothing_forbids_it(precision: str, fused: bool, data: Path) -> None:
    settings = small_training(data, run={"precision": precision})
    gan = Gan(settings, make_fabric(settings), spacing_mm=6.0, steps=10)
    optimisers = (gan.generator_optimiser, gan.discriminator_optimiser)
    assert [bool(adam.param_groups[0]["fused"]) for adam in optimisers] == [fused, fused]


def test_gradient_norms_are_measured_in_half_precision(data: Path) -> None:
    norms = []
    for precision in ("32-true", "bf16-mixed"):
        settings = small_training(data, run={"precision": precision})
        gan = Gan(settings, make_fabric(settings), spacing_mm=6.0, steps=10)
        cases, _ = open_data(settings.data)
        batch = TrainingSamples(cases, settings.data.augment, size=volume_size(settings), seed=0)[0]
        values = gan.step([batch], 0, norms=True)
        norms.append({name: value for name, value in values.items() if name.startswith("gradient_norm/")})
    exact, rounded = norms
    assert set(exact) == set(rounded) >= {"gradient_norm/voxel", "gradient_norm/adversarial"}
    for name, value in exact.items():
        assert rounded[name] == pytest.approx(value, rel=0.2), name
