"""The parts of a report as they are put together."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from easyep.errors import EasyEPError
from easyep.gathering import Gathered
from easyep.reporting.page import Section

T = TypeVar("T")

# What reading a file raises that lacks what it should have.
DAMAGED = (LookupError, TypeError, ValueError, ArithmeticError, StopIteration, AttributeError)


class Told:
    """What a report says so far.

    Attributes:
        found: what it is made of.
        title: of the page.
        sections: in their order.
        facts: the numbers at the top.
        left_out: what a report can show and this one does not, and why.
    """

    def __init__(self, found: Gathered) -> None:
        self.found = found
        self.sections: list[Section] = []
        self.left_out: dict[str, str] = {}
        self.facts: dict[str, object] = {}
        if found.selection is not None:
            one = found.selection
            name = one.model.name.rstrip("/").rsplit("/", 1)[-1]
            self.title = f"{name}, {one.keep} of {one.num_experts} experts"
        elif found.studies:
            self.title = "; ".join(
                str(each["study"].get("study")) for each in found.studies.values()
            )
        else:
            self.title = "What easyep recorded"

    def summary(self) -> Section:
        return Section("Summary", facts=dict(self.facts))

    def absent(self) -> Section:
        facts: dict[str, object] = {**self.left_out}
        facts |= self.found.left_aside
        words = [] if facts else ["Nothing: every part that a report can have is there."]
        return Section("What is not shown", words, facts)

    def drawn(
        self, path: str, draw: Callable[[Mapping[str, Any]], Sequence[T]], value: Mapping[str, Any]
    ) -> list[T]:
        """What `draw` makes of a file; one that lacks what it should have is left aside."""
        try:
            return list(draw(value))
        except (*DAMAGED, EasyEPError) as error:
            self.found.left_aside[path] = f"it is damaged: {type(error).__name__}: {error}"
            return []
