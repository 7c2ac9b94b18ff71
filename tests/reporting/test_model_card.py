"""The README.md of a pruned checkpoint."""

import yaml

from easyep.artifacts import Selection
from easyep.reporting.model_card import model_card, plain
from tests.records import MODEL

SELECTION = Selection(MODEL, 8, 4, "flatten", "easy-ep", {1: (0, 1, 2, 3)})
MANIFEST = {
    "source": {**MODEL.to_json(), "name": "org/Big@main", "model_type": "mixtral"},
    "base_model": "org/Big",
    "selection": SELECTION.to_json(),
    "mtp": "drop",
    "bytes_before": 4_000_000_000,
    "bytes_after": 2_100_000_000,
    "observations": [{"domain": "math", "weight": 1.0, "num_demos": 25, "num_tokens": 1265}],
    "retained_share": {1: 0.75, 10: 0.9, 2: 0.8, 3: 0.8},
    "unreached": {"math": {1: 3, 2: 1}, "code": {}},
}


def header(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_what_it_says():
    card = model_card(MANIFEST)
    assert header(card)["base_model"] == "org/Big"
    assert "mixtral" in header(card)["tags"]
    assert "# Big@main, 4 of 8 experts, for math" in card
    assert "| routed experts per layer | 8 | 4 |" in card
    assert "| weights | 4.0 GB | 2.1 GB (52.5%) |" in card
    assert "| math | 1 | 25 | 1,265 |" in card
    assert "75.0% to 90.0%" in card
    assert "least in layer 1 (75.0%), layer 2 (80.0%), layer 3 (80.0%)." in card
    assert "Of 32 experts in all layers the demonstrations did not reach 4 by math;" in card
    assert "no longer limits its choice to groups" in card
    assert "prediction layers, which were left out" in card
    assert "Measured" not in card


def test_where_every_expert_was_reached_nothing_is_said_of_it():
    assert "did not reach" not in model_card({**MANIFEST, "unreached": {"math": {}}})


def test_a_directory_is_named_without_its_path():
    wanted = ("source", "selection", "mtp")
    least = {name: MANIFEST[name] for name in wanted}
    card = model_card({**least, "source": {"name": "/somewhere/private/model"}})
    assert "private" not in card
    assert "base_model" not in header(card)
    assert "weights" not in card


def test_names_are_text_and_no_markup():
    hostile = "a|b <img src=x> [t](u) `c` *d* _e_ ~~f~~ $g$ & \\ \n# h\u2028---"
    shown = (
        "a\\|b &lt;img src=x&gt; \\[t\\](u) \\`c\\` \\*d\\* \\_e\\_ "
        "\\~\\~f\\~\\~ \\$g\\$ &amp; \\\\ # h ---"
    )
    assert plain(hostile) == shown
    named = {
        **MANIFEST,
        "source": {"name": hostile.replace("/", ""), "model_type": hostile},
        "base_model": hostile,
        "selection": {**SELECTION.to_json(), "criterion": hostile},
        "observations": [{**MANIFEST["observations"][0], "domain": hostile}],
        "unreached": {hostile: {1: 3}},
    }
    card = model_card(named)
    assert card.count(shown) == 6
    assert header(card)["base_model"] == hostile
    body, plain_body = (text.split("---\n", 2)[2] for text in (card, model_card(MANIFEST)))
    assert "<img" not in body
    # The same lines as for names without surprises.
    assert len(body.splitlines()) == len(plain_body.splitlines())


def test_ordinary_names_stay_as_they_are():
    assert plain("easy-ep") == "easy-ep"
    assert plain("Qwen3-30B-A3B@main") == "Qwen3-30B-A3B@main"
