"""easyep: make a Mixture-of-Experts language model smaller for a domain.

    import easyep

    observations = easyep.observe("demo", domain="math")
    scores = easyep.score(observations, criterion="easy-ep")
    selection = easyep.select(scores, keep=0.5)
    easyep.rewrite("demo", selection, "demo-math")

`easyep.prune` does all of it. Every command has its function; none prints, all raise subclasses of
`EasyEPError`.
"""

__version__ = "0.1.0.dev0"

from easyep.artifacts import Demo, Observations, RoutedTokens, Scores, Selection
from easyep.checkpoint.inspection import inspect
from easyep.criteria import criterion
from easyep.errors import EasyEPError
from easyep.pipeline import observe, plan, prune, rewrite, verify
from easyep.recipe import Recipe
from easyep.scoring import mix, score
from easyep.selection import select

__all__ = [
    "Demo",
    "EasyEPError",
    "Observations",
    "Recipe",
    "RoutedTokens",
    "Scores",
    "Selection",
    "criterion",
    "inspect",
    "mix",
    "observe",
    "plan",
    "prune",
    "rewrite",
    "score",
    "select",
    "verify",
]
