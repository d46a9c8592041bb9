"""The one way from Python values to JSON text: what becomes of paths, arrays, dataclasses, NaN and infinity."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from typing import Any, Literal

NonFinite = Literal["null", "refuse", "literal"]
"""What becomes of NaN and infinity, which JSON does not have.

- `"null"`: null, "not measured", as in every summary that people and other programs read.
- `"refuse"`: a ValueError, where such a value can only be a mistake.
- `"literal"`: `NaN` and `Infinity`, which Python reads back exactly and strict readers refuse: for files that only
  xrecon reads, where the infinite PSNR of two equal volumes must stay different from "not measured".
"""


def json_text(
    value: Any,
    *,
    non_finite: NonFinite = "null",
    indent: int | None = 2,
    ascii_only: bool = True,
    sort_keys: bool = False,
) -> str:
    """JSON text of a value.

    Args:
        value: nested mappings, sequences, sets, dataclasses, paths, arrays, tensors and plain values.
        non_finite: what becomes of NaN and infinity.
        indent: spaces per level; None: all on one line.
        ascii_only: escape every other character, so that any terminal can print the text; False for files in UTF-8.
        sort_keys: keys in alphabetical order, for a text that is hashed.

    Raises:
        ValueError: NaN or infinity with `non_finite="refuse"`.
        TypeError: a value that has no form in JSON.

    Example:
        >>> json_text({"psnr_db": float("nan"), "shape": (2, 3)}, indent=None)
        '{"psnr_db": null, "shape": [2, 3]}'
    """
    plain = json_value(value, non_finite=non_finite)
    allow_nan = non_finite == "literal"
    return json.dumps(plain, indent=indent, ensure_ascii=ascii_only, allow_nan=allow_nan, sort_keys=sort_keys)


def json_value(value: Any, *, non_finite: NonFinite = "null") -> Any:
    """`value` in what JSON has: dicts with text keys, lists, texts, numbers, booleans and None.

    Values of types that JSON has no form for come back as they are, and `json_text` refuses them.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): json_value(item, non_finite=non_finite) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_value(item, non_finite=non_finite) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays, torch tensors, without importing either
        return json_value(value.tolist(), non_finite=non_finite)
    if non_finite == "null" and isinstance(value, float) and not math.isfinite(value):
        return None
    return value
