"""Numbers as people read them."""


def unit_of(count: float) -> tuple[float, str]:
    """How many bytes the unit for so many has, and its name; in powers of ten as disks are sold."""
    for scale, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= scale:
            return scale, name
    return 1.0, "B"


def size(count: float) -> str:
    """A number of bytes in its unit."""
    scale, name = unit_of(count)
    digits = {"TB": 2, "B": 0}.get(name, 1)
    return f"{count / scale:,.{digits}f} {name}"


def with_error(value: float | None, stderr: float | None, form: str, factor: float = 1) -> str:
    """A number times `factor` with its standard error, where it has one; ``-`` where it is None.

    Args:
        value, stderr: the two.
        form: the number's format, ``".1f"`` or ``"+.1f"``.
        factor: 100 for percentages.
    """
    if value is None:
        return "-"
    text = f"{factor * value:{form}}"
    digits = form.removeprefix("+")
    return text if stderr is None else f"{text} ± {factor * stderr:{digits}}"
