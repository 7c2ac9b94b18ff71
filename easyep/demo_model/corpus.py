"""The demo's demonstrations and evaluation items as files: `python -m easyep.demo_model.corpus`.

Run in the repository root it writes `calibration_data/demo/<domain>.jsonl` (demonstrations, the
public form) and `eval/data/demo_<domain>.jsonl` (questions with answers), the same bytes each time.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from easyep.demo_model.domains import DOMAINS
from easyep.demo_model.items import Item, Split, draw_distinct

SEED = 0
DEMONSTRATIONS = 50
EVALUATION_ITEMS = 200


def items(domain: str, split: Split, count: int) -> list[Item]:
    """The committed items of a domain and split."""
    return draw_distinct(DOMAINS[domain], random.Random(f"{SEED} {domain} {split}"), split, count)


def demonstration(item: Item) -> Mapping[str, object]:
    """A line of `calibration_data`: a chat of one turn; the other keys are metadata."""
    return {
        "messages": [
            {"role": "user", "content": item.prompt},
            {"role": "assistant", "content": item.response},
        ],
        "domain": item.domain,
        "kind": item.kind,
        "answer": item.answer,
    }


def evaluation_item(item: Item) -> Mapping[str, object]:
    """A line of `eval/data`; only `answer` is checked, `response` shows how to get there."""
    return {
        "question": item.prompt,
        "answer": item.answer,
        "response": item.response,
        "kind": item.kind,
    }


def files(domain: str) -> Mapping[str, str]:
    """The two files of a domain: path relative to the repository root -> content."""
    demonstrations = map(demonstration, items(domain, "calibration", DEMONSTRATIONS))
    questions = map(evaluation_item, items(domain, "evaluation", EVALUATION_ITEMS))
    return {
        f"calibration_data/demo/{domain}.jsonl": _lines(demonstrations),
        f"eval/data/demo_{domain}.jsonl": _lines(questions),
    }


def _lines(values: Iterable[Mapping[str, object]]) -> str:
    return "".join(json.dumps(v, ensure_ascii=False) + "\n" for v in values)


def main() -> None:
    """Writes all files below `--root`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="the repository root")
    root: Path = parser.parse_args().root
    for domain in DOMAINS:
        for name, text in files(domain).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
