"""Tokenizers that would take all memory, or panic, are refused in words."""

import base64
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from easyep.artifacts import Demo
from easyep.cli import app, main
from easyep.demonstrations import render
from easyep.errors import CheckpointError, DemosError
from easyep.loading import load_tokenizer
from easyep.panics import panics_as_errors
from easyep.resources import demo_model
from easyep.tokenizer_files import check_tokenizer_files

NAMES = ("config.json", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "m"
    folder.mkdir()
    for name in NAMES:
        shutil.copyfile(demo_model() / name, folder / name)
    return folder


def changed(model: Path, name: str = "tokenizer.json", **entries: Any) -> Path:
    path = model / name
    told = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**told, **entries}))
    return model


def replacing(length: int) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * length}


def charsmap(text: bytes) -> str:
    return base64.b64encode((8).to_bytes(4, "little") + bytes(8) + text + b"\0").decode()


ENDLESS = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "x", "type_id": 0}}] * 40
    + [{"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [],
    "special_tokens": {"x": {"id": "x", "ids": [0] * 30, "tokens": ["x"] * 30}},
}


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("normalizer", {"type": "Sequence", "normalizers": [replacing(1000)] * 3}),
        ("normalizer", {"type": "Sequence", "normalizers": [replacing(1000)] * 10_000}),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": charsmap(b"a" * 1001)}),
        ("decoder", {"type": "Sequence", "decoders": [replacing(40)] * 2}),
        ("post_processor", TEMPLATE),
        ("post_processor", {"type": "Sequence", "processors": [TEMPLATE]}),
    ],
)
def test_rules_that_blow_up_a_text(model: Path, part: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=f"its {part} can make a text more than 1000 times"):
        load_tokenizer(changed(model, **{part: value}))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("normalizer", {"type": "Sequence", "normalizers": [replacing(3), {"type": "NFC"}]}),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": charsmap(b"a" * 33)}),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": 5}),
        ("normalizer", [1]),
        ("post_processor", {**TEMPLATE, "single": TEMPLATE["single"][-5:]}),
        ("post_processor", {**TEMPLATE, "single": [None, {"SpecialToken": [1]}]}),
        ("decoder", {"type": "Sequence", "decoders": [replacing(1), {"type": "Fuse"}]}),
        ("added_tokens", [None, {"content": 5}]),
    ],
)
def test_other_rules_are_left_to_the_library(model: Path, part: str, value: Any) -> None:
    check_tokenizer_files(changed(model, **{part: value}))


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("tokenizer.json", {"added_tokens": [{"id": 512, "content": "y" * 5_000_001}]}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"5": {"content": "y" * 5_000_001}}}),
        ("added_tokens.json", {"y" * 5_000_001: 512}),
    ],
)
def test_added_tokens_without_an_end(model: Path, name: str, entries: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=f"{name}: its added tokens have 50000"):
        load_tokenizer(changed(model, name, **entries))


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "tokenizer.model"])
def test_files_of_a_size_that_no_tokenizer_has(model: Path, name: str) -> None:
    (model / name).touch()
    os.truncate(model / name, 2**43)
    with pytest.raises(CheckpointError, match=f"{name} has 8796093022208 bytes"):
        load_tokenizer(model)


def test_a_pattern_that_never_ends_is_an_error(model: Path, tmp_path: Path) -> None:
    """The library panics, which is raised past `except Exception`."""
    tokenizer = load_tokenizer(changed(model, pre_tokenizer=ENDLESS))
    text = "a" * 60 + "!"
    with pytest.raises(DemosError, match="fails on this demonstration: .*retry-limit"):
        render(Demo({"text": text}), tokenizer)
    demos = tmp_path / "demos.jsonl"
    demos.write_text(json.dumps({"prompt": text, "response": "b"}))
    found = CliRunner().invoke(app, ["demos", "show", str(demos), "--model", str(model)])
    assert isinstance(found.exception, DemosError)


def test_only_panics_become_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    with pytest.raises(RuntimeError, match="a library failed within: x"), panics_as_errors():
        raise PanicException("x")
    with pytest.raises(KeyboardInterrupt), panics_as_errors():
        raise KeyboardInterrupt


def test_a_panic_that_nobody_expects_ends_the_command_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class PanicException(BaseException):
        pass

    def panics(*arguments: Any, **options: Any) -> None:
        raise PanicException("deep inside")

    monkeypatch.setattr(app, "main", panics)
    with pytest.raises(SystemExit) as ended:
        main(["list", "models"])
    assert ended.value.code == 1
    assert "a library failed within: deep inside" in capsys.readouterr().err
