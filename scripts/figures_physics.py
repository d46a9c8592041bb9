"""The figure of docs/radiograph-physics.md, from the artificial thorax; prints the tables of that page.

Run from the repository: `.venv/bin/python scripts/figures_physics.py`. With the optional package spekpy installed it
prints the comparison with SpekPy, too; `--ct chest.nii.gz` prints the scatter fractions of that CT instead of drawing.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

from xrecon.films.simulation import simulate
from xrecon.phantoms.thorax import thorax_phantom
from xrecon.projector.detector import transmit
from xrecon.projector.physics import Scintillator, film_physics
from xrecon.projector.spectrum import Beam, attenuation_per_mm, tube_spectrum
from xrecon.volume import load_ct

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "figures" / "radiograph-physics.png"


def plot_spectra(axes: Any) -> None:
    """Fluence of three tube voltages, and of 120 kVp behind 20 cm of water."""
    for kvp in (70.0, 120.0, 150.0):
        spectrum = tube_spectrum(Beam(kvp=kvp))
        axes.plot(spectrum.energy_kev, spectrum.fluence, label=f"{kvp:g} kVp, 3 mm Al")
    behind = tube_spectrum(Beam()).filtered("water", 200.0)
    axes.plot(behind.energy_kev, behind.fluence, "k--", label="120 kVp behind 20 cm of water")
    axes.set(xlabel="photon energy, keV", ylabel="share of the photons per keV", title="Spectra (built-in model)")
    axes.legend(fontsize=8)


def hardening(depth_mm: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Line integral of the 120 kVp chest beam behind water of each depth."""
    water = torch.from_numpy(depth_mm)
    signal, _ = transmit(water, torch.zeros_like(water), tube_spectrum(Beam()), scintillator=Scintillator())
    return np.asarray(-signal.log())


def plot_hardening(axes: Any) -> None:
    """Line integral against depth: the straight lines of single energies and the curve of the beam."""
    depth = np.linspace(0.0, 350.0, 60)
    for energy, colour in ((50.0, "0.7"), (60.0, "0.4")):
        axes.plot(depth, depth * float(attenuation_per_mm("water", energy)), color=colour, label=f"{energy:g} keV")
    axes.plot(depth, hardening(depth), "C3", label="120 kVp, 3 mm Al, CsI")
    axes.set(xlabel="water, mm", ylabel="line integral", title="Beam hardening")
    axes.legend(fontsize=8)


def film_stages() -> list[tuple[str, Any]]:
    """(title, (pa, lateral)) of the artificial thorax: linear, polychromatic, all physics, grey values, low dose."""
    ct = thorax_phantom(160, 2.4).volume
    stages: list[tuple[str, Any]] = [("linear, 60 keV", simulate(ct, size=320))]
    for title, preset, overrides in (
        ("120 kVp beam", "linear", ["beam.kvp=120"]),
        ("clinical, line integrals", "clinical", ["display=null"]),
        ("clinical, grey values", "clinical", []),
        ("clinical, 1/200 of the dose", "clinical", ["noise.exposure=0.0125"]),
    ):
        physics = film_physics(preset, overrides)
        stages.append((title, simulate(ct, size=320, physics=physics, generator=torch.Generator().manual_seed(0))))
    return stages


def draw(output: Path) -> None:
    """Write the figure."""
    stages = film_stages()
    figure = plt.figure(figsize=(12.5, 8.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(0.8, 1.3))
    left, right = top.subplots(1, 2)
    plot_spectra(left)
    plot_hardening(right)
    grid = bottom.subplots(2, len(stages))
    for column, (title, films) in enumerate(stages):
        for row, film in enumerate(films):
            low, high = np.percentile(film.image, (0.5, 99.5))
            grid[row, column].imshow(film.image, cmap="gray", vmin=low, vmax=high)
            grid[row, column].set_axis_off()
        grid[0, column].set_title(title, fontsize=9)
    figure.suptitle("SYNTHETIC / RESEARCH ONLY / NOT FOR DIAGNOSIS", fontsize=8, color="0.4")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=70)


def print_tables() -> None:
    """The figures of the page: beams, and what 120 kVp acts like behind water."""
    sources = ["builtin"] + (["spekpy"] if importlib.util.find_spec("spekpy") else [])
    print("| kVp | mm Al | source | mean keV | HVL mm Al | photons/mm2/uGy |")
    for kvp, filtration in ((70, 3), (80, 3), (100, 3), (120, 1.5), (120, 3), (120, 6), (120, 42.5), (150, 3)):
        for source in sources:
            beam = Beam.model_validate({"kvp": kvp, "filtration_mm_al": filtration, "source": source})
            one = tube_spectrum(beam)
            figures = f"{one.mean_energy_kev:.1f} | {one.half_value_layer_mm():.2f} | {1 / one.kerma_ugy_mm2:.0f}"
            print(f"| {kvp} | {filtration} | {source} | {figures} |")
    energies = np.arange(30.0, 120.0, 0.1)
    water = attenuation_per_mm("water", energies)
    print("| water mm | line integral | acts like keV |")
    for depth in (1.0, 100.0, 200.0, 300.0):
        value = float(hardening(np.array([depth]))[0])
        print(f"| {depth:g} | {value:.3f} | {np.interp(-value / depth, -water, energies):.1f} |")


def print_scatter(path: Path) -> None:
    """Scatter fraction by the line integral of the primary, 120 kVp PA film of a CT, 128 x 128 pixels."""
    ct = load_ct(path)
    primary = simulate(ct, size=128, physics=film_physics("linear", ["beam.kvp=120"]))[0].image
    inner = (slice(30, 100), slice(20, 108))  # away from the film's edges and the shoulders
    for grid in ("false", "true"):
        physics = film_physics("linear", ["beam.kvp=120", f"scatter.grid={grid}"])
        fraction = 1.0 - np.exp(simulate(ct, size=128, physics=physics)[0].image - primary)
        for low, high in ((1.8, 2.4), (2.4, 3.2), (3.2, 4.2), (4.2, 5.2), (5.2, 6.5)):
            chosen = fraction[inner][(primary[inner] > low) & (primary[inner] < high)]
            print(f"grid {grid}, primary {low}..{high}: scatter {np.median(chosen):.2f} ({chosen.size} pixels)")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--ct", type=Path)
    arguments = parser.parse_args()
    if arguments.ct is not None:
        print_scatter(arguments.ct)
        return
    print_tables()
    draw(arguments.output)


if __name__ == "__main__":
    main()
