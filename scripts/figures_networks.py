"""The figure of docs/networks.md: the generator with the shapes of the real modules, and the slices of a linker.

Run from the repository: `.venv/bin/python scripts/figures_networks.py`. Channels and edges are read from a network that
is built without memory; the curves are computed with a linker of random weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as functional
from matplotlib.patches import FancyBboxPatch

from xrecon.models.blocks import ConvNormReLU, Linker, initialise
from xrecon.models.config import LEVELS, GeneratorConfig
from xrecon.models.registry import build, parameter_count

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "figures" / "networks.png"
COLOURS = {
    "map": "#dbe9f6",
    "linker": "#d8efd9",
    "volume": "#fde5c8",
    "fused": "#f7d4d6",
    "trunk": "#e7dcf3",
    "head": "#eeeeee",
}
COLUMNS = {"map": 0.0, "linker": 2.1, "volume": 4.2, "fused": 6.3, "trunk": 8.4, "head": 10.5}
TITLES = {
    "map": "2D encoder\n(one per film)",
    "linker": "linker\n(repeated in depth)",
    "volume": "view decoder\n(one per film)",
    "fused": "average A\nof the views",
    "trunk": "fusion trunk",
    "head": "MFusionRen\nhead",
}
WIDTH, HEIGHT = 1.5, 0.62


def box(axes: Any, kind: str, row: float, text: str) -> None:
    """A rounded box with text in a column."""
    x, y = COLUMNS[kind], -row
    axes.add_patch(
        FancyBboxPatch(
            (x, y - HEIGHT / 2),
            WIDTH,
            HEIGHT,
            boxstyle="round,pad=0.02,rounding_size=0.08",
            fc=COLOURS[kind],
            ec="0.35",
            lw=0.8,
        )
    )
    axes.text(x + WIDTH / 2, y, text, ha="center", va="center", fontsize=7.5)


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], *, style: str = "-") -> None:
    """An arrow between two points (x, row)."""
    axes.annotate(
        "",
        xy=(end[0], -end[1]),
        xytext=(start[0], -start[1]),
        arrowprops={"arrowstyle": "-|>", "lw": 0.9, "color": "0.3", "ls": style, "shrinkA": 1, "shrinkB": 1},
    )


def between(axes: Any, left: str, right: str, row: float) -> None:
    """A horizontal arrow from one column to another in a row."""
    arrow(axes, (COLUMNS[left] + WIDTH, row), (COLUMNS[right], row))


def down(axes: Any, kind: str, row: float, *, up: bool = False, to: str | None = None) -> None:
    """An arrow from a row to the next one; `up` turns it round, `to` leads it to another column."""
    x, end = COLUMNS[kind] + WIDTH / 2, COLUMNS[to or kind] + WIDTH / 2
    if up:
        arrow(axes, (x, row + 1 - HEIGHT / 2), (end, row + HEIGHT / 2))
    else:
        arrow(axes, (x, row + HEIGHT / 2), (end, row + 1 - HEIGHT / 2), style="-" if to is None else "--")


def plot_network(axes: Any, config: GeneratorConfig) -> None:
    """Levels from coarse (top) to fine, as the decoders run; the encoder runs upwards."""
    net: Any = build(config)
    branch = net.branches["pa"]
    maps = [config.stem_channels, *(stage.outputs for stage in branch.encoder)]
    widths = config.decoder_channels
    base = config.base_size
    box(axes, "map", 0, f"{maps[-1]} values")
    box(axes, "volume", 0, f"base {widths[-1]} x {base}³")
    box(axes, "fused", 0, f"{widths[-1]} x {base}³")
    between(axes, "map", "volume", 0)
    between(axes, "volume", "fused", 0)
    for level in range(LEVELS):
        row, k = level + 1, LEVELS - 1 - level
        edge, channels = config.size >> k, widths[k]
        box(axes, "map", row, f"{maps[k]} x {edge}²")
        box(axes, "linker", row, f"{channels} x {edge}³")
        box(axes, "volume", row, f"compress\n{channels} x {edge}³")
        box(axes, "fused", row, f"{channels} x {edge}³")
        box(axes, "trunk", row, f"{channels} x {edge}³")
        box(axes, "head", row, f"1 x {edge}³, weight 1/{2 ** (LEVELS - level)}")
        for left, right in (("map", "linker"), ("linker", "volume"), ("volume", "fused"), ("trunk", "head")):
            between(axes, left, right, row)
        down(axes, "map", level, up=True)
        down(axes, "fused", level, to="volume")
        down(axes, "fused", level, to="trunk")
        if level > 0:
            down(axes, "trunk", level)
            down(axes, "head", level)
        # The head reads the average beside the trunk: drawn over the trunk's box.
        middle = -row - HEIGHT / 2 - 0.09
        axes.plot(
            [COLUMNS["fused"] + WIDTH * 0.8, COLUMNS["head"] + WIDTH * 0.2], [middle, middle], color="0.3", lw=0.9
        )
        axes.plot([COLUMNS["fused"] + WIDTH * 0.8] * 2, [-row - HEIGHT / 2, middle], color="0.3", lw=0.9)
        axes.annotate(
            "",
            xy=(COLUMNS["head"] + WIDTH * 0.2, -row - HEIGHT / 2),
            xytext=(COLUMNS["head"] + WIDTH * 0.2, middle - 0.01),
            arrowprops={"arrowstyle": "-|>", "lw": 0.9, "color": "0.3", "shrinkA": 0, "shrinkB": 0},
        )
    bottom = LEVELS + 1
    axes.text(COLUMNS["map"] + WIDTH / 2, -bottom, f"film {config.size}²", ha="center", va="center", fontsize=8.5)
    axes.text(COLUMNS["head"] + WIDTH / 2, -bottom, f"CT {config.size}³", ha="center", va="center", fontsize=8.5)
    down(axes, "map", LEVELS, up=True)
    down(axes, "head", LEVELS)
    for kind, title in TITLES.items():
        axes.text(COLUMNS[kind] + WIDTH / 2, 0.75, title, ha="center", va="center", fontsize=8.5, weight="bold")
    axes.set(xlim=(-0.15, COLUMNS["head"] + WIDTH + 0.15), ylim=(-bottom - 0.35, 1.15))
    axes.set_title(
        f"X-Recon generator at {config.size}: {parameter_count(net):,} parameters. "
        "Solid down: to the next level; dashed: the branches and the trunk go on from A",
        fontsize=9.5,
    )
    axes.set_axis_off()


def slice_differences(edge: int = 14, channels: int = 8) -> dict[str, torch.Tensor]:
    """Largest difference of every depth slice to the middle one: after the linker, after the convolution behind it."""
    rng = torch.Generator().manual_seed(0)
    linker, following = Linker(4, channels), ConvNormReLU(channels, channels)
    for module in (linker, following):
        initialise(module, rng)
    with torch.no_grad():
        volume = linker(torch.rand(1, 4, edge, edge, generator=rng))
        behind = functional.conv3d(volume, following.conv.get_parameter("weight"), padding=1)
    curves = {}
    for name, tensor in (("after the linker: 3", volume), ("after the next convolution: 5", behind)):
        difference = (tensor - tensor[:, :, edge // 2 : edge // 2 + 1]).abs().amax((0, 1, 3, 4))
        curves[name] = difference / tensor.abs().max()
    return curves


def plot_slices(axes: Any) -> None:
    """Which slices differ from the middle one."""
    for place, (name, values) in enumerate(slice_differences().items()):
        axes.bar(torch.arange(len(values)) + 0.4 * place - 0.2, values, width=0.38, label=f"{name} distinct slices")
    axes.set(
        xlabel="slice along the depth of the view",
        ylabel="largest difference to the\nmiddle slice / largest value",
        title="A film repeated along depth: only the zero padding tells slices apart",
    )
    axes.title.set_fontsize(9.5)
    axes.legend(fontsize=8, loc="upper center")


def main() -> None:
    """Write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="PNG to write")
    output = parser.parse_args().output
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(10.0, 8.4), height_ratios=(3.4, 1.0), layout="constrained")
    plot_network(top, GeneratorConfig())
    plot_slices(bottom)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    main()
