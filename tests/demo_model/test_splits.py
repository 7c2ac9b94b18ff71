"""Training, calibration and evaluation share no question, in the committed files and the stream."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from easyep.demo_model import REPORT, corpus
from easyep.demo_model.batches import STORIES, texts
from easyep.demo_model.domains import DOMAINS
from easyep.demo_model.items import Item

ROOT = Path(__file__).parents[2]
#: More than what fits into the rows of one domain in one batch (4 rows of 128 tokens).
DRAWN_PER_BATCH = 64


def committed(domain: str) -> dict[str, list[Item]]:
    demonstrations = (ROOT / f"calibration_data/demo/{domain}.jsonl").read_text(encoding="utf-8")
    questions = (ROOT / f"eval/data/demo_{domain}.jsonl").read_text(encoding="utf-8")
    return {
        "calibration": [
            Item(
                domain,
                d["kind"],
                d["messages"][0]["content"],
                d["messages"][1]["content"],
                d["answer"],
            )
            for d in map(json.loads, demonstrations.splitlines())
        ],
        "evaluation": [
            Item(domain, d["kind"], d["question"], d["response"], d["answer"])
            for d in map(json.loads, questions.splitlines())
        ],
    }


@pytest.mark.parametrize("domain", DOMAINS)
def test_committed_files_are_what_the_command_writes(domain: str) -> None:
    for name, text in corpus.files(domain).items():
        assert (ROOT / name).read_text(encoding="utf-8") == text


@pytest.mark.parametrize("domain", DOMAINS)
def test_committed_items_hash_into_their_split(domain: str) -> None:
    items = committed(domain)
    assert [len(items[split]) for split in ("calibration", "evaluation")] == [50, 200]
    for split, found in items.items():
        assert {item.split for item in found} == {split}
        assert len({item.key for item in found}) == len(found)


def _trained(domain: str, steps: range) -> set[str]:
    """The keys of all questions that both processes could draw in these steps."""
    keys = set()
    for step, process in itertools.product(steps, range(2)):
        for prompt, _ in itertools.islice(texts(0, process, step, domain), DRAWN_PER_BATCH):
            keys.add(Item(domain, "", prompt, "", "").key)
    return keys


def _assert_disjoint(domain: str, steps: range) -> None:
    trained = _trained(domain, steps)
    for items in committed(domain).values():
        assert trained.isdisjoint(item.key for item in items)


@pytest.mark.parametrize("domain", DOMAINS)
def test_training_sees_no_committed_item(domain: str) -> None:
    _assert_disjoint(domain, range(0, 3600, 120))


@pytest.mark.slow
@pytest.mark.parametrize("domain", DOMAINS)
def test_whole_training_sees_no_committed_item(domain: str) -> None:
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    assert (report["seed"], report["processes"]) == (0, 2)
    _assert_disjoint(domain, range(report["steps"]))


def test_no_story_contains_a_committed_question() -> None:
    told = [story for _, story in itertools.islice(texts(0, 0, 0, STORIES), 200)]
    questions = [item.prompt for domain in DOMAINS for item in committed(domain)["evaluation"]]
    assert not any(question in story for question in questions for story in told)
