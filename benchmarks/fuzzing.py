"""Hostile files for every reader, many of them.

    python benchmarks/fuzzing.py --cases 10000 --output benchmarks/results/fuzzing.json

For each reader of `tests/fuzzing/readers.py`: how many cases were tried, how many of them were
taken as right or refused with which error, how many failed otherwise (with the first such), and
how long the slowest computed. Each case may compute for ten seconds, take 1 GiB of memory, and
write to one folder. Results of other readers that the file has already stay in it.
"""

import argparse
import json
import random
import sys
import time
import traceback
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzzing.cases import run
from tests.fuzzing.readers import READERS


def fuzz(name: str, cases: int, number: int) -> dict[str, Any]:
    """Try one reader."""
    outcomes: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    first: dict[str, str] = {}
    slowest = 0.0

    # Shrinking is left to the tests: here every case is a new one.
    @seed(number)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(READERS[name].content)
    def every(content: bytes) -> None:
        nonlocal slowest
        begin = time.process_time()
        try:
            outcomes[run(READERS[name], content)] += 1
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)
            own = [f for f in where if "/easyep/" in f.filename] or where
            kind = f"{type(error).__name__} in {Path(own[-1].filename).name}, {own[-1].name}"
            failures[kind] += 1
            first.setdefault(kind, f"{str(error)[:200]} | {content[:300]!r}")
        slowest = max(slowest, time.process_time() - begin)

    every()
    tried = outcomes.total() + failures.total()
    return {
        "date": date.today().isoformat(),
        "seed": number,
        "cases": tried,
        "outcomes": dict(sorted(outcomes.items())),
        "failures": dict(sorted(failures.items())),
        "first failures": first,
        "slowest seconds": round(slowest, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--reader", choices=sorted(READERS), action="append")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--output", type=Path)
    given_ = parser.parse_args()
    found: dict[str, Any] = {"readers": {}}
    if given_.output and given_.output.exists():
        found = json.loads(given_.output.read_text())
    for name in given_.reader or READERS:
        result = found["readers"][name] = fuzz(name, given_.cases, given_.seed)
        print(
            f"{name}: {result['cases']} cases, {result['outcomes'].get('read', 0)} read, "
            f"{sum(result['failures'].values())} failed, slowest {result['slowest seconds']} s",
            flush=True,
        )
        for kind, told in result["first failures"].items():
            print(f"  {result['failures'][kind]} x {kind}: {told}", flush=True)
        if given_.output:
            given_.output.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(any(found["readers"][name]["failures"] for name in given_.reader or READERS))


if __name__ == "__main__":
    main()
