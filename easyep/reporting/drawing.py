"""How figures look, and how they get into files and pages."""

import io
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyep.atomic import check_file, write_bytes
from easyep.errors import MissingDependencyError, OutputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
# Words and axes have this colour; in a page it becomes the page's own, light or dark.
INK = "#010203"
# Okabe and Ito: told apart by the colour-blind, and on light and dark ground.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SETTINGS = {
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "font.size": 9,
    "font.family": "sans-serif",
    "legend.fontsize": 8,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "easyep",
    # Names are other people's: a dollar sign in one is no formula.
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Drawn:
    """A figure with what it is called.

    Attributes:
        name: of its file, without an ending.
        title: what it shows.
        caption: how it is read.
        figure: matplotlib's.
    """

    name: str
    title: str
    caption: str
    figure: "Figure"


def check_drawing() -> None:
    """Raises MissingDependencyError where there is no matplotlib."""
    if find_spec("matplotlib") is None:
        raise MissingDependencyError("figures need matplotlib: pip install 'easyep[figures]'")


def check_figure(path: str | os.PathLike[str]) -> None:
    """Raises what would stop `save_figure`: no matplotlib, another format, no place."""
    check_drawing()
    check_file(path)
    check_format(path)


def check_format(path: str | os.PathLike[str]) -> None:
    """Raises OutputError where a file's name ends as no figure does."""
    if Path(path).suffix.lstrip(".").lower() not in FORMATS:
        endings = ", ".join(f".{name}" for name in FORMATS)
        raise OutputError(f"a figure's file ends in one of {endings}, not {path}")


def style() -> AbstractContextManager[Any]:
    """The context in which figures are made and written."""
    import matplotlib as mpl

    context: AbstractContextManager[Any] = mpl.rc_context(SETTINGS)
    return context


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def short(name: str, most: int = 28) -> str:
    """A name that leaves room for the figure that it labels."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def log_heights(axes: "Axes", steps: Sequence[float] = (1.0, 2.0, 5.0)) -> None:
    """A logarithmic axis upwards, with plain numbers; the usual ones are formulas.

    Args:
        axes: of a figure.
        steps: what has a number, times powers of ten.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))


def save_figure(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Write a .png, .svg or .pdf file; errors as in `check_figure`."""
    check_figure(path)
    ending = Path(path).suffix.lstrip(".").lower()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending)
    data = io.BytesIO()
    with style():
        figure.savefig(data, format=ending, dpi=150, facecolor="white", metadata=metadata)
    write_bytes(path, data.getvalue())


def inline_svg(figure: "Figure") -> str:
    """The figure as an element of a page, in the page's colours."""
    data = io.StringIO()
    with style():
        figure.savefig(data, format="svg", transparent=True, metadata={"Date": None})
    text = data.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")
