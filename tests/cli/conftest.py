"""What a command before left set is not taken over."""

from collections.abc import Iterator

import pytest

from easyep.cli.voice import VOICE


@pytest.fixture(autouse=True)
def usual_voice() -> Iterator[None]:
    """Neither quiet nor verbose, and no log; commands see to that themselves."""
    VOICE.reset()
    yield
    VOICE.reset()
