"""Faults to every command at random moments: nothing lost, nothing half, clear errors.

    python benchmarks/faults.py --rounds 3 --output faults.json

Prints for each command and kind of fault how many were tried, how many hit (the command did not
come through), and how many broke a rule; exits with 1 where any did.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from easyep.artifacts.files import write_json
from tests.faults.commands import COMMANDS, make_inputs
from tests.faults.striking import FAULTS, fault, undisturbed


def main() -> None:
    """Try all, and say what held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="*", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--kinds", nargs="*", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    draw, broken = random.Random(given.seed), []
    counts: dict[str, dict[str, dict[str, int]]] = {}
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        make_inputs(base / "inputs")
        for command in given.commands:
            usual = undisturbed(COMMANDS[command], base / f"usual {command}")
            for kind in given.kinds:
                count = {"tried": 0, "hit": 0, "broken": 0}
                for _ in range(given.rounds):
                    count["tried"] += 1
                    folder = base / f"{command} {kind} {count['tried']}"
                    try:
                        hit = fault(kind, COMMANDS[command], folder, usual, draw)
                        count["hit"] += hit
                    except AssertionError as error:
                        count["broken"] += 1
                        broken.append(f"{command}: {error}")
                        print(broken[-1], file=sys.stderr, flush=True)
                counts.setdefault(command, {})[kind] = count
                print(f"{command:20} {kind:14} {count}", flush=True)
    if given.output:
        write_json(given.output, {"seed": given.seed, "counts": counts, "broken": broken})
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
