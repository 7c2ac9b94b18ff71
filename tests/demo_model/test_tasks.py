"""The lm-eval tasks of the demo: found, consistent, and their filters read the references."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from easyep.demo_model.domains import DOMAINS

ROOT = Path(__file__).parents[2]
TASKS = ROOT / "eval/tasks"


@pytest.mark.parametrize("domain", DOMAINS)
def test_filter_finds_the_answer_in_the_reference_response(domain: str) -> None:
    task = yaml.safe_load((TASKS / f"easyep_demo_{domain}.yaml").read_text(encoding="utf-8"))
    assert task["task"] == f"easyep_demo_{domain}"
    data = task["dataset_kwargs"]["data_files"]["test"]
    (chain,) = task["filter_list"]
    pattern = re.compile(chain["filter"][0]["regex_pattern"])
    lines = (ROOT / data).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 200
    for line in map(json.loads, lines):
        assert pattern.findall(line["response"]) == [line["answer"]]


def test_the_group_names_all_domains() -> None:
    group = yaml.safe_load((TASKS / "easyep_demo.yaml").read_text(encoding="utf-8"))
    assert group["task"] == [f"easyep_demo_{domain}" for domain in DOMAINS]


@pytest.mark.slow
def test_lm_eval_finds_the_tasks() -> None:
    tasks = pytest.importorskip("lm_eval.tasks")
    manager = tasks.TaskManager(include_path=str(TASKS), include_defaults=False)
    assert {f"easyep_demo_{domain}" for domain in DOMAINS} <= set(manager.all_tasks)
    assert "easyep_demo" in manager.all_groups
