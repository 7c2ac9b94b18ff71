"""lm-eval without its log lines and bars."""

import contextlib
import logging
import os
from collections.abc import Iterator


@contextlib.contextmanager
def calm() -> Iterator[None]:
    """Without lm-eval's log lines and bars; ours write to a stream of their own."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        # A file and no text in memory: engines ask for its descriptor.
        with open(os.devnull, "w") as nothing, contextlib.redirect_stderr(nothing):
            yield
    finally:
        logging.disable(previous)
