"""Online augmentation: from one prepared case and a seed to a new patient with new films."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrecon.augmentation.augmenter import Augmenter as Augmenter
    from xrecon.augmentation.augmenter import Sample as Sample
    from xrecon.augmentation.chest import AugmentedChest as AugmentedChest
    from xrecon.augmentation.settings import AugmentConfig as AugmentConfig
    from xrecon.augmentation.spatial.deformation import ChestDeformation as ChestDeformation

_HOME = {
    "AugmentConfig": "xrecon.augmentation.settings",
    "AugmentedChest": "xrecon.augmentation.chest",
    "Augmenter": "xrecon.augmentation.augmenter",
    "ChestDeformation": "xrecon.augmentation.spatial.deformation",
    "Sample": "xrecon.augmentation.augmenter",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xrecon.augmentation' has no attribute {name!r}")
