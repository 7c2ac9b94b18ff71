"""A run that is cut short goes on where it was; the full record and sums give the same scores."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import easyep
from easyep import memory
from easyep.artifacts import Observations
from easyep.artifacts.journal import Journal, journal
from easyep.criteria import CRITERIA
from easyep.errors import ArtifactError, OutputError
from easyep.progress import SILENT
from easyep.records import RecordPlan, plan_records
from easyep.scoring import summable
from easyep.source import Source

CHOICES = {"domain": "math", "n_demos": 5, "mtp": "score", "dtype": "float32"}
SUMMED = [name for name in sorted(CRITERIA) if summable(name)]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "math"
    easyep.observe("demo", output=folder, **CHOICES)
    return folder


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("mode", ["full", "none"])
def test_an_interrupted_run_goes_on(mode, batches, tmp_path, monkeypatch):
    choices = {**CHOICES, "records": mode}
    easyep.observe("demo", output=tmp_path / "undisturbed", **choices)
    add, seen = Journal.add, []

    def add_until_killed(self, demos, parts):
        if len(seen) == batches:
            raise KeyboardInterrupt
        seen.append(list(demos))
        add(self, demos, parts)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", add_until_killed)
        with pytest.raises(KeyboardInterrupt):
            easyep.observe("demo", output=tmp_path / "math", **choices)
    assert not (tmp_path / "math").exists()
    shown: list[int] = []
    monkeypatch.setattr(
        Journal,
        "add",
        lambda self, demos, parts: (shown.append(max(demos)), add(self, demos, parts)),
    )
    easyep.observe("demo", output=tmp_path / "math", **choices)
    assert shown == list(range(batches, 5))  # what was done is not done again
    assert files(tmp_path / "math") == files(tmp_path / "undisturbed")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["math", "undisturbed"]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", np.linspace(4.0, 12.0, 10).tolist())
def test_a_killed_run_goes_on(seconds, whole, tmp_path):
    command = [sys.executable, "-m", "easyep", "observe", "--model", "demo", "--domain", "math"]
    command += ["--n-demos", "5", "--mtp", "score", "--dtype", "float32"]
    command += ["--output", str(tmp_path / "math")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not (tmp_path / "math").exists():
        subprocess.run(command, check=True, capture_output=True)
    assert files(tmp_path / "math") == files(whole)


def test_another_run_has_a_journal_of_its_own(tmp_path):
    with journal(tmp_path / "math", "one") as first:
        first.add([0], {3: {"a": np.ones(2)}})
        with journal(tmp_path / "math", "two") as second:
            assert not second.done
        with (
            pytest.raises(OutputError, match="another run writes the observations"),
            journal(tmp_path / "math", "one"),
        ):
            pass
    with journal(tmp_path / "math", "one") as again:
        assert again.done == {0}
        assert [part["a"].tolist() for part in again.parts(3)] == [[1.0, 1.0]]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OutputError("no room")])
def test_what_stops_a_run_says_what_is_kept(tmp_path, error):
    def stopped(layers):
        with journal(tmp_path / "code", "one") as kept:
            for layer in layers:
                kept.add_layer(layer, {"a": np.ones(2)})
            raise error

    with pytest.raises(type(error)) as first:
        stopped([])
    assert first.value.args == error.args  # there is nothing yet
    with pytest.raises(type(error)) as second:
        stopped([3])
    said = f"what was recorded so far is kept in {tmp_path / '.code.one.part'}: the same command"
    assert said in str(second.value)
    assert str(error) in str(second.value)


def test_a_damaged_part_is_made_again(tmp_path):
    with journal(tmp_path / "math", "key") as kept:
        kept.add([0], {3: {"a": np.ones(2)}})
        kept.add([1], {3: {"a": np.zeros(2)}})
    (part,) = tmp_path.glob(".math.key.part/00000001.safetensors")
    part.write_bytes(part.read_bytes()[:50])
    with journal(tmp_path / "math", "key") as kept:
        assert kept.done == {0}


@pytest.mark.parametrize("layer", [False, True])
def test_one_changed_byte_of_a_part_is_found(tmp_path, layer):
    with journal(tmp_path / "math", "key") as kept:
        if layer:
            kept.add_layer(3, {"a": np.ones(2)})
        else:
            kept.add([0], {3: {"a": np.ones(2)}})
    (part,) = tmp_path.glob(".math.key.part/*.safetensors")
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with journal(tmp_path / "math", "key") as kept:
        assert kept.is_empty()
    assert not part.exists()


def test_a_part_under_another_layers_name_is_no_part(tmp_path):
    with journal(tmp_path / "math", "key") as kept:
        kept.add_layer(3, {"a": np.ones(2)})
    (part,) = tmp_path.glob(".math.key.part/*.safetensors")
    part.rename(part.with_name("layer-00004.safetensors"))
    with journal(tmp_path / "math", "key") as kept:
        assert kept.is_empty()


def test_sums_and_the_full_record_give_the_same_scores(whole, tmp_path):
    easyep.observe("demo", output=tmp_path / "sums", records="none", **CHOICES)
    sums = Observations.load(tmp_path / "sums")
    for tokens in ("all", "response"):
        for name in SUMMED:
            expected = easyep.score(whole, criterion=name, tokens=tokens)
            found = easyep.score(sums, criterion=name, tokens=tokens)
            assert found.observations == expected.observations
            for layer, scores in expected.layers.items():
                np.testing.assert_allclose(found.layers[layer], scores, rtol=1e-13, atol=0)
                assert np.array_equal(found.peaks[layer], expected.peaks[layer])
            same = easyep.select(found, keep=0.5).layers
            assert same == easyep.select(expected, keep=0.5).layers
    size = sum(len(data) for data in files(tmp_path / "sums").values())
    assert size < sum(len(data) for data in files(whole).values())


def test_sums_say_what_they_cannot_do(tmp_path):
    easyep.observe(
        "demo", output=tmp_path / "s", records="none", criteria=["reap", "gating"], **CHOICES
    )
    sums = Observations.load(tmp_path / "s")
    with pytest.raises(ArtifactError, match=r"criteria gating, reap only; .*--criterion easy-ep"):
        easyep.score(sums, criterion="easy-ep")
    with pytest.raises(ArtifactError, match="scored by gating, reap, and nothing else"):
        sums.layers[1]
    with pytest.raises(ArtifactError, match="'hope' needs the full record"):
        easyep.observe("demo", records="none", criteria=["hope"], **CHOICES)


def test_what_fits_is_kept(monkeypatch, tmp_path):
    router = Source.open("demo").router

    def plan(choice: str, room: int) -> RecordPlan:
        monkeypatch.setattr(memory, "available", lambda: room)
        return plan_records(choice, (), tokens=1000, layers=5, router=router, place=None)

    size = 1000 * 5 * (4 * (2 + 4 + 4) + 4 + 4 + 1)
    assert plan("auto", 2 * size).size == size
    assert plan("auto", 2 * size).full
    assert not plan("auto", 2 * size - 2).full
    assert plan("full", 0).full
    assert plan("none", 1 << 50).criteria == tuple(SUMMED)


class Sentences:
    """A progress that remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    task = SILENT.task

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


@pytest.mark.parametrize("mode", ["full", "none"])
def test_what_was_cut_and_what_was_not_reached_is_said(mode):
    heard = Sentences()
    choices = {**CHOICES, "n_demos": 2, "max_length": 9, "records": mode}
    seen = easyep.observe("demo", progress=heard, **choices)
    assert "the full record takes" in heard.said[0]
    assert "2 of 2 demonstrations were too long" in heard.said[1]
    assert f"lost {sum(demo.cut for demo in seen.demos)} tokens" in heard.said[1]
    full = easyep.observe("demo", **{**choices, "records": "full"})
    for layer, experts in seen.unreached().items():
        assert experts == sorted(set(range(32)) - set(full.layers[layer].expert_ids.ravel()))
    count = sum(map(len, seen.unreached().values()))
    assert f"no token reached {count} of 160 experts" in heard.said[2]


def test_the_size_that_was_announced_is_the_size(whole):
    seen = Observations.load(whole)
    tokens = sum(len(record) for record in seen.layers.values())
    arrays = sum(
        array.nbytes for record in seen.layers.values() for array in record.arrays().values()
    )
    assert arrays == tokens * (4 * (2 + 4 + 4) + 4 + 4 + 1)
    source = Source.open("demo")
    layers = len(seen.layers)
    planned = plan_records(
        "full", (), tokens=seen.num_tokens, layers=layers, router=source.router, place=whole
    )
    missing = len(seen.demos)  # the MTP layer does not see the first token of each
    assert planned.size == arrays + missing * (4 * (2 + 4 + 4) + 4 + 4 + 1)
