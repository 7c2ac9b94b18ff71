"""Addresses of servers as they may be shown: without the key that stands in some of them."""

import re

# What stands before the last @ of an address's host: a user, a password, a key.
_KEY = re.compile(r"(?<=://)[^/?#\s'\"]+@")


def without_keys(text: str) -> str:
    """A text, such as an address or a message with some, without users and passwords in them."""
    return _KEY.sub("", text)
