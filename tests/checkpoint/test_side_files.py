"""What is carried over beside the weights, and what is no file to be carried over."""

import os
from pathlib import Path

import pytest

from easyep.checkpoint.side_files import side_files
from easyep.errors import CheckpointError


def test_files_in_folders_come_along_and_others_do_not(tmp_path: Path) -> None:
    for name in ("tokenizer.json", "templates/a.jinja", ".git/HEAD", "onnx/model.onnx", "x.gguf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "lost+found").mkdir(mode=0)
    assert side_files(tmp_path) == ["tokenizer.json", "templates/a.jinja"]


def test_a_link_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "m" / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match=r"notes\.txt"):
        side_files(tmp_path / "m")


def test_a_linked_folder_is_not_passed_over(tmp_path: Path) -> None:
    for name in ("m/inner", "elsewhere", ".git"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "m" / ".git").symlink_to(tmp_path / ".git")
    assert side_files(tmp_path / "m") == []
    (tmp_path / "m" / "inner" / "templates").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="inner/templates is a link to a folder"):
        side_files(tmp_path / "m")


def test_a_folder_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refused(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(CheckpointError, match="closed cannot be read: Permission denied"):
        side_files(tmp_path)
