"""JSONL files, good and bad."""

import json
import os

import pytest

from easyep.artifacts import Demo
from easyep.demonstrations import read, reading
from easyep.errors import DemosError

GOOD = [
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    {"prompt": "a", "response": "b", "topic": "c"},
    {"text": "abc"},
    {"input_ids": [1, 2, 3], "response_start": 1},
    {"input_ids": [1, 2, 3]},
]


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_four_forms(tmp_path):
    demos = read(write(tmp_path / "d.jsonl", *map(json.dumps, GOOD), ""))
    assert [dict(demo.content) | dict(demo.metadata) for demo in demos] == GOOD
    assert demos[1].metadata == {"topic": "c"}


def test_keys_of_other_forms_are_metadata(tmp_path):
    line = {"text": "c", "prompt": "a", "messages": GOOD[0]["messages"], "response_start": 1}
    (demo,) = read(write(tmp_path / "d.jsonl", json.dumps(line)))
    assert demo.content == {"messages": GOOD[0]["messages"]}
    assert demo.metadata == {"text": "c", "prompt": "a", "response_start": 1}
    assert demo.origin.endswith("d.jsonl, line 1")


def test_a_byte_order_mark_is_no_content(tmp_path):
    (tmp_path / "d.jsonl").write_text(json.dumps(GOOD[2]), encoding="utf-8-sig")
    assert read(tmp_path / "d.jsonl")[0].content == GOOD[2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"text": "a", "text": "b"}', "not valid JSON: the key 'text' appears twice"),
        ("[]", "expected a JSON object"),
        ("{}", "none of the forms"),
        ('{"prompt": "a"}', "none of the forms"),
        ('{"prompt": "a", "response": 3}', "'response' must be a string"),
        ('{"messages": "a"}', "must be a list"),
        ('{"messages": ["a"]}', "message 1"),
        ('{"messages": [{"role": "user"}]}', r"message 1 \(user\) has no 'content'"),
        ('{"messages": []}', "is empty"),
        ('{"text": ""}', "is empty"),
        ('{"text": "\\ud800"}', "not valid Unicode"),
        ('{"input_ids": [1, -2]}', "non-negative"),
        ('{"input_ids": [1, true]}', "non-negative"),
        ('{"input_ids": [1, 2], "response_start": 3}', "from 0 to 2"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = write(tmp_path / "d.jsonl", json.dumps(GOOD[0]), "", line)
    with pytest.raises(DemosError, match=rf"d\.jsonl, line 3: .*{message}"):
        read(path)


def test_files_that_hold_nothing(tmp_path):
    with pytest.raises(DemosError, match="does not exist"):
        read(tmp_path / "d.jsonl")
    with pytest.raises(DemosError, match="is empty"):
        read(write(tmp_path / "d.jsonl", ""))
    (tmp_path / "d.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DemosError, match="cannot be read"):
        read(tmp_path / "d.jsonl")
    with pytest.raises(DemosError, match="cannot be read"):
        read(tmp_path)


def test_text_parts_are_joined():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "c"}]
    assert Demo.from_json({"messages": turns}).content["messages"][0]["content"] == "ab"
    for content in (5, [{"type": "image_url", "image_url": "x"}], {"text": "a"}):
        with pytest.raises(DemosError, match="'content' of message 1 must be text"):
            Demo.from_json({"messages": [{"role": "user", "content": content}]})


@pytest.mark.timeout(60)
def test_pipes_and_lines_without_an_end(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DemosError, match="pipe is empty"):
        read(tmp_path / "pipe")
    monkeypatch.setattr(reading, "LONGEST_LINE", 1000)
    with pytest.raises(DemosError, match="/dev/zero, line 1 has more than 1000 characters"):
        read("/dev/zero")
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"text": "a" * 500}) + "\n" + json.dumps({"text": "a" * 1000}))
    with pytest.raises(DemosError, match="line 2 has more than 1000 characters"):
        read(path)
