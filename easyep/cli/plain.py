"""Words as they may go to a terminal or a log, wherever they come from.

Names of models, tensors, domains and tasks, and what servers answer, are other people's: a control
character in one could move the cursor, change what stands there, or answer in the user's place.
"""

import os
import re
from contextlib import suppress
from functools import partial
from pathlib import Path

from easyep.addresses import without_keys

# C0 but tab and line feed, DEL, C1, what turns the direction of writing, halves of pairs.
_ODD = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_KEYS = re.compile(r"(KEY|TOKEN|SECRET)$|SECRET_KEY", re.IGNORECASE)
_PASSWORDS = re.compile(r"(PASSWORD|PASSWD|PASSPHRASE)$", re.IGNORECASE)
_SHORTEST, _LONGEST_WORD = 8, 15
# What a setting says and no key is: a word, a number, a version.
_ORDINARY = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[\d.,]+")


def plain(text: str) -> str:
    """`text` with control characters written out, and without passwords and keys.

    Those are the values of environment variables that are called so, of eight characters or more:
    of keys all that are no word, number or path, of passwords all, where they stand alone.
    """
    for name, value in os.environ.items():
        if len(value) < _SHORTEST or value not in text:
            continue
        if _KEYS.search(name) and not _is_ordinary(value):
            text = text.replace(value, f"${name}")
        elif _PASSWORDS.search(name):
            alone = rf"(?<!\w){re.escape(value)}(?!\w)"
            text = re.sub(alone, partial(_named, name), text)
    return _ODD.sub(_written, without_keys(text))


def _named(name: str, _: re.Match[str]) -> str:
    return f"${name}"


def _is_ordinary(value: str) -> bool:
    if len(value) <= _LONGEST_WORD and _ORDINARY.fullmatch(value):
        return True
    with suppress(OSError):  # too long for a path
        return value.startswith("/") and Path(value).exists()
    return False


def plain_json(text: str) -> str:
    """JSON text with the odd characters in its strings escaped, as JSON has them."""
    return _ODD.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _written(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
