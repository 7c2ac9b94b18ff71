"""Releases of transformers: which came first, and which a family needs."""

import re
from pathlib import Path

import pytest
from transformers import CONFIG_MAPPING

from easyep.architectures import spec
from easyep.architectures.releases import is_older, read_since

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


def test_families_that_the_lowest_transformers_lacks_say_since_when() -> None:
    """Holds for the installed one, so for the lowest in `make test-lowest`."""
    known = {kind for kind in SINCE if kind in CONFIG_MAPPING}
    from transformers import __version__

    assert known >= {kind for kind, release in SINCE.items() if not is_older(__version__, release)}
