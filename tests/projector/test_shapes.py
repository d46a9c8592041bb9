"""Shapes in signatures are checked while the tests run: a wrong one does not pass silently."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from xrecon.geometry import ConeBeam
from xrecon.projector.backends.reference import line_integrals, project_reference
from xrecon.projector.rays import ray_frame

VIEW = ConeBeam.preset("chest", "pa", size=6)


def test_a_volume_without_its_batch_is_caught() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match=r"batch depth height width"):
        project_reference(torch.zeros(8, 9, 10), (5.0, 5.0, 5.0), ray_frame(VIEW), VIEW.detector_shape)


def test_an_integer_volume_is_caught() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match=r"volume"):
        line_integrals(torch.zeros(1, 8, 9, 10, dtype=torch.int32), 0, torch.zeros(7, 4))


def test_lines_of_another_layout_are_caught() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match=r"7 rays"):
        line_integrals(torch.zeros(1, 8, 9, 10), 0, torch.zeros(4, 7))


@pytest.mark.usefixtures("without_shape_checks")
def test_checks_can_be_left_out() -> None:
    film = project_reference(torch.zeros(1, 8, 9, 10), (5.0, 5.0, 5.0), ray_frame(VIEW), VIEW.detector_shape)
    assert film.shape == (1, 6, 6)
    with pytest.raises(IndexError):
        line_integrals(torch.zeros(8, 9, 10), 2, torch.zeros(7, 4))
