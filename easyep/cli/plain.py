"""Words as they may go to a terminal or a log, wherever they come from.

Names of models, tensors, domains and tasks, and what servers answer, are other people's: a control
character in one could move the cursor, change what stands there, or answer in the user's place.
"""

import os
import re

from easyep.addresses import without_keys

# C0 but tab and line feed, DEL, C1, what turns the direction of writing, halves of pairs.
_ODD = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSW", re.IGNORECASE)
_SHORTEST = 8


def plain(text: str) -> str:
    """`text` with control characters written out, and without passwords and keys.

    Keys are the values of environment variables that are called so.
    """
    for name, value in os.environ.items():
        if _NAMES.search(name) and len(value) >= _SHORTEST and value in text:
            text = text.replace(value, f"${name}")
    return _ODD.sub(_written, without_keys(text))


def plain_json(text: str) -> str:
    """JSON text with the odd characters in its strings escaped, as JSON has them."""
    return _ODD.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _written(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
