"""How many experts a layer keeps: the same number in each, which is what engines load."""

from numbers import Integral

from easyep.architectures.router import Router, budget
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
        raise unknown_name("group mode", groups, GROUP_MODES)
    if not isinstance(align, Integral) or isinstance(align, bool) or align < 1:
        raise SelectionError(f"align must be a positive integer, not {align!r}")
    wanted = budget("keep", keep)
    if isinstance(wanted, int) and wanted % align == 0:
        router.check_keep(wanted, groups, align)
        return wanted
    asked = wanted if isinstance(wanted, int) else wanted * router.num_experts
    if asked >= router.num_experts:
        router.check_keep(int(asked), groups, align)
    count = router.nearest_keep(asked / router.num_experts, groups, align)
    valid = router.valid_counts(groups, align)
    step = valid[1] - valid[0] if len(valid) > 1 else 1
    if abs(count - asked) >= step:
        # Rounding would not be what was meant: say what the router needs instead.
        router.check_keep(max(1, round(asked)), groups, align)
    return count


def check_allocation(allocation: str) -> None:
    """Raises UnknownNameError unless the allocation is one that engines can load."""
    if allocation not in ALLOCATIONS:
        raise unknown_name(
            "allocation",
            allocation,
            ALLOCATIONS,
            "layers with different numbers of experts load in no engine for these models",
        )
