"""The film networks: shapes, sizes, what the films tell each other, and their files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from xrecon.errors import InputError
from xrecon.models.checkpoint import load_model, save_model
from xrecon.models.film_network import FilmMaps, FilmNet, FilmNetConfig
from xrecon.models.registry import parameter_count

TINY = FilmNetConfig(channels=(8, 8, 16), pixel_mm=6.0, presence=True)


def network(**changes: object) -> FilmNet:
    torch.manual_seed(0)
    return FilmNet(FilmNetConfig.model_validate({**TINY.model_dump(), **changes})).eval()


def contrast(views: int = 2, seed: int = 0, edge: int = 32) -> torch.Tensor:
    return torch.randn(2, views, 2, edge, edge, generator=torch.Generator().manual_seed(seed))


def test_maps_have_the_size_of_the_films() -> None:
    with torch.no_grad():
        maps = network()(contrast())
    for values in (maps.air_logit, maps.air_mm, maps.lung_mm, maps.expected_air_mm):
        assert values.shape == (2, 2, 2, 32, 32)
    assert maps.presence_logit is not None and maps.presence_logit.shape == (2, 2)
    assert float(maps.air_mm.min()) >= 0 and float(maps.lung_mm.min()) >= 0
    assert bool((maps.expected_air_mm <= maps.air_mm).all())


def test_all_weights_together_stay_below_three_million() -> None:
    assert parameter_count(FilmNet(FilmNetConfig(presence=True))) <= 3_000_000


def test_the_head_for_the_side_can_be_left_out() -> None:
    with torch.no_grad():
        assert network(presence=False)(contrast()).presence_logit is None


@pytest.mark.parametrize("fold", [1, 2, 4])
def test_the_fold_changes_no_shape(fold: int) -> None:
    assert network(fold=fold)(contrast()).air_mm.shape == (2, 2, 2, 32, 32)


def rows_that_differ(first: FilmMaps, second: FilmMaps, view: int) -> torch.Tensor:
    return (first.air_logit - second.air_logit)[0, view].abs().amax(dim=(0, 2)).flatten() > 1e-6


def test_each_film_sees_the_other_and_only_itself_when_alone() -> None:
    films = contrast()
    changed = films.clone()
    changed[:, 1] += torch.randn(changed[:, 1].shape, generator=torch.Generator().manual_seed(9))
    both = network()
    with torch.no_grad():
        assert rows_that_differ(both(films), both(changed), view=0).any()
        alone = network(views=("pa",))
        assert not alone.exchange
        assert alone(films[:, :1]).air_mm.shape == (2, 1, 2, 32, 32)


def test_every_part_learns() -> None:
    net = network().train()
    maps = net(contrast())
    assert maps.presence_logit is not None
    (maps.air_logit.square().mean() + maps.air_mm.mean() + maps.lung_mm.mean() + maps.presence_logit.sum()).backward()
    assert [name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_bfloat16_changes_the_answer_a_little_only() -> None:
    net = network()
    with torch.no_grad():
        exact = net(contrast())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            reduced = net(contrast())
    assert reduced.air_mm.dtype == torch.float32
    assert torch.allclose(exact.air_mm, reduced.air_mm, atol=0.5)


def test_films_that_do_not_fit_are_refused_in_words() -> None:
    with pytest.raises(InputError, match="multiples of 16"):
        network()(contrast(edge=36))
    with pytest.raises(InputError, match="2 views"):
        network()(contrast(views=1))


@pytest.mark.parametrize("wrong", [{"channels": (12, 16)}, {"views": ("lateral", "pa")}, {"views": ("ap",)}])
def test_settings_that_make_no_network_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FilmNetConfig.model_validate(wrong)


def test_saved_networks_are_the_same(tmp_path: Path) -> None:
    net = network()
    save_model(net, tmp_path, name="films", training_data="none", licence="none")
    loaded, information = load_model(tmp_path)
    assert information.family == "films"
    with torch.no_grad():
        assert torch.equal(loaded(contrast()).air_mm, net(contrast()).air_mm)
