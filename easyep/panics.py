"""Panics of libraries in Rust, such as tokenizers, as errors like others."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raises RuntimeError for a panic, which is raised past every `except Exception`.

    The library has written of it to standard error by then.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # it cannot be imported
            raise
        raise RuntimeError(f"a library failed within: {error}") from error
