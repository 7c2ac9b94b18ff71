"""Several processes record what one does, and end together."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import easyep
from easyep import calibration, cli, distributed
from easyep.artifacts.journal import Journal
from easyep.distributed import ALONE, join, tell_failure, until_heard
from easyep.errors import NotFirstRankError, ObservationError, PeerError
from easyep.launcher import Rank, rank
from easyep.source import Source
from tests.ranks import run_ranks

CHOICES = {"domain": "math", "n_demos": 5, "dtype": "float32", "device": "cpu"}
CHOICES |= {"runner": "memory", "mtp": "score"}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("records", "dtype"), [("full", "float32"), ("none", "float32"), ("full", "bfloat16")]
)
def test_two_processes_record_what_one_does(tmp_path: Path, records: str, dtype: str) -> None:
    choices = {**CHOICES, "records": records, "dtype": dtype}
    easyep.observe("demo", output=tmp_path / "one", **choices)

    def observe(number: int) -> None:
        easyep.observe("demo", output=tmp_path / "two", **choices)

    first, second = run_ranks(2, observe)  # 5 demonstrations: the last step has one for both
    assert first is None
    assert isinstance(second, NotFirstRankError)
    assert "rank 1 of 2" in str(second)
    assert files(tmp_path / "two") == files(tmp_path / "one")


@pytest.mark.parametrize("records", ["full", "none"])
def test_a_run_goes_on_with_fewer_processes(
    tmp_path: Path, records: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = {**CHOICES, "n_demos": 6, "records": records}
    easyep.observe("demo", output=tmp_path / "one", **choices)
    add, shown = Journal.add, []

    def observe(most: int) -> None:
        def add_until_killed(self: Journal, demos: Sequence[int], parts: object) -> None:
            if len(shown) == most:
                os._exit(1)
            shown.append(list(demos))
            add(self, demos, parts)  # type: ignore[arg-type]

        monkeypatch.setattr(Journal, "add", add_until_killed)
        easyep.observe("demo", output=tmp_path / "cut", peer_timeout=20, **choices)

    assert run_ranks(3, lambda number: observe(4))[0] is None  # killed within the second step
    assert not (tmp_path / "cut").exists()
    monkeypatch.setattr(Journal, "add", add)
    assert run_ranks(2, lambda number: observe(2))[0] is None  # two were left
    assert files(tmp_path / "cut") == files(tmp_path / "one")


def test_what_is_saved_is_not_run_again(tmp_path: Path) -> None:
    def observe(number: int) -> int:
        recipe = easyep.Recipe(model="demo", **CHOICES)
        source = Source.open("demo")
        return len(calibration.calibrate(recipe, source, work_dir=tmp_path))

    assert observe(0) == 1
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    found = run_ranks(2, observe)
    assert found[0] == 1
    assert isinstance(found[1], NotFirstRankError)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_values_come_by_rank_and_to_the_first_only() -> None:
    def work(number: int) -> object:
        group = join(30)
        agreed = group.agree(f"said by {number}")
        return agreed, list(group.collect(number * 10, 3)), list(group.collect(number, 2))

    said = "said by 0"
    assert run_ranks(3, work) == [
        (said, [0, 10, 20], [0, 1]),
        (said, [], []),
        (said, [], []),
    ]


def test_one_process_alone_waits_for_nobody() -> None:
    assert ALONE.agree(3) == 3
    assert list(ALONE.collect("own", 1)) == ["own"]
    ALONE.leave_the_rest_to_the_first()
    assert tell_failure("why") == "why"


def meet_unless(number: int, troubled: int, trouble: str) -> list[object]:
    group = join(2)
    group.agree(None)
    try:
        if number == troubled:
            if trouble == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if trouble == "hang":
                time.sleep(12)
                os._exit(0)
            raise ValueError("no more paper")
        list(group.collect(None, 3))
    except PeerError as error:
        found = ["peer", str(error), tell_failure(str(error))]
    except ValueError as error:
        found = ["own", str(error), tell_failure(str(error))]
    else:
        return ["nothing happened"]
    until_heard()
    return found


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_failure_ends_all_and_only_its_own_process_says_why(failing: int) -> None:
    found = run_ranks(3, lambda number: meet_unless(number, failing, "raise"))
    for number, (kind, message, said) in enumerate(found):
        if number == failing:
            assert (kind, message) == ("own", "no more paper")
            assert said.startswith(f"rank {failing} of 3 on ")
            assert said.endswith(": no more paper")
        else:
            assert kind == "peer"
            assert f"rank {failing} of 3" in message
            assert "no more paper" in message
            assert said is None


@pytest.mark.parametrize("trouble", ["kill", "hang"])
def test_a_lost_process_ends_all_and_is_named(trouble: str) -> None:
    first, lost, other = run_ranks(3, lambda number: meet_unless(number, 1, trouble))
    assert lost is None
    assert first[0] == other[0] == "peer"
    assert "rank 1 on " in first[1]
    assert "did not finish its demonstrations" in first[1]
    assert first[2].startswith("rank 0 of 3 on ")
    assert first[1] in other[1]
    assert other[2] is None


def test_what_fails_in_all_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").touch()
    monkeypatch.setattr(distributed, "_HEARING", 1)

    def after_a_signal(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: str) -> Any:
            os.kill(os.getpid(), signal.SIGTERM)  # as launchers do when another has failed
            return work(*arguments)

        return run

    def observe(number: int) -> None:
        if number == 0:
            monkeypatch.setattr(cli, "tell_failure", after_a_signal(tell_failure))
            monkeypatch.setattr(cli, "until_heard", after_a_signal(until_heard))
        cli.main(["observe", "--model", "demo", "--domain", "math", "--output", str(tmp_path)])

    assert run_ranks(2, observe) == [None, None]  # ended without a word to Python
    said = capfd.readouterr().err
    assert said.count("easyep: error: rank ") == 1, said
    assert said.count("exists and is not empty") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize("told", [False, True])
def test_the_first_speaks_where_who_was_killed_cannot(
    told: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def terminated(*arguments: object, **choices: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)  # as launchers do when another has failed
        time.sleep(5)

    def observe(number: int) -> None:
        group = join(30)
        if number == 1 and told:
            tell_failure("no more paper")
        group.meet("come")
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        monkeypatch.setattr(cli.app, "main", terminated)
        cli.main(["observe"])

    first, killed = run_ranks(2, observe)
    assert (first.code, killed) == (128 + signal.SIGTERM, None)
    said = capfd.readouterr().err
    assert said.count("ended by the launcher, and no process has said why") == (not told)


def test_weights_that_another_process_had() -> None:
    def work(number: int) -> object:
        group = join(30)
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        with group.computing():
            dist.all_reduce(torch.ones(1))

    first, _ = run_ranks(2, work)
    assert isinstance(first, PeerError)
    assert "rank 1 on " in str(first)
    assert "did not hand over its weights: it was killed" in str(first)
    with pytest.raises(RuntimeError, match="can't allocate"), ALONE.computing():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


def test_a_process_that_waits_for_weights_hears_why_the_first_fails(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail_or_wait(*arguments: object, **choices: object) -> None:
        group = join(30)
        group.meet("come")
        with group.computing():
            if rank().first:
                raise MemoryError("no room")
            dist.all_reduce(torch.ones(1))

    def observe(number: int) -> None:
        monkeypatch.setattr(cli.app, "main", fail_or_wait)
        cli.main(["observe"])

    run_ranks(3, observe)
    said = capfd.readouterr().err
    assert said.count("easyep: error:") == 1, said
    assert "rank 0 of 3 on " in said
    assert "memory ran out (no room)" in said


@pytest.mark.parametrize("how", ["meets", "ended"])
def test_rank_1_speaks_for_a_killed_rank_0(
    how: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def wait_for_the_first(*arguments: object, **choices: object) -> None:
        if how == "meets":
            join(30).meet("come")
        else:
            time.sleep(1)
            os.kill(os.getpid(), signal.SIGTERM)  # as DeepSpeed's launcher does
            time.sleep(5)

    def observe(number: int) -> None:
        join(30).meet("come")
        if number == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        monkeypatch.setattr(cli.app, "main", wait_for_the_first)
        cli.main(["observe"])

    run_ranks(3, observe)
    said = capfd.readouterr().err
    assert said.count("easyep: error:") == 1, said
    assert "rank 1 of 3 on " in said
    assert "rank 0 has ended before its time" in said


def test_a_launcher_that_contradicts_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rank() == Rank()
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_SIZE", "2")
    assert rank() == Rank(3, 4, 1, 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ObservationError, match="contradict each other"):
        rank()
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ObservationError, match="contradict each other"):
        rank()


def test_peers_that_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_TELLING", 1)

    def work(number: int) -> object:
        return number and join(1)

    assert "did not meet the other processes at 127.0.0.1" in str(run_ranks(2, work)[1])
