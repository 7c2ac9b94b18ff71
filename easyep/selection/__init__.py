"""Scores + budget + router limits -> Selection; and what a selection keeps and loses."""

from easyep.selection.budget import ALLOCATIONS, check_allocation, keep_count
from easyep.selection.choosing import nested, select
from easyep.selection.explaining import agreement, compare, explain, retained_share
from easyep.selection.masks import from_mask
from easyep.selection.solver import check_solver
from easyep.selection.super_experts import super_experts
from easyep.selection.terms import SUPER_EXPERTS, check_entry, check_named

__all__ = [
    "ALLOCATIONS",
    "SUPER_EXPERTS",
    "agreement",
    "check_allocation",
    "check_entry",
    "check_named",
    "check_solver",
    "compare",
    "explain",
    "from_mask",
    "keep_count",
    "nested",
    "retained_share",
    "select",
    "super_experts",
]
