"""Progress where nobody sees a bar."""

import pytest

from easyep.cli import console


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def lines(capsys):
    out, err = capsys.readouterr()
    assert not out
    return err.splitlines()


def test_a_log_gets_a_line_now_and_then(capsys, clock):
    with (
        console.progress_bars() as progress,
        progress.task("Streaming math", 400, "tokens") as task,
    ):
        task.advance(40)
        assert lines(capsys) == []
        clock[0] += 60
        task.advance(60)
        assert lines(capsys) == ["Streaming math: 25% of 400 tokens, 3 min left"]
        task.note("layer 2, 1.2 GB/s")
        clock[0] += 29
        task.advance(100)
        assert lines(capsys) == []
        clock[0] += 1
        task.advance(0)
        assert lines(capsys) == ["Streaming math: 50% of 400 tokens, layer 2, 1.2 GB/s, 2 min left"]


def test_bytes_are_said_as_such(capsys, clock):
    with console.progress_bars() as progress, progress.task("Writing", 8_000_000, "bytes") as task:
        clock[0] += 31
        task.advance(2_000_000)
    assert lines(capsys) == ["Writing: 25% of 8.0 MB, 2 min left"]


def test_quiet_is_silent(capsys, clock):
    with console.progress_bars(quiet=True) as progress, progress.task("a", 2, "layers") as task:
        clock[0] += 100
        task.advance(1)
    assert lines(capsys) == []
