"""Releases of transformers, as far as families are newer than the oldest that easyep takes."""

import re
from collections.abc import Mapping
from typing import Any

_RELEASE = re.compile(r"\d+(\.\d+)+", re.ASCII)


def read_since(table: Mapping[str, Any]) -> dict[str, str]:
    """`since` of a ``[transformers]`` table: model type -> the first release that runs it.

    Raises:
        ValueError: it says anything else.
    """
    since = table.get("since", {})
    if not isinstance(since, Mapping):
        raise ValueError("[transformers] since must be a table: model type -> release")
    for kind, release in since.items():
        if not isinstance(release, str) or not _RELEASE.fullmatch(release):
            raise ValueError(f'[transformers] since.{kind} must be a release such as "5.21"')
    return dict(since)


def is_older(installed: str, needed: str) -> bool:
    """Whether one release came before another; a candidate counts as the release."""
    one, other = _numbers(installed), _numbers(needed)
    length = max(len(one), len(other))
    return one + [0] * (length - len(one)) < other + [0] * (length - len(other))


def _numbers(version: str) -> list[int]:
    found = re.match(r"\d+(\.\d+)*", version, re.ASCII)
    return [int(part) for part in found[0].split(".")] if found else []
