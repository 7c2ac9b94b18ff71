"""The README.md of a pruned checkpoint."""

from pathlib import Path

import yaml

from easyep.artifacts import Selection
from easyep.models import Model
from easyep.reporting.model_card import model_card, plain
from tests.records import MODEL

SELECTION = Selection(MODEL, 8, 4, "flatten", "easy-ep", {1: (0, 1, 2, 3)})
FACTS = {
    "observations": [{"domain": "math", "weight": 1.0, "num_demos": 25, "num_tokens": 1265}],
    "retained_share": {1: 0.75, 10: 0.9, 2: 0.8, 3: 0.8},
    "unreached": {"math": {1: 3, 2: 1}, "code": {}},
}


BIG = Model("org/Big@main", Path(), hub="org/Big")


def header(card: str) -> dict:
    return yaml.safe_load(card.split("---")[1])


def test_what_it_says():
    card = model_card(BIG, {"model_type": "mixtral"}, SELECTION, "drop", FACTS)
    assert header(card)["base_model"] == "org/Big"
    assert "mixtral" in header(card)["tags"]
    assert "# Big@main, 4 of 8 experts, for math" in card
    assert "| math | 1 | 25 | 1,265 |" in card
    assert "75.0% to 90.0%" in card
    assert "least in layer 1 (75.0%), layer 2 (80.0%), layer 3 (80.0%)." in card
    assert "Of 32 experts in all layers the demonstrations did not reach 4 by math;" in card
    assert "no longer limits its choice to groups" in card
    assert "prediction layers, which were left out" in card


def test_where_every_expert_was_reached_nothing_is_said_of_it():
    card = model_card(BIG, {}, SELECTION, "drop", {**FACTS, "unreached": {"math": {}}})
    assert "did not reach" not in card


def test_a_directory_is_named_without_its_path():
    card = model_card(Model("/somewhere/private/model", Path()), {}, SELECTION, "score", {})
    assert "private" not in card
    assert "base_model" not in header(card)


def test_names_are_text_and_no_markup():
    hostile = "a|b <img src=x> [t](u) `c` *d* _e_ ~~f~~ $g$ & \\ \n# h\u2028---"
    shown = (
        "a\\|b &lt;img src=x&gt; \\[t\\](u) \\`c\\` \\*d\\* \\_e\\_ "
        "\\~\\~f\\~\\~ \\$g\\$ &amp; \\\\ # h ---"
    )
    assert plain(hostile) == shown
    facts = {
        "observations": [{**FACTS["observations"][0], "domain": hostile}],
        "retained_share": {1: 0.75},
        "unreached": {hostile: {1: 3}},
    }
    chosen = Selection(MODEL, 8, 4, "balanced", hostile, {1: (0, 1, 2, 3)})
    card = model_card(Model(hostile.replace("/", ""), Path()), {}, chosen, "drop", facts)
    assert card.count(shown) == 6
    assert "<img" not in card
    named = model_card(BIG, {}, chosen, "drop", {"observations": [], "unreached": {}})
    # The same lines as for a name without surprises.
    tame = Selection(MODEL, 8, 4, "balanced", "easy-ep", {1: (0, 1, 2, 3)})
    other = model_card(BIG, {}, tame, "drop", {"observations": [], "unreached": {}})
    assert len(named.splitlines()) == len(other.splitlines())


def test_ordinary_names_stay_as_they_are():
    assert plain("easy-ep") == "easy-ep"
    assert plain("Qwen3-30B-A3B@main") == "Qwen3-30B-A3B@main"
