"""easyep: make a Mixture-of-Experts language model smaller for a domain.

    import easyep

    observations = easyep.observe("demo", domain="math")
    scores = easyep.score(observations, criterion="easy-ep")
    selection = easyep.select(scores, keep=0.5)
    easyep.rewrite("demo", selection, "demo-math")

`easyep.prune` does all of it. Commands have functions of the same name (`eval` is `evaluate`);
none prints, all raise subclasses of `EasyEPError`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from easyep.artifacts import Demo, Observations, RoutedTokens, Scores, Selection
    from easyep.comparing import Comparison, compare
    from easyep.criteria import criterion
    from easyep.errors import EasyEPError
    from easyep.evaluation.paired import differences
    from easyep.evaluation.roofline.predict import predict
    from easyep.evaluation.throughput.bench import bench
    from easyep.measuring import evaluate
    from easyep.mixing import mix
    from easyep.overlap import Stability, stability
    from easyep.pipeline import observe, prune, rewrite, verify
    from easyep.planning import plan
    from easyep.presenting import report
    from easyep.queries import inspect, read_mask
    from easyep.recipe import Recipe
    from easyep.running import run
    from easyep.scoring import score
    from easyep.selection import select

__version__ = "0.1.0.dev0"

__all__ = [
    "Comparison",
    "Demo",
    "EasyEPError",
    "Observations",
    "Recipe",
    "RoutedTokens",
    "Scores",
    "Selection",
    "Stability",
    "bench",
    "compare",
    "criterion",
    "differences",
    "evaluate",
    "inspect",
    "mix",
    "observe",
    "plan",
    "predict",
    "prune",
    "read_mask",
    "report",
    "rewrite",
    "run",
    "score",
    "select",
    "stability",
    "verify",
]

_HOMES = {
    "artifacts": ["Demo", "Observations", "RoutedTokens", "Scores", "Selection"],
    "comparing": ["Comparison", "compare"],
    "criteria": ["criterion"],
    "errors": ["EasyEPError"],
    "evaluation.paired": ["differences"],
    "evaluation.roofline.predict": ["predict"],
    "evaluation.throughput.bench": ["bench"],
    "measuring": ["evaluate"],
    "mixing": ["mix"],
    "overlap": ["Stability", "stability"],
    "pipeline": ["observe", "prune", "rewrite", "verify"],
    "planning": ["plan"],
    "queries": ["inspect", "read_mask"],
    "presenting": ["report"],
    "recipe": ["Recipe"],
    "running": ["run"],
    "scoring": ["score"],
    "selection": ["select"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # or a type checker would take any name for one of the package

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used, so that the command line starts at once."""
        if name not in _HOME:
            raise AttributeError(f"module 'easyep' has no attribute {name!r}")
        value = getattr(import_module(f"easyep.{_HOME[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
