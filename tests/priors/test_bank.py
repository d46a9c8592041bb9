"""A bank of CTs: each fitted to the films, the best averaged with the deformed template."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from support.prior_factory import SHORT
from xrecon.errors import InputError
from xrecon.priors import bank as bank_module
from xrecon.priors.asset import PriorAsset
from xrecon.priors.bank import BankChest, fit_bank
from xrecon.priors.chest import DENSITY_GRID
from xrecon.priors.deformation import mean_chest
from xrecon.priors.framing import FilmedChest
from xrecon.warp import Grid, sample

GRID = DENSITY_GRID


@pytest.fixture(scope="module")
def fitted(asset: PriorAsset, cases: tuple[FilmedChest, ...]) -> BankChest:
    """The last patient's films against a bank of another patient and, for the test only, of the patient itself."""
    torch.set_num_threads(1)
    before = bank_module._LEVELS
    bank_module._LEVELS = SHORT
    try:
        bank = (cases[0], cases[4])
        return fit_bank(mean_chest(asset.prior), bank, cases[4].films, device=torch.device("cpu"))
    finally:
        bank_module._LEVELS = before


def _error(hu: torch.Tensor, case: FilmedChest) -> float:
    truth, valid = sample(torch.stack([case.hu, case.valid]), GRID.positions_mm(), 4.0)
    return float((hu.clamp(min=-1000) - truth.clamp(min=-1000))[valid > 0.99].square().mean().sqrt())


def test_the_patient_itself_is_picked_first(fitted: BankChest, cases: tuple[FilmedChest, ...]) -> None:
    assert [member.case.name for member in fitted.members] == [cases[4].name, cases[0].name]
    assert fitted.members[0].score < 0.7 * fitted.members[1].score
    base = fitted.template.hu(GRID)
    patient, other = (_error(member.hu(GRID, base), cases[4]) for member in fitted.members)
    assert patient < 0.6 * other and patient < 0.6 * _error(base, cases[4])


def test_the_mean_lies_between_its_parts_and_beats_the_template(
    fitted: BankChest, cases: tuple[FilmedChest, ...]
) -> None:
    base = fitted.template.hu(GRID)
    parts = torch.stack([base, *(member.hu(GRID, base) for member in fitted.members)])
    mean = fitted.hu(GRID)
    assert bool((mean >= parts.amin(0) - 0.01).all()) and bool((mean <= parts.amax(0) + 0.01).all())
    assert _error(mean, cases[4]) < _error(base, cases[4])


def test_spread_is_the_standard_deviation_of_the_parts(fitted: BankChest) -> None:
    base = fitted.template.hu(GRID)
    parts = torch.stack([base, *(member.hu(GRID, base) for member in fitted.members)])
    torch.testing.assert_close(fitted.spread(GRID), parts.std(dim=0), rtol=1e-3, atol=0.05)


def test_where_a_case_was_not_measured_the_template_stands_in(fitted: BankChest) -> None:
    base = fitted.template.hu(GRID)
    member = fitted.members[0]
    blind = replace(member, case=replace(member.case, valid=torch.zeros_like(member.case.valid)))
    assert torch.equal(blind.hu(GRID, base), base)


def test_deviation_is_that_of_the_template(fitted: BankChest) -> None:
    grid = Grid((16, 16, 16), 24.0)
    assert torch.equal(fitted.deviation(grid), fitted.template.deviation(grid))


def test_tone_changes_lung_and_tissue_apart() -> None:
    hu = torch.tensor([-1000.0, -850.0, 40.0])
    lung = bank_module._toned(hu, torch.tensor([1.0, 0.0])) - hu
    tissue = bank_module._toned(hu, torch.tensor([0.0, 1.0])) - hu
    assert float(lung[1]) > 10 and abs(float(lung[0])) < 1 and abs(float(lung[2])) < 1
    assert float(tissue[2]) > 10 and abs(float(tissue[1])) < 1


def test_an_empty_bank_is_refused(asset: PriorAsset, cases: tuple[FilmedChest, ...]) -> None:
    with pytest.raises(InputError, match="the bank holds no CT"):
        fit_bank(mean_chest(asset.prior), [], cases[0].films, device=torch.device("cpu"))
