"""Typed, frozen settings from YAML and `--set a.b=value`, with errors that name the file, the key and what to do."""

from __future__ import annotations

import copy
import difflib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from xrecon.errors import ConfigError, XReconError

MAX_CONFIG_BYTES = 1_000_000
"""A settings file is a few hundred lines; a larger file is some other file given by mistake."""


class Config(BaseModel):
    """Base of every settings class: immutable, unknown keys refused, no NaN or infinity, defaults checked too."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


ConfigT = TypeVar("ConfigT", bound=Config)


def load_config(
    model: type[ConfigT],
    path: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    *,
    values: Mapping[str, Any] | None = None,
) -> ConfigT:
    """Settings of class `model` from its defaults, then a YAML file or `values`, then each `key.subkey=value` in turn.

    Args:
        model: a subclass of `Config`.
        path: YAML file with a mapping at its top, or None.
        overrides: texts as given to `--set`; the value is read as YAML (`3`, `0.5`, `true`, `[1, 2]`, `name`).
        values: nested mappings of plain values, where there is no file; they are not changed.

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown, or a value is of the wrong type or range.

    Example:
        >>> load_config(Training, "configs/small.yaml", ["optimiser.learning_rate=1e-4"])
    """
    nested = copy.deepcopy(dict(values or {})) if path is None else _read_yaml(Path(path))
    origin = str(path) if path is not None else "defaults" if values is None else "settings"
    overridden = {_apply_override(nested, text) for text in overrides}
    return validated(model, nested, where=origin, overridden=overridden)


def validated(
    model: type[ConfigT],
    values: Mapping[str, Any],
    *,
    where: str,
    error: type[XReconError] = ConfigError,
    overridden: Collection[str] = (),
) -> ConfigT:
    """Settings of class `model` from plain values; `where` opens every line of the message.

    Args:
        model: a subclass of `Config`.
        values: nested mappings of plain values.
        where: file or part that the values come from.
        error: class of what is raised.
        overridden: dotted keys that come from `--set` instead.

    Raises:
        XReconError: of the class `error`: unknown keys (with the nearest known one), wrong types, values out of range.
    """
    try:
        return model.model_validate(values)
    except ValidationError as invalid:
        lines = [_explain(model, details, where, overridden) for details in invalid.errors(include_url=False)]
        raise error("\n".join(lines)) from None


def known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key of a settings class, sections included."""
    for name, info in model.model_fields.items():
        yield prefix + name
        section = _section_class(info.annotation)
        if section is not None:
            yield from known_keys(section, f"{prefix}{name}.")


def _section_class(annotation: Any) -> type[BaseModel] | None:
    """The settings class inside `Section`, `Section | None` or `list[Section]`; None for plain values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((section for section in map(_section_class, get_args(annotation)) if section is not None), None)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        if size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: {size} bytes; a settings file has at most {MAX_CONFIG_BYTES}. Is it YAML?")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the settings file: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8; expected YAML") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines at the top, got {type(content).__name__}")
    return content


def _apply_override(values: dict[str, Any], text: str) -> str:
    """Put one `a.b=value` into the nested mapping; returns its key."""
    key, equals, raw = text.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {text}: expected key=value, for example --set training.steps=100")
    try:
        value = yaml.safe_load(raw)
    except yaml.YAMLError:
        raise ConfigError(f"--set {text}: the value {raw!r} is not valid YAML; quote it") from None
    *sections, last = key.split(".")
    place = values
    for depth, name in enumerate(sections, start=1):
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {text}: {'.'.join(sections[:depth])} is a single value and holds no {last!r}")
    place[last] = value
    return key


def _explain(model: type[BaseModel], details: Any, origin: str, overridden: Collection[str]) -> str:
    """One line for one pydantic error: where, which key, what was expected, the closest right key."""
    key = ".".join(str(part) for part in details["loc"])
    from_option = any(key == name or key.startswith(name + ".") for name in overridden)
    where = "--set" if from_option else origin
    if details["type"] == "extra_forbidden":
        return f"{where}: unknown key {key!r}; {_suggest(key, list(known_keys(model)))}"
    if details["type"] == "missing":
        return f"{where}: key {key!r} is required and has no value"
    message = str(details["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    # The whole settings are no help as "the value": a rule over several fields speaks for itself.
    return f"{where}: {key} = {details['input']!r}: {message}" if key else f"{where}: {message}"


def _suggest(unknown: str, keys: list[str]) -> str:
    """The closest name in the same section, else the same name in another section, else what the section holds."""
    section, _, name = unknown.rpartition(".")
    siblings = {key.rpartition(".")[2]: key for key in keys if key.rpartition(".")[0] == section}
    elsewhere = {key.rpartition(".")[2]: key for key in keys}
    for candidates in (siblings, elsewhere):
        close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
        if close:
            return f"did you mean {candidates[close[0]]!r}?"
    return f"known keys: {', '.join(siblings.values())}"
