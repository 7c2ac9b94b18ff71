"""Tasks of easyep's own, and what is left to lm-eval."""

from pathlib import Path

from easyep.evaluation.tasks import find, local_tasks


def test_groups_become_their_tasks():
    own, others = find(["easyep_demo", "gsm8k"])
    assert [task["task"] for task in own] == [
        f"easyep_demo_{name}" for name in ("math", "code", "facts", "strings", "lexicon", "tools")
    ]
    assert others == ["gsm8k"]
    assert "easyep_demo_math" in local_tasks()


def test_definitions_are_whole_and_their_data_exist():
    (task,), _ = find(["easyep_demo_math"])
    assert task["output_type"] == "generate_until"
    assert "include" not in task
    for file in task["dataset_kwargs"]["data_files"].values():
        assert Path(file).is_absolute()
        assert Path(file).exists()
