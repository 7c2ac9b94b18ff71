"""What is asked of an engine: how many requests at a time, how long they are."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from easyep.evaluation.lengths import LENGTHS

NUM_PROMPTS = 64  # of a round with a request rate, unless told otherwise
LARGEST_BATCH = 256  # vLLM's own limit unless told otherwise


@dataclass(frozen=True)
class Workload:
    """One point of a sweep.

    Attributes:
        input_len: tokens of each prompt.
        output_len: tokens of each answer; the end-of-sequence token does not end it earlier.
        batch_size: requests sent together; with a request rate the most under way at a time.
        request_rate: requests a second, arriving at random; infinite = all at once.
        num_prompts: requests of a round where there is a request rate.
    """

    input_len: int
    output_len: int
    batch_size: int
    request_rate: float = inf
    num_prompts: int | None = None

    @property
    def paced(self) -> bool:
        """Whether requests arrive one by one."""
        return self.request_rate < inf

    @property
    def requests(self) -> int:
        """Requests of a round."""
        return self.batch_size if self.num_prompts is None else self.num_prompts

    def arrivals(self, seed: int) -> list[float]:
        """When each request of a round is sent, seconds after the first.

        A Poisson process: the gaps are exponentially distributed, with mean 1 / `request_rate`.
        The same seed gives the same times.
        """
        source = random.Random(f"arrivals {seed} {self}")
        times = [0.0]
        while len(times) < self.requests:
            times.append(times[-1] + source.expovariate(self.request_rate))
        return times

    def prompts(self, vocabulary: Sequence[int], seed: int) -> list[list[int]]:
        """Random prompts, [requests][input_len] token ids from `vocabulary`.

        The same seed gives the same prompts; no two share a beginning that an engine could keep
        from one to the next, except by chance.
        """
        source = random.Random(f"{seed} {self}")
        return [source.choices(vocabulary, k=self.input_len) for _ in range(self.requests)]


def default_lengths(accelerator: bool, longest: int | None) -> list[tuple[int, int]]:
    """`LENGTHS`, a sixteenth of them without an accelerator, and halved until `longest` holds all.

    Args:
        accelerator: whether the engine has one.
        longest: positions that the model has; None = no limit is known.
    """
    scale = 1 if accelerator else 16
    while longest is not None and scale < 512 and max(map(sum, LENGTHS)) // scale > longest:
        scale *= 2
    return [(max(2, a // scale), max(2, b // scale)) for a, b in LENGTHS]


def default_batch_sizes() -> list[int]:
    """1, 2, 4, ... up to `LARGEST_BATCH`; memory ends the sweep earlier."""
    return [1 << power for power in range(LARGEST_BATCH.bit_length())]
