"""The table of reconstruction models: what it names, what its entries need, and that naming them loads no torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from xrecon.errors import InputError
from xrecon.inference import models
from xrecon.inference.models import DEFAULT_MODEL, TABLE, baseline_names, find_model, model_names
from xrecon.inference.protocol import FitTask, Needs, ReadyModel
from xrecon.inference.reconstruct import reconstruct
from xrecon.priors.asset import PriorAsset
from xrecon.priors.deformation import mean_chest
from xrecon.priors.framing import FilmedChest


def test_names_needs_and_baselines() -> None:
    assert model_names() == ("atlas", "pca", "deform", "deform+bank", "deform+films", "xrecon")
    assert baseline_names() == ("atlas", "pca", "deform")
    assert [model.needs.in_words() for model in TABLE] == [
        "priors", "priors", "priors", "priors, CTs of other patients", "priors, film networks", "priors, network",
    ]  # fmt: skip
    assert all(model.summary.endswith(".") for model in TABLE)
    network = find_model("xrecon").needs.network
    assert network is not None and (network / "model.json").is_file()


def test_a_bank_chooses_the_form_of_the_model_that_uses_it() -> None:
    assert find_model("default").name == DEFAULT_MODEL == "deform"
    assert find_model("deform", has_bank=True) is find_model("deform+bank") is find_model("deform+bank", has_bank=True)
    with pytest.raises(InputError, match="a bank is used by model deform only, not by xrecon"):
        find_model("xrecon", has_bank=True)


def test_any_model_can_ask_the_film_networks() -> None:
    sick = find_model("atlas+films")
    assert sick.name == "atlas+films" and sick.needs.in_words() == "priors, film networks"
    assert find_model("deform+bank+films").needs.bank and find_model("xrecon+films").needs.network is not None
    with pytest.raises(InputError, match="unknown model 'round'"):
        find_model("round+films")


def test_a_model_without_its_bank_is_refused(asset: PriorAsset, cases: tuple[FilmedChest, ...]) -> None:
    with pytest.raises(InputError, match=r"model deform\+bank needs a bank: give CTs of other patients"):
        reconstruct(*cases[4].films.films, model="deform+bank", size=64, assets=asset)


def test_a_new_model_is_one_entry(
    asset: PriorAsset, cases: tuple[FilmedChest, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the table has to know a model: `reconstruct` finds, runs and names it."""

    @dataclass(frozen=True)
    class Flat:
        name = "flat"
        summary = "The mean chest once more."
        needs = Needs()
        is_baseline = False

        def ready(self, task: FitTask) -> ReadyModel:
            chest = mean_chest(task.asset.prior)
            return ReadyModel(lambda _: chest, "flat", "0" * 64, remark="a remark")

    monkeypatch.setattr(models, "TABLE", (*TABLE, Flat()))
    flat, atlas = (
        reconstruct(*cases[4].films.films, model=name, size=64, refine=False, assets=asset)
        for name in ("flat", "atlas")
    )
    assert np.array_equal(flat.volume.hu, atlas.volume.hu)
    assert flat.provenance["model"] == "flat" and flat.provenance["sha256"] == "0" * 64
    assert "a remark" in flat.provenance["notes"] and "a remark" in flat.volume.notes
    with pytest.raises(InputError, match="xrecon, flat, or give the folder"):
        find_model("round")


def test_naming_the_models_loads_no_torch() -> None:
    code = "import sys; from xrecon.inference.models import model_names; model_names(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
