"""Whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from easyep.atomic import appearing, check_absent, check_file, write_bytes, writing
from easyep.errors import OutputError


def test_a_folder_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "a" / "b"
    with appearing(check_absent(target)) as folder:
        (folder / "file").write_text("x")
        assert not target.exists()
    assert (target / "file").read_text() == "x"
    assert [p.name for p in target.parent.iterdir()] == ["b"]


def test_an_error_leaves_nothing(tmp_path):
    def fail():
        with appearing(tmp_path / "a" / "b") as folder:
            (folder / "file").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list(tmp_path.iterdir())


def test_errors_of_the_block_pass_as_they_are(tmp_path):
    def read():
        with appearing(tmp_path / "out"):
            (tmp_path / "nothing").read_text()

    with pytest.raises(FileNotFoundError, match="nothing"):
        read()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", ["mkdir", "chmod", "rename"])
def test_own_errors_name_the_target(tmp_path, monkeypatch, step):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    def write():
        with appearing(tmp_path / "a" / "b") as folder:
            (folder / "file").write_text("x")

    monkeypatch.setattr(Path, step, refuse)
    with pytest.raises(OutputError, match="cannot write .*/a/b: No space left"):
        write()
    assert not list(tmp_path.iterdir())


def test_writing_tells_what_could_not_be_written(tmp_path):
    with pytest.raises(OutputError, match="cannot write out: Is a directory"), writing(Path("out")):
        tmp_path.write_text("x")


def test_a_killed_process_leaves_no_target(tmp_path):
    program = (
        "import os, pathlib, sys; from easyep.atomic import appearing\n"
        "with appearing(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'file').write_text('x'); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "out"], check=False)
    assert done.returncode == 9
    assert not (tmp_path / "out").exists()


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_bytes(path, b"half")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_folders_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(OutputError, match="no permission"):
        check_absent(tmp_path / "out")


def test_files_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    check_file(tmp_path / "file")
    check_file(tmp_path / "new" / "file")
    with pytest.raises(OutputError, match="is a directory"):
        check_file(tmp_path)
    with pytest.raises(OutputError, match="file is not a directory"):
        check_file(tmp_path / "file" / "x")


@pytest.mark.parametrize("check", [check_file, check_absent])
def test_names_that_the_system_refuses(tmp_path, check):
    with pytest.raises(OutputError, match="File name too long"):
        check(tmp_path / ("x" * 300))
    with pytest.raises(OutputError, match="File name too long"):
        check(tmp_path / ("x" * 300) / "file")


def test_links_that_go_round_in_circles(tmp_path):
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    with pytest.raises(OutputError, match="is a link"):
        check_absent(tmp_path / "one")
    check_file(tmp_path / "one")
    write_bytes(tmp_path / "one", b"in the link's place")
    assert (tmp_path / "two").read_bytes() == b"in the link's place"


def test_the_home_folder_is_meant_where_it_is_said(tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    check_file("~/file")
    write_bytes("~/file", b"x")
    assert check_absent("~/out") == home / "out"
    assert [p.name for p in home.iterdir()] == ["file"]
    # A name that begins so is a name.
    check_file("~draft")
    write_bytes("~draft", b"x")
    assert check_absent("~pruned") == here / "~pruned"
    assert [p.name for p in here.iterdir()] == ["~draft"]


def test_folders_that_another_run_makes_at_the_same_time(tmp_path, monkeypatch):
    target = tmp_path / "models" / "a"
    target.parent.mkdir()
    monkeypatch.setattr(Path, "exists", lambda path: False)  # it was not there a moment ago
    with appearing(target) as folder:
        (folder / "file").write_text("x")
    assert (target / "file").read_text() == "x"


def test_names_that_are_taken(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    for name, message in (("file", "not a dir"), ("link", "is a link"), ("full", "not empty")):
        with pytest.raises(OutputError, match=message):
            check_absent(tmp_path / name)
    (tmp_path / "empty").mkdir()
    assert check_absent(tmp_path / "empty") == (tmp_path / "empty").resolve()


@pytest.mark.parametrize("link", [False, True])
def test_a_device_or_pipe_is_not_replaced(tmp_path, link):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    if link:
        (tmp_path / "link").symlink_to(pipe)
    path = tmp_path / ("link" if link else "pipe")
    for write in (check_file, lambda path: write_bytes(path, b"x")):
        with pytest.raises(OutputError, match="is no regular file, and would be replaced"):
            write(path)
    assert pipe.is_fifo()
    assert sorted(each.name for each in tmp_path.iterdir()) == (
        ["link", "pipe"] if link else ["pipe"]
    )
