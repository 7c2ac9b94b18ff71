"""Keys in addresses are not shown."""

import pytest

from easyep.addresses import without_keys


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:key@host:80/v1", "https://host:80/v1"),
        ("https://key@host", "https://host"),
        ("http://user:p@ss@host/v1", "http://host/v1"),
        (
            "cannot reach 'http://u:k@a/v1' nor http://u:k@b?x=1",
            "cannot reach 'http://a/v1' nor http://b?x=1",
        ),
        ("http://host/v1/me@here", "http://host/v1/me@here"),
        ("http://host?mail=me@here", "http://host?mail=me@here"),
        ("me@host and no address", "me@host and no address"),
    ],
)
def test_users_and_passwords_are_left_out(text, shown):
    assert without_keys(text) == shown
