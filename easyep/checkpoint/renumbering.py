"""The new names of modules whose names contain an expert's number, in settings of quantisers."""

import re
from collections.abc import Callable, Mapping

from easyep.architectures.router import Router
from easyep.architectures.rules import PER_EXPERT
from easyep.architectures.spec import Architecture
from easyep.checkpoint.explaining import explain
from easyep.errors import LayoutError

# A number behind "experts.", also in a pattern; one for every number ("[0-9]+") is none.
_EXPERT_NUMBER = re.compile(r"experts\\?\.(?!\[0-9\][+*]?(?:\\?\.|\$|$))[^.\\]*\d", re.ASCII)

# Names can be patterns, marked as such by compressed-tensors ("re:") and GPTQ ("+:", "-:").
_PATTERN = re.compile(r"(?:re:|[+-]:)?\^?(?P<name>.*?)\$?", re.ASCII | re.DOTALL)

# A module's name -> its new name; None where its expert is dropped.
Rename = Callable[[str], str | None]


def renaming(
    architecture: Architecture, router: Router, kept: Mapping[int, tuple[int, ...]]
) -> Rename:
    """The new name of a module, or None if its expert is dropped.

    Args:
        architecture: the model's family.
        router: its numbers before pruning.
        kept: for every MoE layer that is written, the ids of its experts in order.

    Raises:
        LayoutError: (the function) a name contains an expert's number in a way that cannot be
            followed.
    """
    new = {(layer, e): i for layer, experts in kept.items() for i, e in enumerate(experts)}

    def rename(name: str) -> str | None:
        if not _EXPERT_NUMBER.search(name):
            return name
        # In a pattern dots are escaped; `at` leads from the plain name back to the written one.
        written = _PATTERN.fullmatch(name)
        span = range(*written.span("name")) if written else range(0)
        at = [i for i in span if name[i : i + 2] != "\\."]
        plain = "".join(name[i] for i in at)
        # Settings name modules, rules match tensors: a module is a tensor without its end.
        try:
            found = explain(architecture, plain + ".weight", router.num_experts)
        except LayoutError:
            found = None
        if found is None or found.rule.kind != PER_EXPERT:
            raise LayoutError(
                f"a quantisation setting names the expert {name!r} in a way that easyep cannot "
                "renumber; write it as a module's full name (model.layers.3.mlp.experts.17...) or "
                "without a number"
            )
        bank = found.rule.bank
        expert = int(found.number[:9]) - bank * router.num_experts
        number = new.get((found.layer(router.num_layers), expert))
        if number is None:
            return None
        number += bank * len(next(iter(kept.values())))
        return f"{name[: at[found.start]]}{number}{name[at[found.end - 1] + 1 :]}"

    return rename
