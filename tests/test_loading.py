"""Checkpoints that the installed transformers is too old for."""

import json
import logging
from pathlib import Path

import pytest

from easyep import cli, loading
from easyep.checkpoint.files import Checkpoint
from easyep.errors import UnsupportedModelError
from easyep.loading import check_release, load_model, load_tokenizer
from easyep.observation.weights.empty import empty_model
from easyep.recipe import Recipe
from easyep.runners.choosing import choose_runner
from easyep.source import Source
from tests.tiny_models import build

TOO_OLD = r"transformers 5\.19\.0 cannot run mixtral: 5\.20 is the first.*'transformers>=5\.20'"


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose family came later than the transformers that says it is installed."""
    path = build("mixtral", tmp_path / "m")
    monkeypatch.setattr(loading, "first_release", lambda config: ("mixtral", "5.20"))
    monkeypatch.setattr(loading.metadata, "version", lambda name: "5.19.0")
    return path


def test_a_model_is_not_loaded(newer: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=TOO_OLD):
        load_model(newer)
    with pytest.raises(UnsupportedModelError, match=TOO_OLD):
        empty_model(Checkpoint.open(newer), "auto", False)


def test_a_plan_is_refused_before_anything_runs(newer: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=TOO_OLD):
        choose_runner(Recipe(model=str(newer)), Source.open(newer))


def test_a_tokenizer_that_cannot_be_read_may_be_of_a_later_release(newer: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=TOO_OLD):
        load_tokenizer(newer)


def test_the_release_that_has_the_family_is_new_enough(
    newer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading.metadata, "version", lambda name: "5.20.0")
    check_release({"model_type": "mixtral"})


def test_code_that_comes_with_the_model_needs_no_release(newer: Path) -> None:
    config = {"model_type": "mixtral", "auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
    check_release(config, trust_remote_code=True)
    with pytest.raises(UnsupportedModelError, match=TOO_OLD):
        check_release(config)


def test_the_command_line_says_it_in_one_message(
    newer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demos = newer.parent / "demos.jsonl"
    demos.write_text(json.dumps({"input_ids": [5, 6, 7], "response_start": 1}) + "\n")
    words = ["prune", "--model", newer, "--demos", demos, "--keep", "0.5", "--output", "out"]
    with pytest.raises(SystemExit) as ended:
        cli.main(list(map(str, [*words, "--dry-run"])))
    assert ended.value.code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "transformers 5.19.0 cannot run mixtral" in said
    assert "Traceback" not in said


def test_what_libraries_log_is_afterwards_as_before() -> None:
    loggers = [logging.getLogger(name) for name in ("accelerate", "transformers")]
    before = [each.level for each in loggers]
    with loading.quietly():
        assert [each.level for each in loggers] == [logging.ERROR] * 2
    assert [each.level for each in loggers] == before
