"""What the tests of demonstrations share."""

import pytest

from tests.demonstrations.local_api import Api


@pytest.fixture
def api():
    """Starts servers: `api(question=[what its requests meet in turn])`."""
    started = []

    def start(**plan):
        started.append(Api(plan))
        return started[-1]

    yield start
    for server in started:
        server.stop()
