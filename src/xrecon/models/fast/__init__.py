"""The generator's exact fast path: the same function and parameters, other steps."""
