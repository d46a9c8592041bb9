"""Turn the network of a training run into an asset of the package: half precision, with its metrics and licences.

    python scripts/ship_network.py RUN/model src/xrecon/assets/xrecon-64-v1 --name xrecon-64

What `model.json` says of data, licence and validation is copied; nothing is measured here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from xrecon.models.checkpoint import load_model, save_model


def main() -> None:
    """Read the arguments and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder that `xrecon train` wrote")
    parser.add_argument("output", type=Path)
    parser.add_argument("--name", required=True, help="what results call the network")
    parser.add_argument("--overwrite", action="store_true")
    options = parser.parse_args()
    network, information = load_model(options.model)
    save_model(
        network,
        options.output,
        name=options.name,
        training_data=information.training_data,
        licence=information.licence,
        metrics=information.metrics,
        frame_mm=information.frame_mm,
        dtype=torch.float16,
        overwrite=options.overwrite,
    )


if __name__ == "__main__":
    main()
