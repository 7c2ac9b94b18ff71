"""What `keep` may be."""

from typing import Any

import numpy as np
import pytest

from easyep.architectures.router import Router
from easyep.errors import SelectionError
from easyep.selection.budget import keep_count


@pytest.mark.parametrize("align", [0, -8])
def test_alignment_is_a_positive_number(align: int) -> None:
    with pytest.raises(SelectionError, match=f"align must be a positive integer, not {align}"):
        keep_count(0.5, Router(64, 4), align=align)


@pytest.mark.parametrize("keep", [float("inf"), float("-inf"), 1e400])
def test_numbers_without_end(keep: float) -> None:
    with pytest.raises(SelectionError, match="fraction in"):
        keep_count(keep, Router(64, 4))


def test_more_than_there_are_is_not_rounded_down() -> None:
    with pytest.raises(SelectionError, match="only 64"):
        keep_count(66, Router(64, 4), align=5)
    with pytest.raises(SelectionError, match="only 64"):
        keep_count(10**400, Router(64, 4))
    with pytest.raises(SelectionError, match="only 60"):
        keep_count(64, Router(60, 4), align=5)
    with pytest.raises(SelectionError, match="not a multiple of 5; the nearest .*: 60"):
        keep_count(64, Router(64, 4), align=5)


def test_a_fraction_is_rounded_to_the_nearest_count_and_no_further() -> None:
    router = Router(64, 4)
    assert keep_count(31.4 / 64, router) == 31
    assert keep_count(31.6 / 64, router) == 32
    assert keep_count(5 / 64, router, align=4) == 4
    # One step away is not what was meant: 1 of 64, of which a token uses 4.
    with pytest.raises(SelectionError, match="cannot keep 1 of 64"):
        keep_count(1 / 64, router)
    with pytest.raises(SelectionError, match="cannot keep 3 of 64"):
        keep_count(3 / 64, router)


def test_one_expert_is_a_number_and_not_a_fraction():
    assert keep_count(1, Router(8, 1)) == 1
    assert keep_count(np.int64(1), Router(8, 1)) == 1
    assert keep_count(2.0, Router(8, 1)) == 2
    with pytest.raises(SelectionError, match=r"not 1.0; one expert is 1, and all of them"):
        keep_count(1.0, Router(8, 1))


@pytest.mark.parametrize("keep", ["0.5", None, True, [4], 1.5, 0, -0.5, float("nan"), "9" * 10**6])
def test_what_is_no_budget(keep: Any) -> None:
    with pytest.raises(SelectionError, match="keep must be a fraction in .* not ") as caught:
        keep_count(keep, Router(8, 1))
    assert len(str(caught.value)) < 200


def test_a_count_that_no_router_takes_is_not_rounded_but_one_off_the_alignment_is():
    assert keep_count(15, Router(64, 4), align=2) == 14
    assert keep_count(3, Router(64, 4), align=5) == 5
    with pytest.raises(SelectionError, match="cannot keep 12 .*: 8 and 16"):
        keep_count(12, Router(64, 4, 8, 4, group_best=1), align=4)


def test_where_few_counts_work_the_distance_between_them_is_what_rounding_may_take():
    assert keep_count(0.3, Router(64, 4), align=30) == 30
    assert keep_count(0.62, Router(64, 4), align=40) == 40
    with pytest.raises(SelectionError, match="cannot keep 38 of 64"):
        keep_count(0.6, Router(64, 4), align=40)
    assert keep_count(0.99, Router(5, 5)) == 5
