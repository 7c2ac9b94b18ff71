"""How near to the least cost `hope` comes with more experts than are solved exactly.

    python benchmarks/pairs.py --output benchmarks/results/pairs.json

The synthetic record of `scoring.py`: 300,000 tokens, 256 experts, top-8. For each number of
experts that are kept, freely and in eight groups: the share of the chosen set's cost that no other
set can avoid (`pairs.unavoidable`), and CPU seconds for the choice and for the proof. Among 48 of
the experts, where the program is solved exactly too: by how much the swaps alone cost more.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from scoring import FIRST_LAYER, Layers

from easyep.criteria import CRITERIA, Layer
from easyep.processor import processor
from easyep.selection.pairs import by_swaps, least_costly, unavoidable
from easyep.selection.terms import Terms


def terms(experts: int, keep: int, groups: int) -> Terms:
    none = np.zeros(experts, dtype=np.bool_)
    return Terms(FIRST_LAYER, keep, groups, none, none)


def cost(costs: np.ndarray, kept: tuple[int, ...]) -> float:
    dropped = np.setdiff1d(np.arange(len(costs)), kept)
    return float(costs[np.ix_(dropped, dropped)].sum())


def large(costs: np.ndarray, keep: int, groups: int) -> dict[str, Any]:
    """One choice among all experts."""
    of = terms(len(costs), keep, groups)
    begin = time.process_time()
    kept = least_costly(costs, of)
    chosen = time.process_time()
    share = unavoidable(costs, kept, of)
    return {
        "keep": keep,
        "groups": groups,
        "unavoidable": round(share, 4),
        "choice_cpu_s": round(chosen - begin, 3),
        "proof_cpu_s": round(time.process_time() - chosen, 3),
    }


def small(costs: np.ndarray, keep: int, groups: int) -> dict[str, Any]:
    """The same where HiGHS solves it."""
    of = terms(len(costs), keep, groups)
    exact = least_costly(costs, of)
    swapped = tuple(np.flatnonzero(~by_swaps(costs, of)).tolist())
    return {
        "experts": len(costs),
        "keep": keep,
        "groups": groups,
        "swaps_above_exact": round(cost(costs, swapped) / cost(costs, exact) - 1, 6),
        "unavoidable": round(unavoidable(costs, exact, of), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--output", type=Path, default=None, help="a JSON file for the numbers")
    options = parser.parse_args()
    record = Layers(1, options.tokens)[FIRST_LAYER]
    costs = CRITERIA["hope"].score(record, Layer(FIRST_LAYER, 256))
    part = costs[:48, :48]
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor(),
        "tokens": options.tokens,
        "experts": len(costs),
        "choices": [large(costs, k, g) for k in (192, 128, 64, 32) for g in (1, 8)],
        "solved_exactly_too": [small(part, k, g) for k in (36, 24, 12) for g in (1, 8)],
    }
    text = json.dumps(facts, indent=2)
    print(text)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
