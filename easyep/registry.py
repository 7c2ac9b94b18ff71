"""Names that lead to things: criteria, engines, runners, architectures."""

import difflib
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Generic, TypeVar

from easyep.errors import UnknownNameError

T = TypeVar("T")


def unknown_name(kind: str, name: str, valid: Iterable[str], hint: str = "") -> UnknownNameError:
    """The error for a `name` that is not among `valid`, with the closest ones named first."""
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=3, cutoff=0.5)
    message = f"unknown {kind} {name!r}"
    if close:
        message += f": did you mean {' or '.join(repr(c) for c in close)}?"
    message += f" (valid: {', '.join(valid) or 'none'})"
    return UnknownNameError(f"{message}{'; ' + hint if hint else ''}")


class Registry(Generic[T]):
    """A mapping from names to things of one kind, open to other packages.

    Args:
        kind: what the things are called in messages, for example ``"criterion"``.
        entry_points: the entry-point group through which installed packages add theirs; it is
            read the first time that a name is not found or all names are asked for.
    """

    def __init__(self, kind: str, entry_points: str | None = None) -> None:
        self.kind = kind
        self._things: dict[str, T] = {}
        self._group = entry_points

    def register(self, name: str, thing: T) -> T:
        """Add `thing` under `name`, replacing what had that name."""
        self._things[name] = thing
        return thing

    def __getitem__(self, name: str) -> T:
        """The thing called `name`.

        Raises:
            UnknownNameError: there is none; the message suggests the closest names.
        """
        if name not in self._things:
            self._load_entry_points()
        if name not in self._things:
            raise unknown_name(self.kind, name, self._things)
        return self._things[name]

    def __contains__(self, name: object) -> bool:
        return name in list(self)

    def __iter__(self) -> Iterator[str]:
        """All names, sorted."""
        self._load_entry_points()
        return iter(sorted(self._things))

    def _load_entry_points(self) -> None:
        group, self._group = self._group, None
        for entry_point in metadata.entry_points(group=group) if group else ():
            self._things.setdefault(entry_point.name, entry_point.load())
