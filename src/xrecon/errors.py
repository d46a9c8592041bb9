"""The exceptions of xrecon. All derive from `XReconError`, so that a caller can catch them with one `except`.

A message says what is wrong and where (file, tag, key, shape), what was expected and what to do about it.
"""

from __future__ import annotations


class XReconError(Exception):
    """Base of every error that xrecon raises on purpose.

    `exit_code` is the exit code of the command line for this error: 1 for a failure, 2 for unusable input.
    """

    exit_code = 1


class InputError(XReconError):
    """A file, value or option given by the user cannot be used."""

    exit_code = 2


class GeometryError(InputError):
    """An imaging geometry is impossible (source inside the volume, detector behind the source, non-finite pose)."""


class ConfigError(InputError):
    """A configuration holds an unknown key or a value out of its range."""


class OutputExistsError(InputError):
    """A result would overwrite an existing file and `--overwrite` was not given."""


class MissingPartError(XReconError):
    """An optional package or data asset that this operation needs is not installed."""


class CheckpointError(InputError):
    """A weights or asset file is damaged, of another schema, or does not fit the model."""


class DivergedError(XReconError):
    """A loss became NaN or infinite; the last good checkpoint is kept."""
