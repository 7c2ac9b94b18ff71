"""Do the tests notice when the code is wrong? Mutation testing of four rooms.

    python benchmarks/mutation.py criteria
    python benchmarks/mutation.py rewriting --minutes 4     # goes on where the last run stopped
    python benchmarks/mutation.py rewriting --again         # only those that survived
    python benchmarks/mutation.py rewriting --sample 1-100  # a hundred of them in a random order

Each change of `mutants.py` is made in a process of its own, which runs the tests that reach the
changed line, first those of the file's own tests, then the fastest, until one fails. A change that
none notices survives: a test is missing, or the change makes no difference (survivors.yaml says
why). Exits with 1 where one is not explained. Results are kept in build/mutation, one line of JSON
for each change.
"""

import argparse
import gc
import hashlib
import importlib
import json
import os
import re
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import coverage
import pytest
import yaml
from _pytest.runner import runtestprotocol
from mutants import Mutant, mutants
from rooms import ROOT, SOURCES, TESTS, sources

FOLDER = ROOT / "build" / "mutation"

# A test that takes longer is left out, and no mutant has more seconds of tests than this; one that
# survives, and is not explained, has so many times more.
LONGEST_TEST = 3.0
MOST_TESTS = 8.0
MORE = 5

# What tests share, each process makes for itself, in no more seconds than this.
SETTING_UP = 12.0

OUTCOMES = KILLED, TIMED_OUT, SURVIVED, UNREACHED = "killed", "timed out", "survived", "unreached"
UNNOTICED = (SURVIVED, UNREACHED)

# Changes that make no difference, or none that a test should see: the key of each, and why.
EXPLAINED = ROOT / "benchmarks" / "survivors.yaml"


@dataclass
class Survey:
    """What the tests do with the right code.

    Attributes:
        seconds: of a processor, for each test.
        reached: ``FILE:LINE`` -> the tests that reach it.
        modules: what they had imported at the end.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    reached: dict[str, list[str]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)


class Mutating:
    """A plugin of pytest that runs the tests once for each mutant instead of once."""

    def __init__(self, room: str, given: argparse.Namespace) -> None:
        self.room = room
        self.given = given
        self.file = FOLDER / f"{room}.jsonl"
        self.explained = explained()

    def pytest_configure(self, config: pytest.Config) -> None:
        from hypothesis import HealthCheck, Phase, settings

        # A failure is enough, its smallest form is not asked for; each mutant sees the same cases.
        settings.register_profile(
            "mutation",
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
            deadline=None,
            database=None,
            derandomize=True,
        )
        settings.load_profile("mutation")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        end = time.monotonic() + self.given.minutes * 60
        survey = self._survey(session)
        _import(survey.modules)
        if self.given.afresh:
            self.file.unlink(missing_ok=True)
        known = results(self.file)
        left = []
        for mutant in chosen(self.room, self.given):
            outcome = known.get((mutant.key, mutant.source), {}).get("outcome")
            if not outcome or (self.given.again and outcome in UNNOTICED):
                left.append(mutant)
        functions = _functions()
        begun_by = os.getpid()

        def tried(job: int) -> None:
            # Each process empties the folder of its tests when it begins.
            session.config._tmp_path_factory._given_basetemp = FOLDER / f"{self.room}-tmp{job}"
            with open(self.file, "a") as file:
                for mutant in left[job :: self.given.jobs]:
                    if os.getppid() != begun_by:
                        break
                    if time.monotonic() > end:
                        print("time is up; the same command goes on", file=sys.stderr)
                        break
                    begin = time.monotonic()
                    told = self._try(session, mutant, survey, functions, more=1)
                    if told["outcome"] in UNNOTICED and mutant.key not in self.explained:
                        told = self._try(session, mutant, survey, functions, more=MORE)
                    told["seconds"] = round(time.monotonic() - begin, 2)
                    about = {"key": mutant.key, "source": mutant.source, "line": mutant.line}
                    file.write(json.dumps({**about, **told}) + "\n")
                    file.flush()

        with ThreadPoolExecutor(self.given.jobs) as pool:
            ended = list(
                pool.map(lambda job: _in_child(lambda: tried(job)), range(self.given.jobs))
            )
        if any(ended):
            raise pytest.UsageError("a process that tries mutants failed")
        return True

    def _survey(self, session: pytest.Session) -> Survey:
        """Run the tests once, in a process of its own, so that no fixture outlives it."""
        saved = FOLDER / f"{self.room}-survey.json"
        if not self.given.keep_survey:
            saved.unlink(missing_ok=True)
        known = Survey(**json.loads(saved.read_text())) if saved.exists() else Survey()
        if new := [each for each in session.items if each.nodeid not in known.seconds]:
            print(f"running {len(new)} tests as they are", file=sys.stderr)
            if _in_child(lambda: saved.write_text(json.dumps(vars(self._surveyed(new, known))))):
                raise pytest.UsageError("the tests fail as they are")
        return Survey(**json.loads(saved.read_text()))

    def _surveyed(self, items: list[pytest.Item], survey: Survey) -> Survey:
        included = [str(ROOT / each) for each in SOURCES[self.room]]
        measured = coverage.Coverage(data_file=None, include=included)
        measured.start()
        for item, following in _in_turn(items):
            measured.switch_context(item.nodeid)
            begin = time.process_time()
            if wrong := _failure(item, following):
                raise AssertionError(f"{item.nodeid} fails without a change: {wrong}")
            survey.seconds[item.nodeid] = time.process_time() - begin
        measured.stop()
        survey.modules = list(sys.modules)
        data = measured.get_data()
        for path in data.measured_files():
            for line, tests in data.contexts_by_lineno(path).items():
                before = survey.reached.get(f"{path}:{line}", [])
                survey.reached[f"{path}:{line}"] = sorted({*before, *tests} - {""})
        return survey

    def _try(
        self,
        session: pytest.Session,
        mutant: Mutant,
        survey: Survey,
        functions: Mapping[tuple[str, str], list[FunctionType]],
        *,
        more: int,
    ) -> dict[str, Any]:
        reaching: set[str] = set()
        for line in range(mutant.lines[0], mutant.lines[1] + 1):
            reaching |= set(survey.reached.get(f"{ROOT / mutant.path}:{line}", ()))
        few, total = [], 0.0

        def rank(item: pytest.Item) -> tuple[bool, float]:
            mirrors = item.path.stem == f"test_{mutant.path.stem}"
            return not mirrors, survey.seconds.get(item.nodeid, 1e9)

        for item in sorted(session.items, key=rank):
            seconds = survey.seconds.get(item.nodeid, 1e9)
            allowed = seconds < more * LONGEST_TEST and total < more * MOST_TESTS
            if item.nodeid in reaching and allowed:
                few.append(item)
                total += seconds
        if not few:
            return {"outcome": UNREACHED, "tests": 0}

        changed = functions[str(ROOT / mutant.path), mutant.function]

        def noticed() -> None:
            _become(mutant, changed, allowed=SETTING_UP + 2 * total)
            if any(_failure(item, following) for item, following in _in_turn(few)):
                os._exit(1)

        status = _in_child(noticed, patience=30 + 8 * total)
        if os.WIFSIGNALED(status):
            slow = os.WTERMSIG(status) in (signal.SIGALRM, signal.SIGPROF)
            return {"outcome": TIMED_OUT if slow else KILLED, "tests": len(few)}
        return {"outcome": KILLED if os.WEXITSTATUS(status) else SURVIVED, "tests": len(few)}


def _in_child(work: Callable[[], object], patience: float = float("inf")) -> int:
    """Do `work` in a process of its own and end what it started; the status it ended with.

    After `patience` seconds it gets SIGALRM. They are counted here rather than by a clock, so that
    time for which both were stopped does not count.
    """
    if child := os.fork():
        waited = 0.0
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            time.sleep(0.01)
            waited += 0.01
            if waited > patience:
                os.kill(child, signal.SIGALRM)
                patience = float("inf")
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        return ended[1]
    os.setsid()
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _become(mutant: Mutant, changed: list[FunctionType], allowed: float) -> None:
    """Make this process one in which `mutant` is the code."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, allowed)  # on a processor, not for ever
    for module in [each for name, each in sys.modules.items() if name.startswith("easyep")]:
        for thing in vars(module).values():
            if hasattr(thing, "cache_clear"):
                thing.cache_clear()
    for function in changed:
        function.__code__ = mutant.code


def _import(modules: list[str]) -> None:
    """Import once what else every process would import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in modules:
            if name not in sys.modules and name.startswith(("easyep.", "torch", "transformers")):
                with suppress(Exception):
                    importlib.import_module(name)


def _functions() -> dict[tuple[str, str], list[FunctionType]]:
    """Every function that there is, by its file and name; however it is wrapped."""
    found: dict[tuple[str, str], list[FunctionType]] = {}
    for each in gc.get_objects():
        if type(each) is FunctionType:  # isinstance would wake what only warns that it is old
            code = each.__code__
            found.setdefault((code.co_filename, code.co_qualname), []).append(each)
    return found


def _in_turn(items: list[pytest.Item]) -> list[tuple[pytest.Item, pytest.Item | None]]:
    return list(zip(items, [*items[1:], None], strict=True))


def _failure(item: pytest.Item, following: pytest.Item | None) -> str:
    """What a test has to complain of; empty where it passes."""
    reports = runtestprotocol(item, log=False, nextitem=following)
    return next((each.longreprtext for each in reports if each.failed), "")


def chosen(room: str, given: argparse.Namespace) -> list[Mutant]:
    """The room's mutants that are asked for.

    In a sample they stand in an order that only the seed and the words of each decide, so that
    most of a sample stays as it is when code is edited.
    """
    every = [mutant for path in sources(room) for mutant in mutants(path)]
    if given.sample:
        first, last = given.sample
        every.sort(key=lambda each: hashlib.sha256(f"{given.seed} {each.key}".encode()).digest())
        every = every[first - 1 : last]
    return [mutant for mutant in every if given.only in mutant.key]


def positions(text: str) -> tuple[int, int]:
    """``101-200`` as numbers."""
    if not (found := re.fullmatch(r"([1-9]\d*)-([1-9]\d*)", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 101-200")
    return int(found[1]), int(found[2])


def results(file: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Key and source of a mutant -> what is known of it; a later line stands for an earlier one."""
    lines = file.read_text().splitlines() if file.exists() else []
    return {(each["key"], each["source"]): each for each in map(json.loads, lines)}


def explained() -> dict[str, str]:
    """Key of a mutant -> why no test should notice it."""
    found: dict[str, str] = yaml.safe_load(EXPLAINED.read_text())
    return found


def summary(room: str, given: argparse.Namespace) -> bool:
    """Print what the tests noticed and what not; whether all of that is explained."""
    reasons = explained()
    known = results(FOLDER / f"{room}.jsonl")
    wanted = chosen(room, given)
    outcomes = {
        each.key: known[each.key, each.source]["outcome"]
        for each in wanted
        if (each.key, each.source) in known
    }
    counts = Counter(outcomes.values())
    unnoticed = [
        each for each in wanted if outcomes.get(each.key) in UNNOTICED and each.key not in reasons
    ]
    for each in unnoticed:
        print(f"{each.path}:{each.line} [{outcomes[each.key]}] {each.key}")
    told = ", ".join(f"{counts[each]} {each}" for each in OUTCOMES)
    print(
        f"{room}: {len(wanted)} mutants, {counts.total()} tried: {told}; "
        f"{len(unnoticed)} unexplained"
    )
    return not unnoticed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("room", choices=sorted(SOURCES))
    parser.add_argument("--jobs", type=int, default=1, help="mutants tried at a time")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so many")
    parser.add_argument("--only", default="", help="mutants whose name contains this")
    parser.add_argument("--sample", type=positions, help="from which to which, in a random order")
    parser.add_argument("--seed", type=int, default=1, help="of that order")
    parser.add_argument("--again", action="store_true", help="try those that survived again")
    parser.add_argument("--afresh", action="store_true", help="forget earlier results")
    parser.add_argument("--keep-survey", action="store_true", help="run only new tests before")
    parser.add_argument("--summary", action="store_true", help="only say what is known")
    given = parser.parse_args()
    os.chdir(ROOT)
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not given.summary:
        options = ["-p", "no:cacheprovider", "-p", "no:xdist", "-q", "-s"]
        options += ["-o", "tmp_path_retention_policy=none", f"--basetemp={FOLDER / given.room}-tmp"]
        code = pytest.main([*options, *TESTS[given.room]], plugins=[Mutating(given.room, given)])
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            sys.exit(code)
    sys.exit(not summary(given.room, given))


if __name__ == "__main__":
    main()
