"""Names that lead to things: criteria, engines, runners, architectures."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module, metadata
from typing import Any, Generic, TypeVar

from easyep.errors import EasyEPError, PluginError, UnknownNameError, first_line

T = TypeVar("T")

# Of a name that nobody meant; more of it would only hide the rest of the message.
_LONGEST = 100


def close_names(name: str, valid: Iterable[str]) -> str:
    """``: did you mean ...?``, of the names that are like `name`; empty where none is."""
    close = difflib.get_close_matches(name, sorted(valid), n=3, cutoff=0.6)
    return f": did you mean {' or '.join(map(repr, close))}?" if close else ""


def unknown_name(kind: str, name: str, valid: Iterable[str], hint: str = "") -> UnknownNameError:
    """The error for a `name` that is not among `valid`, with the closest ones named first."""
    valid = sorted(valid)
    name = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
    message = f"unknown {kind} {name!r}{close_names(name, valid)}"
    message += f" (valid: {', '.join(valid) or 'none'})"
    return UnknownNameError(f"{message}{'; ' + hint if hint else ''}")


class Registry(Generic[T]):
    """A mapping from names to things of one kind, open to other packages.

    Args:
        kind: what the things are called in messages, for example ``"criterion"``.
        entry_points: the entry-point group through which installed packages add theirs; it is
            read the first time that a name is not found or all names are asked for.
        check: what an entry point led to -> the thing; raises TypeError where it is none.
    """

    def __init__(
        self, kind: str, entry_points: str | None = None, check: Callable[[Any], T] | None = None
    ) -> None:
        self.kind = kind
        self._things: dict[str, T] = {}
        self._group = entry_points
        self._check = check

    @property
    def registered(self) -> frozenset[str]:
        """The names that were registered so far, without those of entry points not yet read."""
        return frozenset(self._things)

    def register(self, name: str, thing: T) -> T:
        """Add `thing` under `name`, replacing what had that name."""
        self._things[name] = thing
        return thing

    def __getitem__(self, name: str) -> T:
        """The thing called `name`.

        Raises:
            UnknownNameError: there is none; the message suggests the closest names.
            PluginError: an installed package announces one that cannot be loaded.
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
        group, self._group = self._group, None  # what is loaded may ask for names itself
        try:
            for entry_point in metadata.entry_points(group=group) if group else ():
                if entry_point.name not in self._things:
                    thing = self._loaded(entry_point)
                    # Its module may have registered it already, by a decorator.
                    self._things.setdefault(entry_point.name, thing)
        except PluginError:
            self._group = group  # or the next one to ask would be told of an unknown name
            raise

    def _loaded(self, entry_point: metadata.EntryPoint) -> T:
        try:
            loaded = entry_point.load()
            if entry_point.name in self._things:
                return self._things[entry_point.name]
            thing: T = self._check(loaded) if self._check is not None else loaded
            return thing
        except Exception as error:  # whatever another package's code raises
            package = entry_point.dist.name if entry_point.dist is not None else "a package"
            raise PluginError(
                f"{package} announces the {self.kind} {entry_point.name!r} as {entry_point.value}, "
                f"which cannot be used: {error}; mend or uninstall it"
            ) from error


class Places(Registry[str]):
    """Names of what is imported only when it is asked for; each leads to ``module:attribute``."""

    def load(self, name: str) -> Any:
        """What stands at the place of `name`.

        Raises:
            UnknownNameError: there is no such name.
            PluginError: nothing stands there, or its module cannot be imported.
        """
        place = self[name]
        module, _, attribute = place.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except EasyEPError:
            raise
        except Exception as error:  # whatever another package's code raises
            raise PluginError(
                f"the {self.kind} {name!r} is registered as {place}, which cannot be imported: "
                f"{first_line(error)}; a place is 'module:attribute'"
            ) from error
