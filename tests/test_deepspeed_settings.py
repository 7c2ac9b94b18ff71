"""Files with settings for DeepSpeed: what they may say, and what is refused in time."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from easyep.cli import app
from easyep.deepspeed_settings import read_deepspeed_settings
from easyep.errors import ArtifactError
from easyep.recipe import Recipe
from easyep.runners.choosing import choose_runner
from easyep.source import Source

NVME = {"zero_optimization": {"offload_param": {"device": "nvme", "nvme_path": "/nowhere"}}}


def test_settings_are_those_of_the_file(tmp_path: Path) -> None:
    assert read_deepspeed_settings(None) == {}
    file = tmp_path / "ds.json"
    nvme = {"device": "nvme", "nvme_path": str(tmp_path)}
    for offload in ({"device": "cpu", "pin_memory": True}, nvme, {"device": "none"}, {}, None):
        settings = {"zero_optimization": {"stage": 3, "offload_param": offload}, "wall": 1}
        file.write_text(json.dumps(settings))
        assert read_deepspeed_settings(str(file)) == settings


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"zero_optimization": 3}',
        '{"zero_optimization": {"stage": 2}}',
        '{"zero_optimization": {"offload_param": "cpu"}}',
        '{"zero_optimization": {"offload_param": {"device": "cup"}}}',
        '{"zero_optimization": {"offload_param": {"device": ["cpu"]}}}',
        '{"zero_optimization": {"offload_param": {"device": "nvme"}}}',
        '{"zero_optimization": {"offload_param": {"device": "nvme", "nvme_path": ["/"]}}}',
    ],
)
def test_other_settings_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "ds.json"
    file.write_text(text)
    with pytest.raises(ArtifactError, match=r"ds\.json"):
        read_deepspeed_settings(str(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none\.json cannot be read"):
        read_deepspeed_settings(str(tmp_path / "none.json"))


def test_a_missing_folder_is_told_before_anything_is_read(tmp_path: Path) -> None:
    file = tmp_path / "ds.json"
    file.write_text(json.dumps(NVME))
    recipe = Recipe(model="demo", runner="deepspeed", deepspeed_config=str(file))
    with pytest.raises(ArtifactError, match="nvme_path must name a folder that is there"):
        choose_runner(recipe, Source.open("demo"))
    command = ["observe", "--model", "no-such-model", "--domain", "math", "--runner", "deepspeed"]
    command += ["--deepspeed-config", str(file), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "a folder that is there, not '/nowhere'" in " ".join(result.stderr.split())
