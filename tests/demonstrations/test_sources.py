"""Where rows come from, and at which commit."""

import json
from types import SimpleNamespace

import pytest

from easyep import cli
from easyep.demonstrations.sources import Source, local_files
from easyep.errors import DemosError

COMMIT = "0123456789abcdef" * 2 + "01234567"
ON_HUB = "hf://datasets/some/rows/data/*.csv"


@pytest.fixture
def hub(monkeypatch):
    """A hub that knows one commit; what it was asked, and what `datasets` was told to load."""
    asked, loaded = [], []

    def dataset_info(self, repository, revision=None):
        asked.append((repository, revision))
        return SimpleNamespace(sha=COMMIT)

    def load_dataset(name, subset, **options):
        loaded.append({"name": name, **options})
        rows = [{"problem": f"q{i}", "solution": "a", "lang": "c"} for i in range(9)]
        return SimpleNamespace(shuffle=lambda **_: iter(rows))

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    return SimpleNamespace(asked=asked, loaded=loaded)


@pytest.mark.parametrize("revision", [None, "main", "v1.0"])
def test_what_moves_is_pinned_to_what_it_is_now(hub, revision):
    source = Source("some/rows", revision=revision)
    assert source.moving
    pinned = source.pinned()
    assert pinned == Source("some/rows", revision=COMMIT)
    assert not pinned.moving
    assert hub.asked == [("some/rows", revision)]


def test_a_commit_is_taken_at_its_word(hub):
    source = Source("some/rows", revision=COMMIT)
    assert source.pinned() == source
    assert not hub.asked


@pytest.mark.parametrize("written", [ON_HUB, [ON_HUB], ON_HUB.replace("rows/", "rows@old/")])
def test_files_on_the_hub_are_read_at_the_commit(hub, written):
    pinned = Source("csv", data_files=written).pinned()
    assert pinned.repository == "some/rows"
    assert pinned.data_files == [f"hf://datasets/some/rows@{COMMIT}/data/*.csv"]
    list(pinned.rows(0, 10))
    assert hub.loaded[0]["data_files"] == pinned.data_files
    assert hub.loaded[0]["revision"] is None


def test_local_files_have_no_commit(hub, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a\n1\n")
    source = local_files([str(path)])
    assert (source.dataset, source.repository, source.moving) == ("csv", None, False)
    assert source.pinned() == source
    assert not hub.asked


def test_local_files_that_do_not_do(tmp_path):
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "a.txt").write_text("x")
    for names in (["a.csv", "a.json"], ["a.txt"]):
        with pytest.raises(DemosError, match="of one kind"):
            local_files([str(tmp_path / name) for name in names])
    with pytest.raises(DemosError, match="does not exist"):
        local_files([str(tmp_path / "b.csv")])


def run(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        cli.main(["demos", "build", "code", "--count", "2", *map(str, words)])
    return stop.value.code, *capsys.readouterr()


def test_the_command_records_the_commit_and_warns(hub, capsys, tmp_path):
    output = tmp_path / "a.jsonl"
    code, _, told = run(capsys, "--output", output)
    assert code == 0
    assert f"from ise-uiuc/Magicoder-OSS-Instruct-75K at {COMMIT}" in told
    assert "code names no commit" in told
    assert f"--revision {COMMIT}" in told
    assert [json.loads(line)["revision"] for line in output.read_text().splitlines()] == [
        COMMIT
    ] * 2
    assert hub.loaded[0]["revision"] == COMMIT
    _, out, told = run(capsys, "--output", output, "--revision", COMMIT, "--json")
    assert json.loads(out)["revision"] == COMMIT
    assert "no commit" not in told
