"""Lung cases of the artificial thorax: three variants instead of a dozen."""

from __future__ import annotations

from pathlib import Path

import pytest

from xrecon.training.lungs.planted_cases import Recipe, make_cases

RECIPES = [
    Recipe("healthy"),
    Recipe("subcutaneous"),
    Recipe("pneumothorax", side="left", occupancy=0.65, seed=3),
]


def _use_recipes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("xrecon.training.lungs.planted_cases.recipes", lambda _index, seed=0, rounds=1: RECIPES)


@pytest.fixture
def small_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every CT gives the three variants only."""
    _use_recipes(monkeypatch)


@pytest.fixture(scope="session")
def variant_files(phantom64_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The three variants on a grid of 12 mm. Shared: read them, do not change them."""
    with pytest.MonkeyPatch.context() as patch:
        _use_recipes(patch)
        cases = make_cases(
            [("one", phantom64_file)], tmp_path_factory.mktemp("cases"), pitch_mm=12.0, progress=lambda _line: None
        )
    return [path for _, path in cases]


@pytest.fixture
def phantom_cases(variant_files: list[Path]) -> list[tuple[str, Path]]:
    """The three variants under the names of four patients."""
    return [(name, path) for name in ("a", "b", "c", "d") for path in variant_files]
