"""Generator and discriminator, their optimisers, and one training step of both.

A step first updates the generator against a frozen discriminator, then the discriminator on the volume that the
generator just made (Goodfellow et al., NeurIPS 2014; conditional on the films as in X2CT-GAN, Ying et al., CVPR 2019).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from xrecon.errors import ConfigError
from xrecon.models import Discriminator, Generator, create, create_discriminator
from xrecon.models.config import GeneratorConfig
from xrecon.models.fast import FastGenerator
from xrecon.models.registry import build
from xrecon.training.losses import (
    Batch,
    GeneratorLoss,
    Scores,
    discriminator_loss,
    feature_distance,
    generator_adversarial_loss,
)
from xrecon.training.run_config import Training
from xrecon.training.schedule import WeightEma, rate_factor
from xrecon.training.sharding import divided_like, is_sharded, whole


class Gan:
    """Both networks, their optimisers, and how they change in a step.

    Args:
        training: the settings.
        fabric: device, processes and precision.
        spacing_mm: voxel pitch of the volumes.
        steps: length of the run, for the schedule of the learning rate.

    Attributes:
        network: the generator itself; `generator` is its fast path, wrapped by Fabric.
        discriminator: wrapped by Fabric; None without an adversarial loss. `plain_discriminator` is the bare module.
        ema: exponential moving average of the generator's weights, or None.
        sharded: whether the weights are divided among processes.

    Raises:
        ConfigError: the settings name no generator.
    """

    def __init__(self, training: Training, fabric: Fabric, *, spacing_mm: float, steps: int) -> None:
        self.training, self.fabric, self.steps = training, fabric, steps
        self.losses = GeneratorLoss(training.losses, spacing_mm=spacing_mm)
        rng = torch.Generator().manual_seed(training.seed)
        network = create(training.generator.name, rng=rng, **training.generator.settings)
        if not isinstance(network, Generator):
            raise ConfigError(f"generator.name: {training.generator.name!r} is no generator")
        self.network = network
        fast = FastGenerator(network, checkpointing=training.run.checkpointing)
        # Parameters that nothing depends on would keep distributed training waiting for their gradients.
        dead = fast.dead_parameter_names()
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name not in dead)
        self.generator, self.generator_optimiser = self._with_optimiser(fast, training.optimiser.learning_rate)
        self.sharded = is_sharded(network)
        self.discriminator: Any = None
        self.plain_discriminator: Discriminator | None = None
        if training.losses.adversarial:
            self._add_discriminator(rng)
        self.ema = WeightEma(network, training.optimiser.ema) if training.optimiser.ema else None

    def _add_discriminator(self, rng: torch.Generator) -> None:
        settings, optimiser = self.training.discriminator, self.training.optimiser
        network = create_discriminator(settings.name, rng=rng, **settings.settings)
        assert isinstance(network, Discriminator)
        if self.training.run.channels_last:
            network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.plain_discriminator = network
        rate = optimiser.discriminator_rate or optimiser.learning_rate
        self.discriminator, self.discriminator_optimiser = self._with_optimiser(network, rate)

    def _with_optimiser(self, module: torch.nn.Module, rate: float) -> tuple[Any, Any]:
        """The module and its Adam, both wrapped by Fabric."""
        # First the network: sharding replaces its parameters, and the optimiser has to hold the new ones.
        wrapped: Any = self.fabric.setup_module(module)
        trained = [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
        # In half precision Fabric cannot clip gradients that the optimiser itself unscales.
        fused = self.fabric.device.type == "cpu" and not is_sharded(wrapped) and "16" not in self.training.run.precision
        adam = torch.optim.Adam(trained, lr=rate, betas=self.training.optimiser.betas, fused=fused or None)
        adam.param_groups[0]["base_rate"] = rate
        return wrapped, self.fabric.setup_optimizers(adam)

    def step(self, batches: list[Batch], number: int, *, norms: bool = False) -> dict[str, float]:
        """Train both networks on the batches of one accumulation.

        Dropout and poses follow from the seed and the number, so that a resumed run repeats them.

        Args:
            batches: at least one; their losses are averaged.
            number: of the step, 0 for the first.
            norms: also return the norm of each loss term's gradient with respect to the generated volume, weighted.

        Returns:
            Every loss term, unweighted, the gradient norms and the learning rate, by name.
        """
        torch.manual_seed(_seed(self.training.seed, number, self.fabric.global_rank))
        factor = rate_factor(number, self.steps, self.training.optimiser)
        values: dict[str, float] = {}
        fakes = []
        _set_rate(self.generator_optimiser, factor)
        for k, batch in enumerate(batches):
            poses = torch.Generator().manual_seed(_seed(self.training.seed, number, k, 7))
            with self.fabric.no_backward_sync(self.generator, enabled=k < len(batches) - 1):
                fakes.append(self._generator_pass(batch, poses, share=1 / len(batches), values=values, norms=norms))
        self._update(self.generator, self.generator_optimiser, "generator_norm", values)
        if self.discriminator is not None:
            _set_rate(self.discriminator_optimiser, factor)
            self.discriminator_optimiser.zero_grad()  # sharded, it holds gradients of the generator's pass
            for k, (batch, fake) in enumerate(zip(batches, fakes, strict=True)):
                self._discriminator_pass(batch, fake, last=k == len(batches) - 1, share=1 / len(batches), values=values)
            self._update(self.discriminator, self.discriminator_optimiser, "discriminator_norm", values)
        if self.ema is not None:
            self.ema.update(self.network, number)
        return {**values, "rate": self.generator_optimiser.param_groups[0]["lr"]}

    def _generator_pass(
        self, batch: Batch, poses: torch.Generator, *, share: float, values: dict[str, float], norms: bool
    ) -> Tensor:
        """Forward and backward of the generator; returns the volume it made, without its graph."""
        fake: Tensor = self.generator(batch.pa, batch.lateral).float()
        # A view: in half precision Fabric forbids gradients by its own output that do not come from its own backward.
        fake = fake.view_as(fake)
        terms = self.losses.terms(fake, batch, poses=poses)
        if self.plain_discriminator is not None:
            # The bare module, frozen: its own gradients are not needed here, so nothing is exchanged between processes.
            # Sharded parameters must keep the setting that they had when they were divided.
            if not self.sharded:
                self.plain_discriminator.requires_grad_(False)
            terms.update(self._adversarial_terms(fake, batch))
            self.plain_discriminator.requires_grad_(True)
        if norms:
            for name, value in terms.items():
                (slope,) = torch.autograd.grad(value, fake, retain_graph=True)
                _add(values, f"gradient_norm/{name}", getattr(self.training.losses, name) * float(slope.norm()) * share)
        self.fabric.backward(self.losses.total(terms) * share)
        for name, value in terms.items():
            _add(values, name, float(value.detach()) * share)
        return fake.detach()

    def _adversarial_terms(self, fake: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The generator's loss terms that need the discriminator, by name, unweighted."""
        assert self.plain_discriminator is not None
        form = self.training.losses.gan
        with self.fabric.autocast():
            if not self.training.losses.feature_matching:
                scores = self.plain_discriminator(fake, batch.pa, batch.lateral)
                return {"adversarial": generator_adversarial_loss(scores, form)}
            scores, fake_features = self.plain_discriminator(fake, batch.pa, batch.lateral, features=True)
            with torch.no_grad():
                _, real_features = self.plain_discriminator(batch.ct, batch.pa, batch.lateral, features=True)
        return {
            "adversarial": generator_adversarial_loss(scores, form),
            "feature_matching": feature_distance(fake_features, real_features),
        }

    def _discriminator_pass(
        self, batch: Batch, fake: Tensor, *, last: bool, share: float, values: dict[str, float]
    ) -> None:
        """One backward pass per volume: the second does not wait on the memory of the first."""
        weights = self.training.losses
        for name, ct, real in (("real", batch.ct, True), ("fake", fake, False)):
            with self.fabric.no_backward_sync(self.discriminator, enabled=not (last and not real)):
                scores: Scores = self.discriminator(ct, batch.pa, batch.lateral)
                loss = discriminator_loss(scores, weights.gan, real=real)
                self.fabric.backward(loss * weights.adversarial * share)
            _add(values, f"discriminator_{name}", float(loss.detach()) * share)

    def _update(self, module: Any, adam: Any, name: str, values: dict[str, float]) -> None:
        """Clip the gradients where the settings say so (their norm becomes `values[name]`) and let Adam take a step."""
        limit = self.training.optimiser.clip_norm
        if limit is not None:
            norm = self.fabric.clip_gradients(module, adam, max_norm=limit, error_if_nonfinite=False)
            values[name] = float(whole(norm)) if norm is not None else 0.0
        adam.step()
        adam.zero_grad()

    def state(self) -> dict[str, Any]:
        """Networks, optimisers and averaged weights for a checkpoint. The keys are those of the file format."""
        state = {"generator": self.generator, "of_generator": self.generator_optimiser}
        if self.discriminator is not None:
            state |= {"discriminator": self.discriminator, "of_discriminator": self.discriminator_optimiser}
        if self.ema is not None:
            state[_EMA_KEY] = self.ema.values
        return state

    def restored(self, state: Mapping[str, Any]) -> None:
        """Take over from a loaded checkpoint what `fabric.load` cannot put in place itself: the averaged weights."""
        if self.ema is not None:
            old = self.ema.values
            self.ema.values = {name: divided_like(value, old[name]) for name, value in state[_EMA_KEY].items()}

    def final_weights(self) -> dict[str, Tensor]:
        """The generator's weights to use, whole: the moving average where there is one, else the last ones.

        Where the weights are divided among processes, all of them have to call this together.
        """
        values = self.ema.values if self.ema is not None else self.network.state_dict()
        return {name: whole(value.detach()) for name, value in values.items()}


def generator_with(config: GeneratorConfig, weights: Mapping[str, Tensor]) -> Generator:
    """A new generator on the CPU that holds whole weights."""
    network = build(config).to_empty(device="cpu")
    network.load_state_dict({name: value.detach().cpu() for name, value in weights.items()})
    assert isinstance(network, Generator)
    return network


_EMA_KEY = "mean"
"""Under which checkpoints hold the averaged weights."""


def _seed(*parts: int) -> int:
    return zlib.crc32(repr(parts).encode())


def _set_rate(adam: Any, factor: float) -> None:
    for group in adam.param_groups:
        group["lr"] = group["base_rate"] * factor


def _add(values: dict[str, float], name: str, value: float) -> None:
    values[name] = values.get(name, 0.0) + value
