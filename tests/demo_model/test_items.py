"""The split of an item is a function of its own text."""

from __future__ import annotations

import dataclasses
import random

import pytest

from easyep.demo_model.domains import DOMAINS
from easyep.demo_model.items import Item, draw_distinct


def test_buckets_are_the_same_on_every_machine() -> None:
    item = Item("math", "addition", "What is 1 + 2?", "", "3")
    assert item.bucket == 112
    assert item.split == "evaluation"


def test_case_and_white_space_do_not_make_another_question() -> None:
    item = Item("math", "addition", "What is 1 + 2?", "", "3")
    same = dataclasses.replace(item, prompt="what  IS\n1 + 2?", response="other", answer="other")
    assert same.bucket == item.bucket


def test_the_domain_takes_part() -> None:
    item = Item("math", "addition", "What is 1 + 2?", "", "3")
    assert dataclasses.replace(item, domain="code").bucket != item.bucket


@pytest.mark.parametrize("domain", DOMAINS)
def test_splits_have_about_their_shares(domain: str) -> None:
    rng = random.Random(1)
    splits = [DOMAINS[domain](rng).split for _ in range(4000)]
    assert splits.count("evaluation") / 4000 == pytest.approx(0.15, abs=0.03)
    assert splits.count("calibration") / 4000 == pytest.approx(0.05, abs=0.02)


def test_distinct_items_are_distinct() -> None:
    items = draw_distinct(DOMAINS["code"], random.Random(2), "calibration", 60)
    assert len({item.key for item in items}) == 60
    assert {item.split for item in items} == {"calibration"}
