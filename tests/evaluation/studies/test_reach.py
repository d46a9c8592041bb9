"""How much the films measured."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from xrecon.evaluation.studies.reach import reach_of


def test_shares_and_counts_by_hand() -> None:
    support = np.ones((4, 4, 4), np.float32)
    support[0], support[1] = 0.0, 0.5
    film = SimpleNamespace(image=np.zeros((4, 2)))
    reconstruction = SimpleNamespace(
        support=support, films=(film, film), volume=SimpleNamespace(hu=np.zeros(support.shape))
    )
    reach = reach_of(reconstruction)  # type: ignore[arg-type]
    assert (reach.pixels, reach.voxels) == (16, 64)
    assert reach.share == pytest.approx(0.25)
    assert (reach.both_films, reach.one_film, reach.no_film) == pytest.approx((0.5, 0.25, 0.25))
