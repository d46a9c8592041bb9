"""Weights divided among processes (FSDP2): how they are divided, gathered for a file, and put back.

A checkpoint holds whole tensors, so that any number of processes can go on from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
_PUT_BACK = StateDictOptions(full_state_dict=True)


def sharded_strategy() -> ModelParallelStrategy:
    """Fabric's strategy that divides every network, its gradients and its optimiser among the processes of a machine.

    Machines hold copies of each other. A network is one unit: the generator's fast path reads weights across modules.
    """
    return ModelParallelStrategy(_shard, data_parallel_size="auto", tensor_parallel_size="auto")


def _shard(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    # The axes of the mesh are the machines, and the processes of one machine. Fabric names them after data and tensor
    # parallelism; here the processes of both axes get different data.
    fully_shard(module, mesh=mesh if mesh.size(0) > 1 else mesh["tensor_parallel"])
    return module


def is_sharded(module: nn.Module) -> bool:
    """Whether a network's weights are divided among processes."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def whole(value: Tensor) -> Tensor:
    """The whole of a divided tensor; others as they are. All processes have to call it together."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def divided_like(value: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, the same on all processes, divided as `other` is."""
    if isinstance(other, DTensor):
        return distribute_tensor(value.to(other.device), other.device_mesh, other.placements)
    return value.to(other.device)


def save_sharded(path: Path, state: Mapping[str, Any], *, first: bool) -> None:
    """Write networks, their optimisers (`of_` and the network's name) and plain values; all processes call it together.

    Args:
        path: the file, which the first process writes.
        state: network `name` and optimiser `of_name`; anything else as it is, divided tensors whole.
        first: whether this is the first process.
    """
    values: dict[str, Any] = {}
    for name, part in state.items():
        if isinstance(part, nn.Module):
            values[name] = get_model_state_dict(_bare(part), options=_WHOLE)
        elif name.startswith("of_"):
            values[name] = get_optimizer_state_dict(_network_of(name, state), _bare(part), options=_WHOLE)
        elif isinstance(part, Mapping):
            values[name] = {key: whole(value) if isinstance(value, Tensor) else value for key, value in part.items()}
        else:
            values[name] = part
    if first:
        with path.open("wb") as stream:  # by its name, torch refuses one that begins with a dot
            torch.save(values, stream)


def load_sharded(path: Path, state: dict[str, Any]) -> None:
    """Put back what `save_sharded` wrote: networks and optimisers in place, other values into `state`, whole.

    Raises:
        KeyError, RuntimeError, OSError: the file cannot be read, or is of other networks.
    """
    stored = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in state.items():
        if isinstance(part, nn.Module):
            set_model_state_dict(_bare(part), stored[name], options=_PUT_BACK)
        elif name.startswith("of_"):
            set_optimizer_state_dict(_network_of(name, state), _bare(part), stored[name], options=_PUT_BACK)
        else:
            state[name] = stored[name]


def _network_of(name: str, state: Mapping[str, Any]) -> nn.Module:
    network: nn.Module = _bare(state[name.removeprefix("of_")])
    return network


def _bare(part: Any) -> Any:
    """A network or an optimiser without Fabric's wrapper."""
    return getattr(part, "module", None) or getattr(part, "optimizer", None) or part
