"""The priors as one small file: quantised, compressed, checked by hash on loading."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xrecon.environment import run_environment
from xrecon.errors import CheckpointError, MissingPartError
from xrecon.io.guards.files import sha256_of
from xrecon.io.output.atomic import check_absent, write_bytes_atomic, write_json_atomic
from xrecon.json_text import json_text
from xrecon.priors.chest import ChestPrior
from xrecon.volume import RESEARCH_NOTICE

SCHEMA = "xrecon-priors/1"
SHIPPED = "priors-v1.safetensors"
_TENSORS = (
    "template",
    "deviation",
    "density_modes",
    "shape_mean",
    "shape_modes",
    "linear_mean",
    "linear_modes",
)
# Steps of the quantisation in units of each row's root mean square. Modes enter an estimate as sums of dozens, so
# their rounding errors average out; template and means are kept finer.
_STEPS = {"template": 0.01, "linear_mean": 0.01, "deviation": 0.03, "density_modes": 0.15, "linear_modes": 0.3}


@dataclass(frozen=True)
class PriorAsset:
    """A `ChestPrior` and where it came from.

    Attributes:
        prior: the statistics.
        sha256: of the file it was read from; empty before it is saved.
    """

    prior: ChestPrior
    sha256: str = ""

    @classmethod
    def of(
        cls,
        prior: ChestPrior,
        *,
        cases: int,
        settings: Mapping[str, Any],
        ridge_errors: Mapping[float, float],
        mean_box_mm: Sequence[Sequence[float]],
    ) -> PriorAsset:
        """An asset with how, and from how many cases, the priors were built."""
        information = {
            "schema": SCHEMA,
            "name": "chest-priors",
            "notice": RESEARCH_NOTICE,
            "cases": cases,
            "settings": settings,
            "ridge": prior.ridge,
            "mean_box_mm": mean_box_mm,
            "cross_validated_squared_error_per_mm2": {f"{k:g}": v for k, v in ridge_errors.items()},
            "made": datetime.now(timezone.utc).date().isoformat(),
            "environment": run_environment(),
        }
        values = {name: getattr(prior, name) for name in _TENSORS}
        return cls(ChestPrior(**values, ridge=prior.ridge, information=information))

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write `path` (.safetensors) and beside it `.json` with the file's sha256 and its information; atomic."""
        from safetensors.numpy import save

        final = Path(path)
        side_car = final.with_suffix(".json")
        for file in (final, side_car):
            check_absent(file, overwrite=overwrite)
        blobs, layout = {}, {}
        for name in _TENSORS:
            blobs[name], layout[name] = _pack(getattr(self.prior, name).cpu(), _STEPS.get(name))
        # One metadata key: safetensors writes several in random order, and equal priors should be equal files.
        data = save(blobs, metadata={"layout": json_text({"schema": SCHEMA, **layout}, indent=None)})
        digest = hashlib.sha256(data).hexdigest()
        write_bytes_atomic(final, data, overwrite=overwrite)
        information = {**self.prior.information, "sha256": digest, "bytes": len(data)}
        write_json_atomic(side_car, information, overwrite=overwrite)
        return final


def load_priors(path: str | os.PathLike[str] | None = None) -> PriorAsset:
    """Read priors; without a path, the ones shipped with the package.

    Raises:
        MissingPartError: no file there.
        CheckpointError: no side-car, another schema, a hash that does not match, or damaged contents.
    """
    file = Path(path) if path is not None else Path(str(resources.files("xrecon") / "assets" / SHIPPED))
    side_car = file.with_suffix(".json")
    if not file.is_file():
        raise MissingPartError(
            f"no priors file at {file.name}: make one with `xrecon train priors FOLDER -o {file.name}` from a folder "
            "of chest CTs, or name another with --assets"
        )
    if not side_car.is_file():
        raise CheckpointError(f"{file.name} lacks its side-car {side_car.name}; copy both files together")
    try:
        information = json.loads(side_car.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{side_car.name} is not JSON: {error}") from error
    if not isinstance(information, dict) or information.get("schema") != SCHEMA:
        schema = information.get("schema") if isinstance(information, dict) else type(information).__name__
        raise CheckpointError(f"{side_car.name}: expected schema {SCHEMA!r}, found {schema!r}; update xrecon")
    digest = sha256_of(file)
    if digest != information.get("sha256"):
        raise CheckpointError(
            f"{file.name} is damaged or was changed: sha256 {digest[:12]}..., its side-car says "
            f"{str(information.get('sha256'))[:12]}...; make or copy it again"
        )
    return PriorAsset(_read(file, information), digest)


def _read(file: Path, information: Mapping[str, Any]) -> ChestPrior:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            layout = json.loads((opened.metadata() or {})["layout"])
            values = {name: _unpack(opened.get_tensor(name), layout[name]) for name in _TENSORS}
        return ChestPrior(**values, ridge=float(information["ridge"]), information=information)
    except (SafetensorError, KeyError, TypeError, ValueError, zlib.error) as error:
        raise CheckpointError(f"{file.name} does not hold chest priors: {error}") from error


def _pack(tensor: Tensor, step: float | None) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """A tensor as compressed bytes, and how to read them. With a step, rows are quantised to int8 or int16."""
    values = tensor.numpy().astype(np.float32)
    if step is None:
        half = values.astype(np.float16)
        return _compress(half), {"shape": values.shape, "dtype": "float16"}
    rows = values.reshape(values.shape[0], -1) if values.ndim == 4 else values.reshape(1, -1)
    used = np.abs(rows) > 0
    rms = np.sqrt((rows**2).sum(axis=1) / np.maximum(used.sum(axis=1), 1))
    scale = np.maximum(rms * step, 1e-12).astype(np.float32)
    levels = np.round(rows / scale[:, None])
    kind = np.int8 if np.abs(levels).max() <= 127 else np.int16
    levels = np.clip(levels, np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)
    layout = {"shape": values.shape, "dtype": np.dtype(kind).name, "scale": [float(v) for v in scale]}
    return _compress(levels), layout


def _compress(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.compress(np.ascontiguousarray(values).tobytes(), 9), dtype=np.uint8).copy()


def _unpack(blob: NDArray[np.uint8], layout: Mapping[str, Any]) -> Tensor:
    values = np.frombuffer(zlib.decompress(blob.tobytes()), dtype=np.dtype(layout["dtype"])).astype(np.float32)
    shape = tuple(layout["shape"])
    if "scale" in layout:
        scale = np.asarray(layout["scale"], dtype=np.float32)
        values = (values.reshape(scale.size, -1) * scale[:, None]).astype(np.float32)
    return torch.from_numpy(values.reshape(shape).copy())
