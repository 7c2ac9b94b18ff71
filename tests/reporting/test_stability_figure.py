"""The figure of a study of stability."""

import pytest

import easyep
from easyep.errors import MissingDependencyError, OutputError
from easyep.reporting.stability_figure import stability_figure
from tests.overlap.test_study import observed


@pytest.fixture(scope="module")
def found():
    sets = [observed(0, domain="math"), observed(9, domain="code")]
    return easyep.stability(sets, keep=[4, 6], demonstrations=[1, 2], samples=2).to_json()


def test_it_shows_what_was_found(tmp_path, found):
    stability_figure(found, tmp_path / "f.svg")
    text = (tmp_path / "f.svg").read_text()
    assert text.startswith("<?xml")
    for said in ("4 of 12 experts kept", "demonstrations", "overlap between sets, %", "math"):
        assert f">{said}<" in text
    for pair in found["between"]:
        assert f">{100 * pair['overlap']:.0f}<" in text


def test_formats(tmp_path, found):
    stability_figure(found, tmp_path / "f.png")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OutputError, match=r"\.png, \.svg, \.pdf"):
        stability_figure(found, tmp_path / "f.jpg")


def test_one_set_alone(tmp_path):
    alone = easyep.stability([observed()], keep=[4], demonstrations=[1], samples=1).to_json()
    stability_figure(alone, tmp_path / "f.svg")
    assert "overlap between sets" not in (tmp_path / "f.svg").read_text()


def test_without_matplotlib(tmp_path, found, monkeypatch):
    monkeypatch.setattr("easyep.reporting.drawing.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="easyep\\[figures\\]"):
        stability_figure(found, tmp_path / "f.png")
