"""The truth that estimates are measured against, and a bank that never holds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xrecon.anatomy.frame import thorax_centre
from xrecon.errors import InputError
from xrecon.evaluation.study import (
    LEAST_DETECTOR,
    STUDY_MODELS,
    _Bank,
    evaluate_cases,
    peak_memory_mib,
    prepare_case,
    run_model,
)
from xrecon.phantoms.thorax import Phantom


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
    from xrecon.phantoms.thorax import thorax_phantom

    thorax_phantom(32, 12.0).volume.save(other)
    bank = _Bank([("phantom", phantom64_file), ("somebody_else", copy), ("other", other)])
    kept = bank.without("case", phantom64_file)  # two of the three hold the case's content
    assert [chest.name for chest in kept] == ["other"]
    assert len(bank.without("other", other)) == 2
    with pytest.raises(InputError, match="no CT of another patient"):
        _Bank([("somebody_else", copy)]).without("phantom", phantom64_file)


def test_unknown_models_and_missing_banks_are_refused(phantom64: Phantom, phantom64_file: Path) -> None:
    case = prepare_case("phantom", phantom64.volume, size=64)
    with pytest.raises(InputError, match="unknown model 'magic'"):
        run_model(case, "magic")
    with pytest.raises(InputError, match="needs CTs of other patients"):
        run_model(case, "deform+bank")
    with pytest.raises(InputError, match="unknown models"):
        next(evaluate_cases([("phantom", phantom64_file)], models=["atlas", "magic"], size=64))
    assert STUDY_MODELS == ("atlas", "pca", "deform", "deform+bank")


def test_peak_memory_is_that_of_this_process() -> None:
    peak = peak_memory_mib()
    if peak is None:
        pytest.skip("this system does not tell")
    assert 20 < peak < 200_000
