"""The picture of the demo: a chest healthy and sick, its film, what the networks see there, the truth, the result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from xrecon.evaluation.pneumothorax_story import StoryChest
from xrecon.report.films import film_panels
from xrecon.report.parts.figures import CT_WINDOW_HU, FILM_FOOTER, PLANE_LETTERS
from xrecon.report.parts.page import PageTable
from xrecon.report.parts.panels import Panel, Row, compose
from xrecon.segmentation import Label, Segmentation
from xrecon.volume import Volume

_RED = np.array([1.0, 0.15, 0.1], dtype=np.float32)
_OPACITY = 0.6


def story_figure(chests: Sequence[StoryChest], *, subject: str) -> Figure:
    """One row per version: PA film, the film with free air, the true CT, the reconstructed CT; free air in red.

    Args:
        chests: healthy and sick version of one chest; the coronal plane is that with the most true air.
        subject: name of the chest.
    """
    plane = _coronal_plane(chests)
    rows = []
    for chest in chests:
        pneumothorax = chest.result.pneumothorax
        assert pneumothorax is not None, "the story's model asks the film networks"
        answer = pneumothorax.answer
        panels = [
            *film_panels(answer.films, answer.findings, "pa", key=chest.name),
            _plane(chest.truth, chest.labels, plane, title="true CT", key=f"truth {chest.name}"),
            _plane(chest.result.volume, chest.segmentation, plane, title="CT from two films", key=f"ct {chest.name}"),
        ]
        rows.append(Row(chest.name.capitalize(), panels, remark=_numbers(chest)))
    footer = f"{FILM_FOOTER} Free pleural air in red: on the CTs the planted air, and what PTX-Seg finds."
    return compose(rows, heading="Two films, one CT, and the pneumothorax in it", remark=subject, footer=footer)


def story_table(chests: Sequence[StoryChest]) -> PageTable:
    """Occupancy of the whole chest: true, on the films, in the reconstructed CT."""
    body = []
    for chest in chests:
        pneumothorax = chest.result.pneumothorax
        assert pneumothorax is not None, "the story's model asks the film networks"
        assessment = pneumothorax.answer.assessment
        whole = assessment.whole_chest
        chances = [
            f"{name} {'n/a' if side.probability is None else f'{side.probability:.2f}'}"
            for name, side in assessment.sides.items()
        ]
        stated = "no calibration" if whole is None else f"{whole.percent:.1f} ({whole.low:.1f} to {whole.high:.1f})"
        measured = chest.volumes.whole_chest
        body.append(
            [
                chest.name,
                f"{chest.occupancy:.1f}",
                ", ".join(chances),
                stated,
                "refused" if measured is None else f"{measured:.1f}",
            ]
        )
    return PageTable(
        [
            "Chest",
            "True occupancy, %",
            "Probability of free air",
            "Occupancy by the films, %",
            "In the CT, by PTX-Seg, %",
        ],
        body,
    )


def _numbers(chest: StoryChest) -> str:
    row = story_table([chest]).body[0]
    return f"occupancy: true {row[1]} %, by the films {row[3]} %, in the reconstructed CT {row[4]} %"


def _coronal_plane(chests: Sequence[StoryChest]) -> int:
    """The plane [H] with the most true air of any version; the middle where there is none."""
    for chest in chests:
        if chest.labels is not None:
            air = np.count_nonzero(chest.labels.labels == Label.AIR, axis=(0, 2))
            if air.any():
                return int(np.argmax(air))
    return chests[0].truth.shape[1] // 2


def _plane(volume: Volume, labels: Segmentation | None, plane: int, *, title: str, key: str) -> Panel:
    low, high = CT_WINDOW_HU
    grey = np.clip((volume.hu[:, plane] - low) / (high - low), 0.0, 1.0)[..., None].repeat(3, axis=2)
    if labels is not None:
        grey = _painted(grey, labels.labels[:, plane] == Label.AIR)
    extent = (volume.shape[0] * volume.spacing_mm[0], volume.shape[2] * volume.spacing_mm[2])
    return Panel(grey, extent, title, PLANE_LETTERS["coronal"], (0.0, 1.0), key=key)


def _painted(grey: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    share = _OPACITY * mask.astype(np.float32)[..., None]
    return np.asarray(grey * (1.0 - share) + _RED * share, dtype=np.float32)
