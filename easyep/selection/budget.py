"""How many experts a layer keeps: the same number in each, which is what engines load."""

from numbers import Integral

from easyep.architectures.router import Router
from easyep.artifacts.selection import GROUP_MODES
from easyep.errors import SelectionError
from easyep.registry import unknown_name

# Different counts in different layers load in no engine for the families that easyep knows
# (docs/decisions/0005-same-count-in-every-layer.md).
ALLOCATIONS = ("uniform",)


def keep_count(keep: float, router: Router, *, groups: str = "balanced", align: int = 1) -> int:
    """How many experts per layer a `keep` of `select` means.

    Raises:
        SelectionError: it is neither a fraction nor a count that the router can work with.
    """
    if groups not in GROUP_MODES:
        raise unknown_name("group mode", str(groups), GROUP_MODES)
    if not isinstance(align, Integral) or isinstance(align, bool) or align < 1:
        raise SelectionError(f"align must be a positive integer, not {align!r}")
    return router.count(keep, groups, align)


def check_allocation(allocation: str) -> None:
    """Raises UnknownNameError unless the allocation is one that engines can load."""
    if allocation not in ALLOCATIONS:
        raise unknown_name(
            "allocation",
            allocation,
            ALLOCATIONS,
            "layers with different numbers of experts load in no engine for these models",
        )
