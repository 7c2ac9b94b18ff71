"""Which share of the lines and of the branches of four rooms their tests reach; fails below 95 %.

    python benchmarks/room_coverage.py

The rooms, their files and their tests are those of `rooms.py`. It runs the tests itself.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rooms import ROOT, SOURCES, TESTS, sources

LEAST = 95.0


def share(files: list[dict[str, Any]], reached: str, there: str) -> float:
    """Percent of what is there in some files that was reached."""
    count = sum(each["summary"][there] for each in files)
    return 100 * sum(each["summary"][reached] for each in files) / count


def main() -> None:
    tests = dict.fromkeys(each for room in TESTS.values() for each in room)
    included = ",".join(each for room in SOURCES.values() for each in room)
    with tempfile.TemporaryDirectory() as folder:
        data, told = Path(folder) / "data", Path(folder) / "coverage.json"
        run = ["run", "--branch", f"--include={included}", "-m", "pytest", *tests]
        for command in (run, ["json", "-q", "-o", told]):
            coverage = [sys.executable, "-m", "coverage", command[0], f"--data-file={data}"]
            subprocess.run([*coverage, *command[1:]], cwd=ROOT, check=True)
        measured = json.loads(told.read_text())["files"]
    enough = True
    for room in SOURCES:
        files = [measured[str(path)] for path in sources(room)]
        lines = share(files, "covered_lines", "num_statements")
        branches = share(files, "covered_branches", "num_branches")
        enough &= min(lines, branches) >= LEAST
        print(f"{room}: {lines:.1f} % of the lines, {branches:.1f} % of the branches")
        for path, each in zip(sources(room), files, strict=True):
            missing = [str(line) for line in each["missing_lines"]]
            missing += [f"{start}->{end}" for start, end in each["missing_branches"]]
            if missing:
                print(f"    {path}: {', '.join(missing)}")
    sys.exit(not enough)


if __name__ == "__main__":
    main()
