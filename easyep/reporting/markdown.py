"""Tables in Markdown, for READMEs and pages."""

from collections.abc import Collection, Iterable, Sequence


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, words: Collection[str] = ()
) -> str:
    """A table; columns named in `words` stand to the left, as the others' numbers do not."""
    marks = ["---" if name in words else "---:" for name in columns]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, marks, *rows))
