"""The names of runners, and where the class of each is found."""

from easyep.registry import Places

# Others register theirs before `easyep.prune`.
RUNNERS = Places("runner")
for _name, _kind in (
    ("memory", "Memory"),
    ("stream", "Stream"),
    ("deepspeed", "DeepSpeed"),
):
    RUNNERS.register(_name, f"easyep.runners.{_name}:{_kind}")


def choices() -> tuple[str, ...]:
    """What a recipe may ask for: one of them, or the one that fits the machine."""
    return ("auto", *RUNNERS)
