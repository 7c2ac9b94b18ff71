"""One HTML file that needs nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from easyep.reporting.drawing import Drawn, inline_svg

if TYPE_CHECKING:
    from jinja2 import Template


@dataclass(frozen=True)
class Table:
    """Rows under column names; the page sorts them when a column's name is chosen."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        words: paragraphs.
        facts: names and values.
        figures: shown one below the other.
        tables: below them.
        verbatim: texts shown as they are, by title, folded.
    """

    title: str
    words: Sequence[str] = ()
    facts: Mapping[str, object] | None = None
    figures: Sequence[Drawn] = ()
    tables: Sequence[Table] = ()
    verbatim: Mapping[str, str] | None = None


def render(title: str, sections: Sequence[Section]) -> str:
    """The page. Every name and number in it is escaped; only figures are markup."""
    return _template().render(title=title, sections=sections, svg=_markup)


def _markup(drawn: Drawn) -> object:
    from markupsafe import Markup

    return Markup(inline_svg(drawn.figure))  # matplotlib has escaped its words


@cache
def _template() -> "Template":
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(
        Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8")
    )
