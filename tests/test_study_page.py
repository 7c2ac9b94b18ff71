"""The page of studies says what the results say."""

import json
import re

from docs.making import study_page

# What the paper (arXiv 2504.06792) reports of DeepSeek-R1.
PAPER = {"66.55", "61.5", "67.2", "72.8", "65.3", "2.7"}
MODEL = {"4.6"}  # millions of parameters
DECIMAL = re.compile(r"(?<![\w.-])\d+\.\d+(?![\w.]*\w)")


def test_tables_are_those_of_the_results():
    text = study_page.PAGE.read_text()
    assert study_page.filled(text) == text


def test_figures_were_drawn_from_the_results_as_they_are(root):
    text = study_page.PAGE.read_text()
    shown = re.findall(r"!\[.+?\]\((study-.+?\.png)\)", text)
    assert sorted(shown) == sorted(study_page.FIGURES)
    for name in shown:
        assert study_page.mark(name).encode() in (root / "docs" / name).read_bytes(), (
            f"{name} is not of its result: python docs/making/study_page.py"
        )


def test_numbers_in_sentences_are_in_tables():
    """Every number with a decimal point stands in a table that the results fill, too."""
    text = study_page.PAGE.read_text()
    tables = "".join(re.findall(r"<!-- .+?: \S+ -->\n(.*?)<!-- end -->", text, re.S))
    sentences = re.sub(r"<!-- .+?<!-- end -->|`[^`]*`|\]\([^)]*\)", "", text, flags=re.S)
    found = set(DECIMAL.findall(sentences))
    assert len(found) > 20
    assert found - set(DECIMAL.findall(tables)) <= PAPER | MODEL


def test_every_result_of_a_study_is_told(root):
    pages = "".join(page.read_text() for page in (root / "docs").glob("*.md"))
    files = (root / "eval" / "results").glob("*.json")
    studies = [file.name for file in files if "cells" in json.loads(file.read_text())]
    assert studies
    assert not [name for name in studies if name not in pages]
