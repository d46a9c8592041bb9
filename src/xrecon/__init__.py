"""xrecon: two chest radiographs to a 3D chest CT, and the pneumothorax in it. Research only, not for diagnosis.

The names below load lazily, so that `import xrecon` and `xrecon --help` stay fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xrecon import models as models
    from xrecon import projector as projector
    from xrecon.augmentation.augmenter import Augmenter as Augmenter
    from xrecon.data.dataset import PreparedDataset as PreparedDataset
    from xrecon.evaluation.evaluation import evaluate as evaluate
    from xrecon.evaluation.metrics.image import image_metrics as image_metrics
    from xrecon.films.simulation import simulate as simulate
    from xrecon.geometry import ConeBeam as ConeBeam
    from xrecon.inference.reconstruct import reconstruct as reconstruct
    from xrecon.inference.result import Reconstruction as Reconstruction
    from xrecon.planting.pneumothorax import plant_pneumothorax as plant_pneumothorax
    from xrecon.projector.operator import backproject as backproject
    from xrecon.projector.operator import project as project
    from xrecon.ptxseg.pipeline import segment as segment
    from xrecon.quantify.occupancy import occupancy as occupancy
    from xrecon.radiograph import Radiograph as Radiograph
    from xrecon.radiograph import load_radiograph as load_radiograph
    from xrecon.segmentation import Segmentation as Segmentation
    from xrecon.training.run import train as train
    from xrecon.volume import Volume as Volume
    from xrecon.volume import load_ct as load_ct

_HOME = {
    "Augmenter": "xrecon.augmentation.augmenter",
    "ConeBeam": "xrecon.geometry",
    "PreparedDataset": "xrecon.data.dataset",
    "Radiograph": "xrecon.radiograph",
    "Reconstruction": "xrecon.inference.result",
    "Segmentation": "xrecon.segmentation",
    "Volume": "xrecon.volume",
    "backproject": "xrecon.projector.operator",
    "evaluate": "xrecon.evaluation.evaluation",
    "image_metrics": "xrecon.evaluation.metrics.image",
    "load_ct": "xrecon.volume",
    "load_radiograph": "xrecon.radiograph",
    "occupancy": "xrecon.quantify.occupancy",
    "plant_pneumothorax": "xrecon.planting.pneumothorax",
    "project": "xrecon.projector.operator",
    "reconstruct": "xrecon.inference.reconstruct",
    "segment": "xrecon.ptxseg.pipeline",
    "simulate": "xrecon.films.simulation",
    "train": "xrecon.training.run",
}
_MODULES = ("models", "projector")

__all__ = [*_HOME, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"xrecon.{name}")
    raise AttributeError(f"module 'xrecon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
