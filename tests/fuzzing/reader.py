"""What a reader is, for the harness."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        content: files that it may be given.
        read: reads one of them in a folder of its own; any EasyEPError is a fine answer.
    """

    content: st.SearchStrategy[bytes]
    read: Callable[[Path, bytes], object]


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
