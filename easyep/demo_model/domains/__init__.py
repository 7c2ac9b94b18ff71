"""The demo world: one module per domain, each with `sample(rng) -> Item`."""

from __future__ import annotations

import random
from collections.abc import Callable

from easyep.demo_model.domains import code, facts, lexicon, math, strings, tools
from easyep.demo_model.items import Item

#: The domains with questions, in the order in which everything lists them.
DOMAINS: dict[str, Callable[[random.Random], Item]] = {
    "math": math.sample,
    "code": code.sample,
    "facts": facts.sample,
    "strings": strings.sample,
    "lexicon": lexicon.sample,
    "tools": tools.sample,
}
