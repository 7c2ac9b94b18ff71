"""JSONL files -> demonstrations."""

import json
import os
from pathlib import Path

from easyep.artifacts import Demo
from easyep.errors import DemosError


def read(path: str | os.PathLike[str]) -> list[Demo]:
    """The demonstrations in a JSONL file, one object a line; empty lines are skipped.

    Raises:
        DemosError: the file is missing, empty or not text, or a line is no demonstration; the
            message names file and line.
    """
    path = Path(path)
    demos = []
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    demos.append(_parse(line, f"{path}, line {number}"))
    except FileNotFoundError:
        raise DemosError(f"the demonstrations file {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DemosError(f"the demonstrations file {path} cannot be read: {error}") from None
    if not demos:
        raise DemosError(f"the demonstrations file {path} is empty")
    return demos


def _parse(line: str, where: str) -> Demo:
    try:
        return Demo.from_json(json.loads(line), where)
    except (ValueError, RecursionError) as error:
        raise DemosError(f"{where}: not valid JSON: {error}") from None
    except DemosError as error:
        raise DemosError(f"{where}: {error}") from None
