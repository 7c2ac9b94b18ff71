"""JSONL files -> demonstrations."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from easyep import strict_json
from easyep.artifacts import Demo
from easyep.errors import DemosError
from easyep.given_files import without_waiting

# No model reads as much at once.
LONGEST_LINE = 100_000_000


def read(
    path: str | os.PathLike[str], form: Callable[[Any], Any] = lambda value: value
) -> list[Demo]:
    """The demonstrations in a JSONL file, one object a line; empty lines are skipped.

    Args:
        path: the file.
        form: makes of a line's value that of a demonstration.

    Raises:
        DemosError: the file is missing, empty or not text, or a line is no demonstration; the
            message names file and line.
    """
    path = Path(path)
    demos = []
    try:
        with open(path, encoding="utf-8-sig", opener=without_waiting) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), ""), 1):
                if len(line) > LONGEST_LINE:
                    raise DemosError(
                        f"{path}, line {number} has more than {LONGEST_LINE} characters"
                    )
                if line.strip():
                    demos.append(_parse(line, form, f"{path}, line {number}"))
    except FileNotFoundError:
        raise DemosError(f"the demonstrations file {path} does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: bytes that are no text, or a name with 0
        raise DemosError(f"the demonstrations file {path} cannot be read: {error}") from None
    if not demos:
        raise DemosError(f"the demonstrations file {path} is empty")
    return demos


def _parse(line: str, form: Callable[[Any], Any], where: str) -> Demo:
    try:
        value = strict_json.parse(line)
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        return Demo.from_json(form(value), where)
    except UnicodeEncodeError as error:
        raise DemosError(f"{where}: the text is not valid Unicode: {error}") from None
    except (ValueError, RecursionError) as error:
        raise DemosError(f"{where}: not valid JSON: {error}") from None
    except DemosError as error:
        raise DemosError(f"{where}: {error}") from None
