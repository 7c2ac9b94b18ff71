"""Other people's names reach a terminal as words, and keys do not reach it."""

import json

import pytest

from easyep.cli.console import complain, print_json, print_table, print_text, say
from easyep.cli.plain import plain
from easyep.cli.voice import VOICE

HOSTILE = "\x1b]0;title\x07\x1b[2Jgone\r\x9b31m \u202e \ud800 \x7f"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("two\nlines\tand a tab, é 漢", "two\nlines\tand a tab, é 漢"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\rb\x9b", "a\\x0db\\x9b"),
        ("\u202etxt\ud800", "\\u202etxt\\ud800"),
        ("at http://me:word@host", "at http://host"),
    ],
)
def test_control_characters_are_written_out(text: str, told: str) -> None:
    assert plain(text) == told


def test_keys_of_the_environment_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    monkeypatch.setenv("SHORT_TOKEN", "no")
    assert plain("refused: Bearer hf_abcdefgh, no") == "refused: Bearer $HF_TOKEN, no"


@pytest.mark.parametrize(
    ("name", "value", "text", "told"),
    [
        ("OPENAI_API_KEY", "sk-12ab34cd", "key=sk-12ab34cd.", "key=$OPENAI_API_KEY."),
        ("AWS_SECRET_ACCESS_KEY", "/abc+def0", "x/abc+def0", "x$AWS_SECRET_ACCESS_KEY"),
        ("SECRET_KEY_BASE", "0a1b2c3d", "(0a1b2c3d)", "($SECRET_KEY_BASE)"),
        ("DB_PASSWORD", "sunflower", "sunflower, sunflowers", "$DB_PASSWORD, sunflowers"),
        ("HF_TOKEN", "/" + "a0" * 400, "/" + "a0" * 400, "$HF_TOKEN"),
        ("API_KEY", "abcdefghijklmnop", "abcdefghijklmnop", "$API_KEY"),
        # What is no key, or not called one.
        ("HF_TOKEN", "disabled", "it is disabled", "it is disabled"),
        ("STRICT_KEY", "10000000", "10000000 tokens", "10000000 tokens"),
        ("SSH_KEY", "/usr/bin/", "in /usr/bin/ of", "in /usr/bin/ of"),
        ("TOKENIZERS_PARALLELISM", "parallel2", "parallel2", "parallel2"),
        ("KEYBOARD_LAYOUT", "qwerty-12", "qwerty-12", "qwerty-12"),
    ],
)
def test_settings_are_no_keys(
    name: str, value: str, text: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert plain(text) == told


def test_whatever_is_printed(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    VOICE.log_to(str(tmp_path / "log"))
    say(HOSTILE)
    complain(HOSTILE)
    print_text(HOSTILE)
    print_table(HOSTILE, [HOSTILE], [(HOSTILE,)])
    VOICE.reset()
    captured = capsys.readouterr()
    for told in (captured.out, captured.err, (tmp_path / "log").read_text()):
        assert "\\x1b" in told
        assert not set(told) & set("\x1b\x07\r\x9b\u202e\ud800\x7f")


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": HOSTILE})
    told = capsys.readouterr().out
    assert not set(told) & set("\x1b\x9b\u202e\ud800\x7f")
    assert json.loads(told) == {"name": HOSTILE}
