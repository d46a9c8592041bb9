"""The truth that estimates are measured against, and a bank that never holds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xrecon.anatomy.frame import thorax_centre
from xrecon.errors import InputError
from xrecon.evaluation.cases import LEAST_DETECTOR, file_sources, prepare_case
from xrecon.evaluation.demo import peak_memory_mib
from xrecon.evaluation.models import choose_models
from xrecon.evaluation.plan import plan_evaluation
from xrecon.phantoms.thorax import Phantom, thorax_phantom


def test_truth_body_and_films_share_the_frame(phantom64: Phantom) -> None:
    case = prepare_case("phantom", phantom64.volume, size=64)
    assert case.truth.shape == case.body.shape == (64, 64, 64)
    assert np.allclose(case.truth.centre_mm, 0.0)
    assert case.truth.spacing_mm == pytest.approx((6.0, 6.0, 6.0))
    assert case.films[0].image.shape == (LEAST_DETECTOR, LEAST_DETECTOR)
    # The phantom has the frame's voxels: only the centre differs, by 21 mm along D and 15 mm along H here.
    shift = np.rint(-thorax_centre(phantom64.volume)[[2, 1]] / 6.0 * [-1, 1]).astype(int)
    rolled = np.roll(phantom64.structures["body"], shift, axis=(0, 1))
    inside = (slice(6, -6), slice(6, -6), slice(6, -6))
    dice = 2 * (case.body & rolled)[inside].sum() / (case.body[inside].sum() + rolled[inside].sum())
    assert dice > 0.95
    assert case.truth.hu[~case.body].mean() < -950
    assert case.truth.hu[case.body].max() > 200


def test_films_show_the_truth(phantom64: Phantom) -> None:
    """Dense columns of the truth are dense columns of the film: frame and films share their centre."""
    case = prepare_case("phantom", phantom64.volume, size=64)
    for film, axis in zip(case.films, (1, 2), strict=True):
        depth = np.clip(case.truth.hu + 1024, 0, None).sum(axis=axis)
        small = film.image.reshape(64, 2, 64, 2).mean(axis=(1, 3))
        straight = np.corrcoef(small.ravel(), depth.ravel())[0, 1]
        shifted = np.corrcoef(np.roll(small, 3, axis=1).ravel(), depth.ravel())[0, 1]
        assert straight > 0.97
        assert shifted < straight


def test_a_case_is_never_in_its_own_bank(phantom64_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "somebody_else.nii.gz"
    copy.write_bytes(phantom64_file.read_bytes())
    other = tmp_path / "other.nii"
    thorax_phantom(32, 12.0).volume.save(other)
    files = [("phantom", phantom64_file), ("somebody_else", copy), ("other", other)]
    bank = file_sources(files, size=64, geometry="chest")
    (choice,) = choose_models(["deform+bank"], baselines=(), bank=bank)
    (case,) = file_sources([("case", phantom64_file)], size=64, geometry="chest")
    # Two of the three hold the content of the case.
    assert [source.name for source in choice.bank_without(case)] == ["other"]
    assert len(choice.bank_without(bank[2])) == 2
    (lonely,) = choose_models(["deform+bank"], baselines=(), bank=bank[1:2])
    with pytest.raises(InputError, match="case: no CT of another patient"):
        lonely.bank_without(case)
    with pytest.raises(InputError, match="no CT of another patient"):
        lonely.run(case.open().films(case.open().volume), size=64, assets=None, seed=0, case=case)


def test_unknown_models_and_missing_banks_are_refused(phantom64_file: Path) -> None:
    with pytest.raises(InputError, match="unknown model 'magic'"):
        choose_models(["atlas", "magic"])
    with pytest.raises(InputError, match="unknown model 'magic'"):
        plan_evaluation(phantom64_file.parent, models=["magic"])
    with pytest.raises(InputError, match="needs cases of other patients"):
        choose_models(["deform+bank"])
    assert [choice.label for choice in choose_models([])] == ["atlas", "pca", "deform"]


def test_peak_memory_is_that_of_this_process() -> None:
    peak = peak_memory_mib()
    if peak is None:
        pytest.skip("this system does not tell")
    assert 20 < peak < 200_000
