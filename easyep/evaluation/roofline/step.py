"""One forward pass on a machine: bytes, operations, the time that neither can undercut.

With B sequences of context S, of which G tokens each are computed, T = B G:

    bytes   = W_dense + w_e U(T) + B cache(S)
    FLOPs   = T (2 P_active + attention(S)) + 2 P_head (tokens whose successor is wanted)
    seconds = max(bytes / bandwidth, FLOPs / peak)

U(T) counts the experts that T tokens touch in all layers (`traffic`). Decoding is G = 1; prefill
is G = S, with half of the context on average; a diffusion model computes a block of G at a time.
"""

from dataclasses import dataclass

from easyep.evaluation.roofline.decoder import Decoder
from easyep.evaluation.roofline.machine import Machine
from easyep.evaluation.roofline.traffic import Traffic


@dataclass(frozen=True)
class Step:
    """What one forward pass takes at least.

    Attributes:
        expert_bytes: read of routed experts.
        dense_bytes: read of all other weights.
        cache_bytes: read and written of the cache.
        flops: operations.
        memory_seconds: all bytes over the bandwidth.
        compute_seconds: all operations over the peak.
    """

    expert_bytes: float
    dense_bytes: float
    cache_bytes: float
    flops: float
    memory_seconds: float
    compute_seconds: float

    @property
    def seconds(self) -> float:
        """The larger of the two."""
        return max(self.memory_seconds, self.compute_seconds)

    @property
    def bound(self) -> str:
        """``"compute"``, or what most bytes are: ``"experts"``, ``"weights"`` or ``"cache"``."""
        if self.compute_seconds >= self.memory_seconds:
            return "compute"
        sizes = {
            "experts": self.expert_bytes,
            "weights": self.dense_bytes,
            "cache": self.cache_bytes,
        }
        return max(sizes, key=lambda name: sizes[name])


def step(
    decoder: Decoder,
    machine: Machine,
    traffic: Traffic,
    batch: int,
    *,
    context: float,
    queries: int = 1,
    causal: bool = False,
    wanted: int | None = None,
) -> Step:
    """One forward pass.

    Args:
        decoder: the model.
        machine: where it runs.
        traffic: of its routers, for as many experts as it has.
        batch: sequences (B).
        context: tokens that a sequence has at the end of the pass (S).
        queries: tokens of each that are computed (G).
        causal: they see only what is before them, half of themselves on average.
        wanted: tokens of each whose successor is asked for; None = all that are computed.
    """
    tokens = batch * queries
    seen = context - (queries - 1) / 2 if causal else context
    attention = decoder.attention
    flops = tokens * (2 * decoder.active_numbers + attention.operations(seen, queries > 1))
    flops += 2 * decoder.head_numbers * batch * (queries if wanted is None else wanted)
    experts = traffic.distinct(tokens) * decoder.expert_bytes
    dense = decoder.dense_bytes + decoder.router_bytes * decoder.experts
    cache = batch * attention.cached(context)
    return Step(
        experts,
        dense,
        cache,
        flops,
        (experts + dense + cache) / machine.bandwidth,
        flops / machine.peak_of(decoder.compute_dtype),
    )


def decode(
    decoder: Decoder,
    machine: Machine,
    traffic: Traffic,
    batch: int,
    input_len: int,
    output_len: int,
) -> Step:
    """A decoding step in the middle of an answer: ``tokens/s = batch / seconds``."""
    return step(decoder, machine, traffic, batch, context=input_len + output_len / 2)


def prefill(
    decoder: Decoder, machine: Machine, traffic: Traffic, batch: int, input_len: int
) -> Step:
    """A pass over all prompts at once: ``tokens/s = batch x input_len / seconds``."""
    return step(
        decoder,
        machine,
        traffic,
        batch,
        context=input_len,
        queries=input_len,
        causal=True,
        wanted=1,
    )


def largest_batch(
    decoder: Decoder, budget: float, tokens: int, utilisation: float = 0.9, copies: float = 1.0
) -> int:
    """Sequences of `tokens` tokens whose cache fits beside the weights.

    ``floor((u G - W) / cache(S))``. What activations take is in ``1 - u``, as for vLLM.

    Args:
        decoder: the model.
        budget: bytes of memory (G).
        tokens: of prompt and answer together (S).
        utilisation: the part of the memory that weights and caches may take (u).
        copies: how often the cache is held: by each rank, where tensor parallelism cannot split
            it, as with MLA.
    """
    left = utilisation * budget - decoder.stored_bytes
    return max(0, int(left // (copies * decoder.attention.cached(tokens))))
