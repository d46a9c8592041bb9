"""Memory of gradients is used again, never while somebody still looks at it, and never with what it held before."""

from __future__ import annotations

import gc

import torch

from xrecon.geometry import ConeBeam
from xrecon.projector.backends import buffers
from xrecon.projector.operator import backproject


def _view(angle: float) -> ConeBeam:
    return ConeBeam(300.0, 480.0, (16, 32), (8.0, 5.0), angle_deg=angle)


def test_memory_comes_back_when_the_last_view_of_it_is_gone() -> None:
    first = buffers.borrowed((3, 40, 50))
    address, part = first.data_ptr(), first[1, 2:]
    del first
    gc.collect()
    second = buffers.borrowed((3, 40, 50))
    assert second.data_ptr() != address  # `part` still looks at it
    del part, second
    gc.collect()
    seen = {buffers.borrowed((3, 40, 50)).data_ptr() for _ in range(3)}
    assert len(seen) == 1


def test_memory_begins_at_a_cache_line_and_has_the_shape_asked_for() -> None:
    for shape in ((5,), (2, 3, 7), (1, 17, 33, 65)):
        tensor = buffers.borrowed(shape)
        assert tensor.shape == shape
        assert tensor.dtype == torch.float32
        assert tensor.data_ptr() % 64 == 0


def test_idle_memory_can_be_given_up() -> None:
    del_me = buffers.borrowed((100, 100))
    del del_me
    gc.collect()
    assert buffers.idle_bytes() >= 40_000
    buffers.forget()
    assert buffers.idle_bytes() == 0


def test_large_volumes_are_not_kept() -> None:
    buffers.forget()
    memory = buffers.borrowed((buffers.LARGEST_IDLE_BYTES // 4 + 1,))  # never touched, so it takes no memory
    del memory
    gc.collect()
    assert buffers.idle_bytes() == 0


def test_what_the_memory_held_before_does_not_show() -> None:
    films = torch.rand(1, 1, 16, 32, generator=torch.Generator().manual_seed(0))
    for angle in (0.0, 90.0, 45.0):
        shape = (33, 40, 48)
        clean = backproject(films, shape, 2.5, _view(angle)).clone()
        for _ in range(2):
            dirty = buffers.borrowed((1, *shape)).fill_(7.0)
            del dirty
            gc.collect()
            assert torch.equal(backproject(films, shape, 2.5, _view(angle)), clean)
