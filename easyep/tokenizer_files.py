"""What a tokenizer's files may hold, checked before another library reads them.

Those libraries set no limits: a file of a kilobyte can ask for more memory than there is, in one
step that nothing interrupts.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from easyep.errors import CheckpointError

# Several times what any released model has.
MAX_BYTES = 100_000_000
MAX_ADDED_CHARACTERS = 5_000_000
# Those in use make the one character of a long ligature 18, and most texts no longer at all.
MAX_GROWTH = 1000

_FILES = ("tokenizer*", "vocab*", "merges*", "*_tokens*", "chat_template*", "*.model", "*.tiktoken")
_PARTS = ("normalizers", "pretokenizers", "processors", "decoders")


def check_tokenizer_files(path: Path) -> None:
    """See that no file of a checkpoint's tokenizer asks for more than any tokenizer needs.

    What is wrong in another way is left to the library that reads it.

    Raises:
        CheckpointError: a file is larger, its added tokens are longer, or its rules make texts
            longer than those of any released model by far.
    """
    for each in sorted({file for pattern in _FILES for file in path.glob(pattern)}):
        if each.is_file() and (size := each.stat().st_size) > MAX_BYTES:
            raise CheckpointError(
                f"{each} has {size} bytes, more than any tokenizer's file ({MAX_BYTES})"
            )
    rules, settings = _read(path / "tokenizer.json"), _read(path / "tokenizer_config.json")
    for name, added in (
        ("tokenizer.json", rules.get("added_tokens")),
        ("tokenizer_config.json", settings.get("added_tokens_decoder")),
        ("added_tokens.json", _read(path / "added_tokens.json")),
    ):
        if (length := _characters(added)) > MAX_ADDED_CHARACTERS:
            raise CheckpointError(
                f"{path / name}: its added tokens have {length} characters, more than those of any "
                f"tokenizer ({MAX_ADDED_CHARACTERS})"
            )
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        if _growth(rules.get(part)) > MAX_GROWTH:
            raise CheckpointError(
                f"{path / 'tokenizer.json'}: its {part} can make a text more than {MAX_GROWTH} "
                "times as long, as that of no tokenizer does"
            )


def _read(path: Path) -> Mapping[str, Any]:
    """The JSON object in a file; empty where there is none."""
    try:
        value = json.loads(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, Mapping) else {}


def _characters(added: Any) -> int:
    """How long the tokens of a list or table are together."""
    if isinstance(added, Mapping):
        return _characters([*added, *added.values()])
    tokens = added if isinstance(added, list) else []
    contents = [each.get("content") if isinstance(each, Mapping) else each for each in tokens]
    return sum(len(each) for each in contents if isinstance(each, str))


def _growth(step: Any) -> int:
    """How many times as long one step of a tokenizer can make what it is given, about."""
    if not isinstance(step, Mapping):
        return 1
    match step.get("type"):
        case "Sequence":
            return _together(each for part in _PARTS for each in _listed(step.get(part)))
        case "Replace":
            return max(1, len(str(step.get("content"))))
        case "Precompiled":
            return _longest_in_map(step.get("precompiled_charsmap"))
        case "TemplateProcessing":
            return max(1, sum(_pieces(step)))
    return 1


def _together(steps: Iterable[Any]) -> int:
    total = 1
    for step in steps:
        total *= _growth(step)
        if total > MAX_GROWTH:  # a product of thousands would take its time
            break
    return total


def _longest_in_map(table: Any) -> int:
    """The longest text, in bytes, that a table of sentencepiece writes for one character.

    The table has 4 bytes that say how long its tree is, the tree, then texts that end in a 0.
    """
    try:
        content = base64.b64decode(table)
    except (TypeError, ValueError):
        return 1
    texts = content[4 + int.from_bytes(content[:4], "little") :]
    return max(map(len, texts.split(b"\0")), default=1) or 1


def _pieces(template: Mapping[str, Any]) -> Iterable[int]:
    """How many tokens each piece of a template is; the text counts as one."""
    tokens = template.get("special_tokens")
    known = tokens if isinstance(tokens, Mapping) else {}
    for piece in _listed(template.get("single")):
        special = piece.get("SpecialToken") if isinstance(piece, Mapping) else None
        name = special.get("id") if isinstance(special, Mapping) else None
        token = known.get(name) if isinstance(name, str) else None
        yield len(_listed(token.get("ids"))) if isinstance(token, Mapping) else 1


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
