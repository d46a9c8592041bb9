"""One step of the game: the generator against a frozen discriminator, then the discriminator on what came out."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from xrecon.errors import ConfigError
from xrecon.models import Discriminator, Generator, create, create_discriminator
from xrecon.models.fast.generator import FastGenerator
from xrecon.training.config import Training
from xrecon.training.losses import (
    Batch,
    GeneratorLoss,
    Scores,
    discriminator_game,
    feature_distance,
    generator_game,
)
from xrecon.training.schedule import WeightMean, rate_factor
from xrecon.training.sharding import divided_like, is_sharded, whole


class Game:
    """Both networks, their optimisers, and how they change in a step.

    Args:
        training: the settings.
        fabric: where and in which arithmetic.
        spacing_mm: voxel pitch of the volumes.
        steps: length of the run, for the course of the rate.
    """

    def __init__(self, training: Training, fabric: Fabric, *, spacing_mm: float, steps: int) -> None:
        self.training, self.fabric, self.steps = training, fabric, steps
        self.losses = GeneratorLoss(training.losses, spacing_mm=spacing_mm)
        draws = torch.Generator().manual_seed(training.seed)
        network = create(training.generator.name, rng=draws, **training.generator.settings)
        if not isinstance(network, Generator):
            raise ConfigError(f"generator.name: {training.generator.name!r} is no generator")
        self.network = network
        fast = FastGenerator(network, checkpointing=training.run.checkpointing)
        # Parameters that nothing depends on would keep distributed training waiting for their gradients.
        dead = fast.dead_parameter_names()
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name not in dead)
        self.fast, self.of_fast = self._set_up(fast, training.optimiser.learning_rate)
        self.sharded = is_sharded(network)
        self.judge: Any = None
        self.plain_judge: Discriminator | None = None
        if training.losses.adversarial:
            judge = create_discriminator(training.discriminator.name, rng=draws, **training.discriminator.settings)
            assert isinstance(judge, Discriminator)
            if training.run.channels_last:
                judge = judge.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
            self.plain_judge = judge
            rate = training.optimiser.discriminator_rate or training.optimiser.learning_rate
            self.judge, self.of_judge = self._set_up(judge, rate)
        self.mean = WeightMean(network, training.optimiser.ema) if training.optimiser.ema else None

    def _set_up(self, module: torch.nn.Module, rate: float) -> tuple[Any, Any]:
        # First the network: sharding replaces its parameters, and the optimiser has to hold the new ones.
        ready: Any = self.fabric.setup_module(module)
        live = [parameter for parameter in ready.parameters() if parameter.requires_grad]
        # In half precision Fabric cannot clip gradients that the optimiser itself unscales.
        fused = self.fabric.device.type == "cpu" and not is_sharded(ready) and "16" not in self.training.run.precision
        adam = torch.optim.Adam(live, lr=rate, betas=self.training.optimiser.betas, fused=fused or None)
        adam.param_groups[0]["base_rate"] = rate
        return ready, self.fabric.setup_optimizers(adam)

    def step(self, batches: list[Batch], number: int, *, norms: bool = False) -> dict[str, float]:
        """Step `number` on the batches of one accumulation; returns every term, unweighted, and the rate.

        Dropout and poses are drawn from the seed and the number, so that a resumed run draws the same.
        """
        torch.manual_seed(_seed(self.training.seed, number, self.fabric.global_rank))
        factor = rate_factor(number, self.steps, self.training.optimiser)
        logged: dict[str, float] = {}
        fakes = []
        self._set_rate(self.of_fast, factor)
        for k, batch in enumerate(batches):
            poses = torch.Generator().manual_seed(_seed(self.training.seed, number, k, 7))
            with self.fabric.no_backward_sync(self.fast, enabled=k < len(batches) - 1):
                fakes.append(self._generator_pass(batch, poses, share=1 / len(batches), logged=logged, norms=norms))
        self._update(self.fast, self.of_fast, "generator_norm", logged)
        if self.judge is not None:
            self._set_rate(self.of_judge, factor)
            self.of_judge.zero_grad()  # sharded, it has gradients of the generator's game
            for k, (batch, fake) in enumerate(zip(batches, fakes, strict=True)):
                self._discriminator_pass(batch, fake, last=k == len(batches) - 1, share=1 / len(batches), logged=logged)
            self._update(self.judge, self.of_judge, "discriminator_norm", logged)
        if self.mean is not None:
            self.mean.update(self.network, number)
        return {**logged, "rate": self.of_fast.param_groups[0]["lr"]}

    def _generator_pass(
        self, batch: Batch, poses: torch.Generator, *, share: float, logged: dict[str, float], norms: bool
    ) -> Tensor:
        fake: Tensor = self.fast(batch.pa, batch.lateral).float()
        terms = self.losses.terms(fake, batch, poses=poses)
        if self.plain_judge is not None:
            # The bare module: no gradients of its own are wanted here, so nothing is to be exchanged either. Sharded
            # parameters keep what they were told when they were divided.
            if not self.sharded:
                self.plain_judge.requires_grad_(False)
            terms.update(self._played(fake, batch))
            self.plain_judge.requires_grad_(True)
        if norms:
            for name, value in terms.items():
                (slope,) = torch.autograd.grad(value, fake, retain_graph=True)
                _add(logged, f"gradient_norm/{name}", getattr(self.training.losses, name) * float(slope.norm()) * share)
        self.fabric.backward(self.losses.total(terms) * share)
        for name, value in terms.items():
            _add(logged, name, float(value.detach()) * share)
        return fake.detach()

    def _played(self, fake: Tensor, batch: Batch) -> dict[str, Tensor]:
        assert self.plain_judge is not None
        form = self.training.losses.gan
        with self.fabric.autocast():
            if not self.training.losses.feature_matching:
                return {"adversarial": generator_game(self.plain_judge(fake, batch.pa, batch.lateral), form)}
            scores, ours = self.plain_judge(fake, batch.pa, batch.lateral, features=True)
            with torch.no_grad():
                _, theirs = self.plain_judge(batch.ct, batch.pa, batch.lateral, features=True)
        return {"adversarial": generator_game(scores, form), "feature_matching": feature_distance(ours, theirs)}

    def _discriminator_pass(
        self, batch: Batch, fake: Tensor, *, last: bool, share: float, logged: dict[str, float]
    ) -> None:
        """One backward pass per volume: the second does not wait on the memory of the first."""
        weights = self.training.losses
        for name, ct, real in (("real", batch.ct, True), ("fake", fake, False)):
            with self.fabric.no_backward_sync(self.judge, enabled=not (last and not real)):
                scores: Scores = self.judge(ct, batch.pa, batch.lateral)
                paid = discriminator_game(scores, weights.gan, real=real)
                self.fabric.backward(paid * weights.adversarial * share)
            _add(logged, f"discriminator_{name}", float(paid.detach()) * share)

    def _set_rate(self, adam: Any, factor: float) -> None:
        for group in adam.param_groups:
            group["lr"] = group["base_rate"] * factor

    def _update(self, module: Any, adam: Any, name: str, logged: dict[str, float]) -> None:
        limit = self.training.optimiser.clip_norm
        if limit is not None:
            norm = self.fabric.clip_gradients(module, adam, max_norm=limit, error_if_nonfinite=False)
            logged[name] = float(whole(norm)) if norm is not None else 0.0
        adam.step()
        adam.zero_grad()

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of the game."""
        found = {"generator": self.fast, "of_generator": self.of_fast}
        if self.judge is not None:
            found |= {"discriminator": self.judge, "of_discriminator": self.of_judge}
        if self.mean is not None:
            found["mean"] = self.mean.values
        return found

    def restored(self, found: Mapping[str, Any]) -> None:
        """Take over what `fabric.load` could not put in place itself."""
        if self.mean is not None:
            values = self.mean.values
            self.mean.values = {name: divided_like(value, values[name]) for name, value in found["mean"].items()}

    def final_weights(self) -> dict[str, Tensor]:
        """The weights to use, whole: the mean where there is one. Of all processes together where they are sharded."""
        values = self.mean.state() if self.mean is not None else self.network.state_dict()
        return {name: whole(value.detach()) for name, value in values.items()}


def _seed(*parts: int) -> int:
    return zlib.crc32(repr(parts).encode())


def _add(logged: dict[str, float], name: str, value: float) -> None:
    logged[name] = logged.get(name, 0.0) + value
