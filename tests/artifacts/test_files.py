"""JSON files, read with little memory."""

import json
import os
import threading
import tracemalloc
from pathlib import Path

import pytest

import easyep
from easyep.artifacts import Selection, files
from easyep.errors import ArtifactError
from tests.records import observations


def test_a_short_file_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "short.json"
    path.write_text('{"a": 1}')
    tracemalloc.start()
    try:
        assert files.read_json(path, "artifact") == {"a": 1}
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False)])
def test_the_most_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int, fits: bool
) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 3_000_000)
    path = tmp_path / "long.json"
    path.write_text('{"a": "' + "x" * (3_000_000 - 9 + more) + '"}')
    if fits:
        assert len(files.read_json(path, "artifact")["a"]) == 2_999_991
    else:
        with pytest.raises(ArtifactError, match="more than 3000000 bytes"):
            files.read_json(path, "artifact")


def test_no_key_is_named_twice(tmp_path: Path) -> None:
    """Two lines of one layer in a selection by hand: which was meant is not guessed."""
    path = tmp_path / "selection.json"
    path.write_text('{"layers": {"3": [0, 1], "4": [0, 1], "3": [2, 3]}}')
    with pytest.raises(ArtifactError, match="the key '3' appears twice in one object"):
        files.read_json(path, "selection")


@pytest.mark.timeout(60)
def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match="pipe is not valid JSON"):
        files.read_json(tmp_path / "pipe", "artifact")


def test_a_pipe_that_somebody_writes_to_is_read() -> None:
    """As `--scores <(program)` gives one."""
    reader, writer = os.pipe()
    program = threading.Timer(0.2, lambda: (os.write(writer, b'{"a": 1}'), os.close(writer)))
    program.start()
    try:
        assert files.read_json(f"/dev/fd/{reader}", "artifact") == {"a": 1}
    finally:
        program.join()
        os.close(reader)


def test_one_artifact_in_the_place_of_another_is_recognised(tmp_path: Path) -> None:
    record = observations(experts=8)
    scores = easyep.score(record, "reap")
    selection = easyep.select(scores, 4)
    record.save(tmp_path / "obs")
    scores.save(tmp_path / "scores.json")
    selection.save(tmp_path / "selection.json")
    manifest = {"schema": 1, "source": {}, "selection": selection.to_json(), "checksums": {}}
    (tmp_path / "easyep.json").write_text(json.dumps(manifest))
    for load, own in ((easyep.Scores.load, "scores.json"), (Selection.load, "selection.json")):
        load(tmp_path / own)
        for name, told in (
            ("scores.json", "holds scores"),
            ("selection.json", "holds a selection"),
            ("easyep.json", "holds the manifest of a checkpoint"),
            ("obs/observations.json", "holds the index of observations"),
        ):
            if name != own:
                with pytest.raises(ArtifactError, match=told):
                    load(tmp_path / name)
    with pytest.raises(ArtifactError, match="is a file; `easyep observe` writes a directory"):
        easyep.Observations.load(tmp_path / "scores.json")
