import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from easyep.architectures.router import LARGEST, Router, budget
from easyep.errors import ArtifactError, CheckpointError, SelectionError

DEEPSEEK = Router(256, 8, 8, 4, 61, 1)


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        *((0.5, 0.5), (1e-9, 1e-9), (np.float32(0.25), 0.25), (Fraction(1, 2), 0.5)),
        *((1, 1), (2, 2), (np.int64(1), 1), (16.0, 16), (np.float64(2), 2), (10**400, 10**400)),
    ],
)
def test_a_share_is_a_float_and_a_count_an_integer(keep: Any, expected: float) -> None:
    found = budget("keep", keep)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "keep", [0, -1, 0.0, -0.5, 1.5, np.inf, np.nan, True, False, "1", "0.5", None, [4], 1j]
)
def test_what_is_neither_a_share_nor_a_count(keep: Any) -> None:
    with pytest.raises(SelectionError, match=r"it must be a fraction .* not ") as caught:
        budget("it", keep)
    assert "one expert is 1" not in str(caught.value)


def test_one_point_nought_could_be_either() -> None:
    with pytest.raises(SelectionError, match="not 1.0; one expert is 1, and all of them are"):
        budget("keep", 1.0)


@pytest.mark.parametrize("keep", [16, 24, 128, 248, 256])
def test_balanced_counts_that_work(keep: int) -> None:
    DEEPSEEK.check_keep(keep, "balanced")


@pytest.mark.parametrize(
    ("router", "keep", "groups", "message"),
    [
        (DEEPSEEK, 7, "flatten", r"routed to 8; the nearest counts that work: 8$"),
        (DEEPSEEK, 7, "balanced", r"routed to 8; the nearest counts that work: 16$"),
        (DEEPSEEK, 257, "flatten", r"only 256; the nearest counts that work: 256$"),
        (DEEPSEEK, 100, "balanced", r"multiple of 8.*: 96 and 104; or choose groups 'flatten'"),
        (DEEPSEEK, 8, "balanced", r"2 best experts; .*: 16; or choose groups 'flatten'"),
        (Router(16, 6, 4, 2), 8, "balanced", r"would hold 4 experts.* routed to 6.*: 12"),
        (Router(8, 2), 1, "balanced", r"routed to 2; the nearest counts that work: 2$"),
    ],
)
def test_counts_that_do_not_work_name_those_that_do(
    router: Router, keep: int, groups: str, message: str
) -> None:
    with pytest.raises(SelectionError) as error:
        router.check_keep(keep, groups)
    assert re.search(message, str(error.value))


def test_valid_counts_are_those_that_check_keep_accepts() -> None:
    assert Router(16, 2, 4, 2).valid_counts("balanced") == [8, 12, 16]
    assert Router(16, 2, 4, 2).valid_counts("flatten") == list(range(2, 17))
    assert Router(8, 2, 2, 1).valid_counts("balanced") == [4, 6, 8]
    assert Router(16, 2).valid_counts("balanced", align=4) == [4, 8, 12, 16]
    assert Router(3, 1).valid_counts("balanced") == [1, 2, 3]


def test_groups_scored_by_one_expert_can_keep_one() -> None:
    router = Router(16, 2, 4, 2, group_best=1)
    assert router.valid_counts("balanced") == [4, 8, 12, 16]
    three = Router(32, 2, 4, 2, group_best=3)
    with pytest.raises(SelectionError, match=r"by its 3 best experts; .*: 12;"):
        three.check_keep(8, "balanced")


@pytest.mark.parametrize(
    ("router", "fraction", "groups", "align", "keep"),
    [
        (DEEPSEEK, 0.5, "balanced", 1, 128),
        (DEEPSEEK, 0.49, "balanced", 1, 128),
        (DEEPSEEK, 0.49, "flatten", 1, 125),
        (DEEPSEEK, 0.01, "balanced", 1, 16),
        (DEEPSEEK, 0.01, "flatten", 1, 8),
        (DEEPSEEK, 0.999, "balanced", 1, 248),
        (DEEPSEEK, 0.999, "flatten", 1, 255),
        (DEEPSEEK, 0.5, "balanced", 12, 120),
        (Router(16, 2, 4, 2), 0.625, "balanced", 1, 8),  # 10 is between 8 and 12
        (Router(50, 2), 0.07, "balanced", 1, 3),  # 3.5, but not in floating point
        (Router(50, 2), 0.29, "balanced", 1, 14),  # 14.5
        (Router(8, 2), 0.9, "balanced", 8, 8),  # nothing else works
        (Router(8, 8), 0.5, "balanced", 1, 8),
    ],
)
def test_the_nearest_count(
    router: Router, fraction: float, groups: str, align: int, keep: int
) -> None:
    assert router.nearest_keep(fraction, groups, align) == keep
    router.check_keep(keep, groups, align)


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 1.5, float("nan")])
def test_fractions_that_are_none(fraction: float) -> None:
    with pytest.raises(SelectionError, match="between 0 and 1"):
        DEEPSEEK.nearest_keep(fraction, "balanced")


def test_no_count_works() -> None:
    with pytest.raises(SelectionError, match="not a multiple of 1792"):
        DEEPSEEK.nearest_keep(0.5, "balanced", align=7 * 256)
    with pytest.raises(SelectionError, match="cannot keep 1 of 8"):
        Router(8, 1).nearest_keep(0.01, "balanced", align=9)


def test_align_is_checked() -> None:
    with pytest.raises(SelectionError, match=r"not a multiple of 16; .*: 112 and 128"):
        DEEPSEEK.check_keep(120, "balanced", align=16)


def test_groups_are_contiguous_blocks() -> None:
    assert [Router(8, 2, 4, 2).group_of(e) for e in range(8)] == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    "numbers", [(8, 9), (8, 0), (8, 2, 3), (8, 2, 4, 5), (8, 2, 0), (8, 2, 1, 1, 0, 0, 0)]
)
def test_impossible_routers_are_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError):
        Router(*numbers)


def test_a_router_may_use_all_experts_all_groups_and_groups_of_one() -> None:
    assert Router(8, 8).valid_counts("balanced") == [8]
    assert Router(4, 1, 4, 4, group_best=1).valid_counts("balanced") == [4]


def test_json_round_trip() -> None:
    assert Router.from_json(DEEPSEEK.to_json()) == DEEPSEEK
    for broken in (None, {}, {**DEEPSEEK.to_json(), "top_k": "8"}):
        with pytest.raises(ArtifactError, match="must be an object with num_experts"):
            Router.from_json(broken)
    old = {k: v for k, v in DEEPSEEK.to_json().items() if k != "group_best"}
    with pytest.raises(ArtifactError, match="no integer group_best .*make it again"):
        Router.from_json(old)
    with pytest.raises(ArtifactError, match="impossible"):
        Router.from_json({**DEEPSEEK.to_json(), "top_k": 300})
    most = {**DEEPSEEK.to_json(), "num_experts": LARGEST}
    assert Router.from_json(most).num_experts == LARGEST
    with pytest.raises(ArtifactError, match=r"more experts than any model \(1000000\)"):
        Router.from_json({**most, "num_experts": LARGEST + 8})
