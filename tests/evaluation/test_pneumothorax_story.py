"""The chest of the demo, healthy and sick, through films, film networks, reconstruction and PTX-Seg."""

from __future__ import annotations

import numpy as np
import pytest

from xrecon.evaluation import pneumothorax_story as module
from xrecon.evaluation.pneumothorax_story import PLANT, StoryChest, pneumothorax_story, story_or_note
from xrecon.phantoms.thorax import Phantom
from xrecon.report.pneumothorax_story import story_figure, story_table
from xrecon.segmentation import Side
from xrecon.volume import Volume


@pytest.fixture(scope="module")
def story(phantom64: Phantom) -> tuple[StoryChest, StoryChest]:
    return pneumothorax_story(phantom64.volume, size=64)


def test_both_versions_are_filmed_reconstructed_and_measured(story: tuple[StoryChest, StoryChest]) -> None:
    healthy, sick = story
    assert healthy.labels is None and healthy.occupancy == 0.0
    assert sick.labels is not None and 10.0 < sick.occupancy < 30.0  # a third of one side
    assert set(np.unique(sick.labels.air_side)) == {Side.NONE, Side.RIGHT if PLANT.side == "right" else Side.LEFT}
    assert np.abs(sick.truth.hu - healthy.truth.hu).max() > 100.0
    for chest in story:
        assert chest.result.volume.shape == chest.truth.shape == (64, 64, 64)
        assert chest.result.provenance["model"] == "deform+films"
        assert chest.result.pneumothorax is not None
        assert all(film.quantity == "display" for film in chest.result.pneumothorax.answer.films.values())


def test_the_picture_shows_film_air_truth_and_result(story: tuple[StoryChest, StoryChest]) -> None:
    figure = story_figure(story, subject="artificial thorax")
    labels = {axes.get_label() for axes in figure.axes}
    for name in ("healthy", "planted pneumothorax"):
        assert {f"input {name}", f"air {name}", f"truth {name}", f"ct {name}"} <= labels
    truth = next(axes for axes in figure.axes if axes.get_label() == "truth planted pneumothorax")
    image = np.asarray(truth.images[0].get_array())
    red = (image[..., 0] > image[..., 1] + 0.2).sum(axis=0)
    half = red.size // 2
    assert red[:half].sum() > 20 > red[half:].sum()  # the patient's right is on the image's left
    table = story_table(story)
    assert [row[0] for row in table.body] == ["healthy", "planted pneumothorax"]
    assert table.body[0][1] == "0.0" and all(len(row) == len(table.head) for row in table.body)


def test_a_chest_in_which_nothing_can_be_planted_gives_a_reason(phantom64: Phantom) -> None:
    solid = phantom64.volume.with_hu(np.full(phantom64.volume.shape, 30.0, dtype=np.float32))
    nothing, reason = answer_for(solid)
    assert nothing is None and reason.startswith("No pneumothorax is shown: ")


def test_an_installation_without_film_networks_says_so(phantom64: Phantom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_film_networks", lambda: False)
    assert answer_for(phantom64.volume) == (None, "No pneumothorax is shown: the film networks are not installed.")


def answer_for(ct: Volume) -> tuple[object, str]:
    return story_or_note(ct, size=64, assets=None, device="cpu", seed=0, progress=lambda _: None)
