"""A domain, or a file of one's own -> the token sequences that the model is shown."""

from easyep.demonstrations.conversation import Style
from easyep.demonstrations.domains import (
    check_unweighted,
    domain_file,
    domains,
    file_or_domain,
    parse_domain,
    parse_weighted,
)
from easyep.demonstrations.reading import read
from easyep.demonstrations.rendering import DemoOrder, choose, render

__all__ = [
    "DemoOrder",
    "Style",
    "check_unweighted",
    "choose",
    "domain_file",
    "domains",
    "file_or_domain",
    "parse_domain",
    "parse_weighted",
    "read",
    "render",
]
