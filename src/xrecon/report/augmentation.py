"""Contact sheet of augmented samples: what a network will see, in radiological display, with what was drawn for it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from xrecon.augmentation.augmenter import Sample
from xrecon.geometry import VIEWS
from xrecon.report.parts.panels import INK, Panel, Row, compose

_WINDOW_HU = (-1000.0, 400.0)
_COLOURS = {1: (1.0, 0.47, 0.24), 2: (0.27, 0.67, 1.0), 3: (1.0, 0.9, 0.0)}
_ENLARGED = 4
"""Pixels per voxel of the planes, so that outlines are thin."""
_COLUMNS = 33
"""Letters per line of the text beside the pictures."""
_LETTERS = {
    "PA film": ("R", "L", "H", "F"),
    "lateral film": ("A", "P", "H", "F"),
    "coronal": ("R", "L", "H", "F"),
    "sagittal": ("A", "P", "H", "F"),
    "axial": ("R", "L", "A", "P"),
}
_FOOTER = (
    "Outlines: right hemithorax orange, left blue, free pleural air yellow; hatched: not measured. Planes "
    "through the free air where there is some, else through the lungs."
)


def augmentation_sheet(samples: Sequence[tuple[str, Sample]], *, frame_mm: float, heading: str) -> Figure:
    """One row per (case name, sample): both films as the network gets them, three planes with the labels, the draws.

    Raises:
        InputError: no samples.
    """
    rows, texts = [], {}
    blank = np.zeros((2, 2), dtype=np.float32)
    for index, (name, sample) in enumerate(samples):
        panels = [
            Panel(picture, (frame_mm, frame_mm), title, _LETTERS[title], (0.0, 1.0), key=title)
            for title, picture in _pictures(sample)
        ]
        key = f"draws {index}"
        texts[key] = "\n".join(
            textwrap.fill(line, _COLUMNS, subsequent_indent="  ") for line in describe(sample.record)
        )
        panels.append(Panel(blank, (frame_mm, frame_mm), "drawn", ("", "", "", ""), (0.0, 1.0), key=key))
        rows.append(Row(f"{name}, seed {sample.record['seed']}", panels))
    figure = compose(rows, heading=heading, footer=_FOOTER)
    for axes in figure.axes:
        if (label := str(axes.get_label())) in texts:
            axes.text(0.03, 0.97, texts[label], transform=axes.transAxes, va="top", color=INK, fontsize=7)
    return figure


def describe(record: Mapping[str, Any]) -> list[str]:
    """What was drawn for a sample, as lines of text: one per step of the chest, one per film.

    A step without words of its own here is given by its name.
    """
    done = {name: draws for name, draws in record.items() if isinstance(draws, Mapping)}
    by_view = {name for name, draws in done.items() if set(draws) <= set(VIEWS)}
    lines = ["the patient's own films"] if record.get("own_films") else []
    lines += [_words(_CHEST, name, draws) for name, draws in done.items() if name not in by_view]
    for view in VIEWS:
        words = [_words(_FILM, name, done[name][view]) for name in done if name in by_view and done[name].get(view)]
        lines.append(f"{'PA' if view == 'pa' else 'lateral'} film: {', '.join(words) or 'plain'}")
    return lines


def _words(table: Mapping[str, Callable[[Mapping[str, Any]], str]], name: str, draws: Mapping[str, Any]) -> str:
    return table[name](draws) if name in table else name


def _affine(draws: Mapping[str, Any]) -> str:
    turns = "/".join(f"{angle:+.0f}" for angle in draws["rotation_deg"])
    return f"turned {turns} deg, size x{draws['scale']:.2f}"


def _pneumothorax(draws: Mapping[str, Any]) -> str:
    if "skipped" in draws:
        return "no pneumothorax possible"
    words = f"{draws['side']} pneumothorax {draws['occupancy']:.0%} ({draws['pattern']}"
    words += f", shift {draws['mediastinal_shift_mm']:.0f} mm" if draws["tension"] > 0 else ""
    return words + (f", fluid {draws['fluid_ml']:.0f} mL)" if draws["fluid_ml"] > 0 else ")")


def _effusion(draws: Mapping[str, Any]) -> str:
    if "skipped" in draws:
        return "no effusion possible"
    return f"{draws['side']} effusion {draws['share']:.0%}{' upright' if draws['upright'] else ''}"


_CHEST: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "affine": _affine,
    "elastic": lambda d: f"elastic {d['amplitude_mm']:.0f} mm",
    "density": lambda d: f"lung x{d['lung']:.2f}, fat {d['fat_hu']:+.0f} HU, bone x{d['bone']:.2f}",
    "pneumothorax": _pneumothorax,
    "bulla": lambda d: f"{len(d['bullae'])} bullae",
    "effusion": _effusion,
    "nodules": lambda d: f"{len(d['nodules'])} nodules",
    "scanner": lambda d: f"CT blur {d['blur_mm']:.1f} mm, noise {d['noise_hu']:.0f} HU",
    "beam": lambda d: f"views {d['between_views_deg']:.0f} deg apart, {d['energy_kev']:.0f} keV",
}
_FILM: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "exposure": lambda d: f"{d['quanta_per_mm2']:.2g} quanta/mm2, scatter {d['scatter']:.2f}",
    "tone": lambda d: f"gamma {d['gamma']:.2f}",
    "equalise": lambda d: f"equalised {d['strength']:.1f}",
    "collimation": lambda d: f"shutters {'white' if d['white'] else 'black'}: {len(d['width_mm'])}",
    "markers": lambda d: "marks " + " ".join(mark["text"] for mark in d["marks"]),
    "inversion": lambda _d: "inverted",
}


def _pictures(sample: Sample) -> list[tuple[str, NDArray[Any]]]:
    labels = np.where(sample.air > 0, np.uint8(3), sample.sides)
    focus = labels == 3 if sample.air.any() else labels > 0
    d, h, w = (int(np.median(i)) for i in np.nonzero(focus)) if focus.any() else (n // 2 for n in labels.shape)
    planes = (("coronal", np.s_[:, h, :]), ("sagittal", np.s_[:, :, w]), ("axial", np.s_[d, :, :]))
    cuts = [(title, _plane(sample.ct[cut], labels[cut], sample.measured[cut])) for title, cut in planes]
    return [("PA film", sample.pa), ("lateral film", sample.lateral), *cuts]


def _plane(hu: NDArray[np.float32], labels: NDArray[np.uint8], measured: NDArray[np.bool_]) -> NDArray[np.float32]:
    """[rows, cols, 3] 0..1, enlarged, with thin outlines of the labels."""
    low, high = _WINDOW_HU
    grey = np.clip((hu - low) / (high - low), 0.0, 1.0)
    block = (_ENLARGED, _ENLARGED)
    large, marks, inside = (np.kron(image, np.ones(block, image.dtype)) for image in (grey, labels, measured))
    stripes = (np.add.outer(np.arange(large.shape[0]), np.arange(large.shape[1])) // 4) % 4 == 0
    picture = np.repeat(np.where(~inside & stripes, 0.25, large)[..., None], 3, axis=2).astype(np.float32)
    inner = np.zeros(marks.shape, dtype=bool)
    for axis in (0, 1):
        for step in (1, -1):
            inner |= np.roll(marks, step, axis=axis) != marks
    for value, colour in _COLOURS.items():
        picture[inner & (marks == value)] = colour
    return picture
