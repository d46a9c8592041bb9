"""Independent work at the same time."""

from __future__ import annotations

import threading

import pytest

from xrecon.jobs import at_once


def test_results_stand_in_the_order_of_the_items() -> None:
    assert at_once(lambda item: item * item, range(20)) == [item * item for item in range(20)]


def test_two_items_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=20)
    assert at_once(lambda _: meeting.wait() >= 0, (1, 2)) == [True, True]


def test_an_error_comes_out_and_the_rest_is_left() -> None:
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        at_once(work, range(1000), threads=1)
    assert len(begun) < 1000
