"""Progress where nobody sees a bar, and tables where there is little room."""

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


CELLS = (
    "3",
    "1.183e+06",
    "0.0256 ± 0.0118",
    "1024+4096",
    "some words that fill space",
    "/a/long/" * 8,
)


@pytest.mark.parametrize("width", [1, 10, 40, 79, 80, 120, 400])
def test_no_cell_of_a_table_is_cut(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    headings = ["layer", "decode tok/s", "KL", "lengths", "what", "path"]
    console.print_table("In a narrow window", headings, [CELLS, CELLS])
    shown = lines_of(capsys)
    assert not any("…" in line for line in shown)
    for number in CELLS[:4]:
        assert sum(number in line for line in shown) == 2, number
    told = "".join(shown).replace("tok/s", "")
    assert [told.count(word) for word in CELLS[4].split()] == [2, 2, 2, 2, 2]
    assert told.count("/") == 2 * CELLS[5].count("/")


def test_a_table_that_has_room_is_as_wide_as_its_cells(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    console.print_table("", ["layer", "share"], [(3, "81.4%"), (4, "9.1%")])
    assert [line.rstrip() for line in lines_of(capsys)] == [
        "",
        "  layer   share",
        " ───────────────",
        "      3   81.4%",
        "      4    9.1%",
        "",
    ]


def lines_of(capsys):
    out, err = capsys.readouterr()
    assert not err
    return out.splitlines()
