"""JSON in which no object names a key twice and nesting has an end.

Of two equal keys Python's own reader takes the last one, without a word.
"""

import json
from typing import Any

_TOO_DEEP = "values are nested too deeply"

# Far more than configurations have. Python's own limit depends on its version and on who asks,
# and what walks through a value may have less room than what read it.
MAX_NESTING = 200


def parse(text: str) -> Any:
    """Parse `text`, refusing objects that name a key twice.

    Raises:
        ValueError: it is not valid JSON, or nested too deeply to be read; the message says where.
    """
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def check_nesting(value: Any) -> None:
    """Raises ValueError where a parsed value has more than `MAX_NESTING` levels."""
    level = [value]
    for _ in range(MAX_NESTING + 1):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    if level:
        raise ValueError(_TOO_DEEP)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:100]!r} appears twice in one object")
            seen.add(key)
    return value
