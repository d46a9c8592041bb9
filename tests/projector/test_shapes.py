"""Shapes in signatures are checked while the tests run: a wrong one does not pass silently."""

from __future__ import annotations

import importlib.util

import jaxtyping
import pytest
import torch

from support.shapes import SHAPE_CHECKED
from xrecon.geometry import ConeBeam
from xrecon.projector import backproject, project, prost_project
from xrecon.projector.backends.reference import line_integrals, project_reference
from xrecon.projector.detector import gaussian_blur
from xrecon.projector.rays import RayFrame, ray_frame

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


def test_public_functions_are_checked() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="batch 1 depth height width"):
        project(torch.zeros(8, 9, 10), 5.0, VIEW)
    with pytest.raises(jaxtyping.TypeCheckError, match="views 6"):
        project(torch.zeros(1, 1, 8, 9, 10), 5.0, VIEW, pose=torch.zeros(5))
    with pytest.raises(jaxtyping.TypeCheckError, match="batch views rows cols"):
        backproject(torch.zeros(6, 6), (8, 9, 10), 5.0, VIEW)
    with pytest.raises(jaxtyping.TypeCheckError, match="batch 1 depth height width"):
        prost_project(torch.zeros(1, 2, 8, 8, 8), rotation_deg=(0, 0, 90))
    with pytest.raises(jaxtyping.TypeCheckError, match="rows cols"):
        gaussian_blur(torch.zeros(6), 1.0, pixel_mm=(1.0, 1.0))


def test_fields_of_a_dataclass_are_checked() -> None:
    three, four = torch.zeros(3), torch.zeros(4)
    with pytest.raises(jaxtyping.TypeCheckError, match="col_step"):
        RayFrame(three, three, three, four)


@pytest.mark.parametrize("module", SHAPE_CHECKED)
def test_every_module_that_is_named_exists(module: str) -> None:
    assert importlib.util.find_spec(module) is not None


@pytest.mark.usefixtures("without_shape_checks")
def test_checks_can_be_left_out() -> None:
    film = project_reference(torch.zeros(1, 8, 9, 10), (5.0, 5.0, 5.0), ray_frame(VIEW), VIEW.detector_shape)
    assert film.shape == (1, 6, 6)
    with pytest.raises(IndexError):
        line_integrals(torch.zeros(8, 9, 10), 2, torch.zeros(7, 4))
