"""Releases of transformers: which came first, and which a family needs."""

import re
from pathlib import Path

import pytest
from transformers import CONFIG_MAPPING, __version__

from easyep.architectures import spec
from easyep.architectures.releases import is_older, read_since

# Types whose code comes with the model, or that nothing here runs.
NEVER_IN_TRANSFORMERS = {
    *(
        "bailing_moe",
        "bailing_moe_v2",
        "kimi_k2",
        "deepseek_v41",
        "deepseek_vl_v2",
        "ernie4_5_moe_vl",
        "kimi_k3",
    ),
    *("llada2_moe", "llada", "lladamoe", "llada_moe", "mimo_v2", "minimax_text_01", "minimax_m1"),
    *("nemotron_h_puzzle", "step5", "step5_vl", "step5_text"),
}
SINCE = {kind: release for name in spec.names() for kind, release in spec.get(name).since.items()}


@pytest.mark.parametrize(
    ("one", "other", "older"),
    [
        ("5.19.0", "5.20", True),
        ("5.20.0", "5.20", False),
        ("5.20.0", "5.20.1", True),
        ("5.9", "5.10", True),
        ("6.0.0.dev0", "5.23", False),
        ("5.20.0rc1", "5.20", False),
        ("unknown", "5.20", True),
    ],
)
def test_which_release_came_first(one: str, other: str, older: bool) -> None:
    assert is_older(one, other) is older


@pytest.mark.parametrize("since", ["5.20", ["5.20"], {"beam": 5.2}, {"beam": "new"}, {"beam": "5"}])
def test_anything_but_releases_is_refused(since: object) -> None:
    with pytest.raises(ValueError, match="since"):
        read_since({"since": since})


def test_the_first_release_is_found_wherever_the_type_is_stated() -> None:
    assert spec.first_release({"model_type": "beam"}) == ("beam", SINCE["beam"])
    nested = {"model_type": "unheard", "text_config": {"model_type": "muse_spark_text"}}
    assert spec.first_release(nested) == ("muse_spark_text", SINCE["muse_spark_text"])
    for config in ({"model_type": "mixtral"}, {"model_type": "unheard"}, {"model_type": [1]}, {}):
        assert spec.first_release(config) is None


def test_the_pinned_transformers_has_every_family_that_needs_a_release(root: Path) -> None:
    pins = (root / "constraints.txt").read_text()
    pinned = re.search(r"^transformers==(.+)$", pins, re.MULTILINE)
    assert pinned is not None
    assert not [kind for kind, release in SINCE.items() if is_older(pinned[1], release)]


def test_the_page_on_serving_has_them_all(root: Path) -> None:
    page = (root / "docs/serving.md").read_text()
    table = page.partition("| transformers | model types |\n")[2].split("\n\n")[0]
    shown = {
        kind: row.split("|")[1].strip()
        for row in table.splitlines()[1:]
        for kind in re.findall(r"`(\w+)`", row)
    }
    assert shown == {kind: SINCE[kind] for kind in SINCE if not kind.endswith("_text")}


def test_families_that_the_lowest_transformers_lacks_say_since_when() -> None:
    """Whatever is installed: the newest here, the lowest in `make test-lowest`."""
    types = {kind for name in spec.names() for kind in spec.get(name).model_types}
    lacking = {kind for kind in types - set(CONFIG_MAPPING) if kind not in NEVER_IN_TRANSFORMERS}
    assert lacking <= {kind for kind, each in SINCE.items() if is_older(__version__, each)}
