"""Which devices torch can compute on here."""

from __future__ import annotations

from xrecon.errors import InputError


def usable_device(name: str) -> str:
    """`name` if torch can compute there.

    Raises:
        InputError: no device of that name, or not on this machine.
    """
    import torch

    try:
        usable = torch.zeros(1, device=name).device.type != "meta"  # "meta" has shapes and no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"--device {name}: not usable here ({reason}); use --device cpu") from error
    if not usable:
        raise InputError(f"--device {name}: computes nothing; use --device cpu")
    return name
