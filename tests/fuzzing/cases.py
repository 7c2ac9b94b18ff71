"""One case: a hostile file, a reader, and what may come of it."""

import tempfile
import warnings
from pathlib import Path

from easyep.errors import EasyEPError
from tests.fuzzing.readers import Reader
from tests.fuzzing.watching import watched

LONGEST_MESSAGE = 4000


def run(reader: Reader, content: bytes) -> str:
    """How the reader took the content: ``"read"`` or the name of the error.

    Raises:
        AssertionError: the error is longer than anybody reads, or something was done that may
            not be.
        Exception: what the reader raised, where that is no EasyEPError.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            with watched(Path(folder)):
                reader.read(Path(folder), content)
        except EasyEPError as error:
            message = str(error)
            message.encode("utf-8")
            assert len(message) <= LONGEST_MESSAGE, f"{len(message)} characters of error"
            return type(error).__name__
    return "read"
