"""What each of several processes of one run does, reads and holds."""

from collections import Counter
from dataclasses import dataclass

from easyep.launcher import Rank
from easyep.progress import Progress
from easyep.runners import computed_bytes, weight_bytes
from easyep.runs import Run
from easyep.source import Source
from easyep.stream_plan import StreamPlan


@dataclass(frozen=True)
class Share:
    """One process's part, in bytes; the largest where they differ.

    Attributes:
        processes: how many there are.
        reads: of the checkpoint. Over `deepspeed` that is rank 0's, who reads for all.
        holds: of memory: weights; where the model is streamed all that the run needs.
    """

    processes: int
    reads: int
    holds: int


def share(
    source: Source, dtype: str, runner: str, here: Rank, streamed: StreamPlan | None
) -> Share | None:
    """What each of the processes reads and holds; None where there is only one, or no run.

    Args:
        source: the model.
        dtype: the type that it computes in, as in `Recipe`.
        runner: how it is run; empty = it is not.
        here: one of the processes.
        streamed: what streaming takes, if that is how the model is run.
    """
    if here.size == 1 or not runner:
        return None
    if streamed is not None:
        return Share(here.size, -(-streamed.to_read // here.size), streamed.memory)
    if runner == "memory":
        return Share(here.size, source.checkpoint.nbytes, weight_bytes(source.checkpoint, dtype))
    layout, weights = source.layout, source.checkpoint.tensors
    inside: Counter[int | None] = Counter()  # bytes by layer, as computed with
    for name, tensor in weights.items():
        if not layout.is_mtp(name):
            inside[layout.layer_of.get(name)] += computed_bytes([tensor], dtype)
    # A layer is whole in every process for a moment, when it is loaded and when it computes.
    holds = -(-inside.total() // here.size) + max(inside.values())
    read = sum(tensor.nbytes for name, tensor in weights.items() if not layout.is_mtp(name))
    return Share(here.size, read, holds)


def tell_how(run: Run, here: Rank, progress: Progress) -> None:
    """Say how many processes take part, and which layers their way leaves out."""
    if here.size > 1:
        what = "each layer's experts" if run.runner == "stream" else "the demonstrations"
        progress.say(f"{here.size} processes run, each its share of {what}")
    for layer in run.passed_over:
        progress.say(
            f"the multi-token-prediction layer {layer} is not observed with DeepSpeed; it follows "
            "the last layer's choice"
        )
