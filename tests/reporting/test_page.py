"""The page: whole, escaped, without the network."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from easyep.reporting import overlap_figures, page, selection_figures
from easyep.reporting.page import Section, Table

HOSTILE = "<script>alert(1)</script> $\\frac$ & \"'{{ 7*7 }} </title></style><!-- ü"


def rendered(name="name"):
    drawn = overlap_figures.overlaps(
        name="m", what="domains", names=[name, "b"], values=[[1, 0.5], [0.5, 1]], chance=0.5
    )
    section = Section(
        name,
        words=[name],
        facts={name: name},
        figures=[drawn],
        tables=[Table(name, [name, "n"], [(name, 1), ("z", 2)])],
        verbatim={name: name},
    )
    return page.render(name, [section])


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []
        self.words = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data.strip())


def read(text):
    reader = Reader()
    reader.feed(text)
    return reader


def test_hostile_names_stay_names():
    plain, hostile = read(rendered()), read(rendered(HOSTILE))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert hostile.words.count(HOSTILE) >= 6
    assert hostile.words.count(f"{HOSTILE[:27]}…") == 2  # both axes of the figure
    for label in (attrs["aria-label"] for _, attrs in hostile.tags if "aria-label" in attrs):
        assert label in (HOSTILE, "Contents", "Overlap between domains")


def test_nothing_comes_from_elsewhere():
    for tag, attrs in read(rendered()).tags:
        for name in ("src", "href", "xlink:href"):
            where = attrs.get(name, "#")
            assert where.startswith(("#", "data:")), (tag, where)
    assert not re.search(r"url\((?!#)", rendered())
    assert "default-src 'none'" in rendered()


def test_figures_take_the_colours_of_the_page():
    text = rendered()
    assert "currentColor" in text
    assert "#010203" not in text


def test_the_same_figure_gives_the_same_bytes():
    assert rendered() == rendered()


@pytest.mark.parametrize("scored", [True, False])
def test_kept_experts_are_coloured_and_dropped_ones_grey(scored):
    scores = {0: np.array([4.0, 0.0, 1.0, 3.0])} if scored else None
    drawn = selection_figures.experts_by_layers({0: (0, 3)}, 4, scores)
    image = drawn.figure.axes[0].images[0].get_array()
    for expert, kept in enumerate((True, False, False, True)):
        red, green, blue, alpha = image[0, expert]
        assert (len({red, green, blue}) > 1) == kept
        assert (alpha == 1) == kept
    if scored:
        assert image[0, 2, 3] > image[0, 1, 3]  # deeper, where the score is higher


def test_coverage_and_margins_say_the_numbers():
    scores = {0: np.array([1.0, 6.0, 1.0, 2.0]), 1: np.zeros(4)}
    drawn = selection_figures.coverage(scores, {0: (1, 3), 1: (0, 1)}, {0: 0.8, 1: 0.0})
    lines = drawn.figure.axes[0].lines
    assert list(lines[0].get_ydata()) == pytest.approx([60, 80, 90, 100])
    assert list(lines[2].get_ydata()) == pytest.approx([30, 40, 45, 50])  # the mean
    drawn = selection_figures.margins({0: 0.5, 1: -0.1})
    assert [bar.get_height() for bar in drawn.figure.axes[0].patches] == pytest.approx([50, -10])
