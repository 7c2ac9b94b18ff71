"""What an engine's name leads to."""

import pytest

from easyep.errors import UnsupportedModelError
from easyep.evaluation.engines import BACKENDS, engine


@pytest.mark.parametrize("place", ["json:loads", "json:JSONDecoder"])
def test_what_an_engine_s_name_leads_to_is_looked_at(place, monkeypatch):
    monkeypatch.setitem(BACKENDS._things, "mine", place)
    with pytest.raises(UnsupportedModelError, match=f"{place} is no engine"):
        engine("mine")
