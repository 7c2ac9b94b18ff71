"""The saved comparisons of two engines, as a table."""

from collections.abc import Mapping
from typing import Any

HEAD = (
    "| checkpoint | experts | equal tokens | smallest margin | largest logit difference |\n"
    "| --- | ---: | ---: | ---: | ---: |"
)


def table(result: Mapping[str, Any]) -> str:
    """Markdown with a row for each case of `result` (see `test_llama_cpp`)."""
    return "\n".join([HEAD, *(_row(name, case) for name, case in result["cases"].items())])


def _row(name: str, case: Mapping[str, Any]) -> str:
    pruned = case["pruned"]
    experts = f"{pruned['kept']} of {pruned['experts']}" if pruned else "all"
    equal = f"{case['equal_tokens']} of {case['tokens']}"
    difference = case["largest_logit_difference"]
    if difference is None:
        shown = f"{case['largest_logit_difference_at_first']:.1e} at the first token"
    else:
        shown = f"{difference:.1e}"
    return f"| {name} | {experts} | {equal} | {case['smallest_margin']:.1e} | {shown} |"
