"""What a decoder stores, moves and computes: the model's side of the roofline."""

from dataclasses import dataclass, replace

from easyep.errors import EvaluationError


@dataclass(frozen=True)
class Attention:
    """What the attention of all layers does with its cache.

    Attributes:
        cache_bytes: bytes per token of context, in all layers whose window is without end.
        flops: operations per pair of a token and one before it, in the same layers.
        windowed_cache_bytes, windowed_flops: the same in the layers that look back at most
            `window` tokens.
        window: that many tokens.
        prefill_flops: `flops` where many tokens of a sequence are computed at once, if that is
            done in another way (MLA: with keys and values written out).
    """

    cache_bytes: float
    flops: float
    windowed_cache_bytes: float = 0.0
    windowed_flops: float = 0.0
    window: int = 0
    prefill_flops: float | None = None

    def cached(self, context: float) -> float:
        """Bytes of cache of one sequence of `context` tokens."""
        seen = min(context, self.window)
        return self.cache_bytes * context + self.windowed_cache_bytes * seen

    def operations(self, context: float, prefill: bool = False) -> float:
        """FLOPs of one token that attends to `context` tokens."""
        full = self.prefill_flops if prefill and self.prefill_flops is not None else self.flops
        return full * context + self.windowed_flops * min(context, self.window)


@dataclass(frozen=True)
class Decoder:
    """A model, in numbers.

    Bytes are those of the weights as stored; `numbers` are counts of weights, each of which a
    token that passes it costs one multiplication and one addition.

    Attributes:
        name: of the model.
        experts: routed experts per layer (E).
        top_k: of them per token.
        moe_layers: layers with routed experts (L).
        expert_bytes: bytes of one routed expert (w_e).
        expert_numbers: weights of one routed expert.
        router_bytes: bytes of the routers for one expert in all layers together.
        dense_bytes: bytes that every forward pass reads: all weights but routed experts, routers
            and the embedding table.
        dense_numbers: weights that every token passes, routers and head left out.
        head_numbers: weights of the output head, passed by tokens whose successor is wanted.
        idle_bytes: bytes that are stored and hardly read: the embedding table.
        attention: what it caches and computes.
        compute_dtype: the type that matrices are multiplied in.
        hidden: width of the residual stream.
        parts: name of a part, as `easyep inspect` calls it -> bytes, MTP layers left out.
    """

    name: str
    experts: int
    top_k: int
    moe_layers: int
    expert_bytes: float
    expert_numbers: float
    router_bytes: float
    dense_bytes: float
    dense_numbers: float
    head_numbers: float
    idle_bytes: float
    attention: Attention
    compute_dtype: str
    hidden: int
    parts: dict[str, float]

    @property
    def stored_bytes(self) -> float:
        """Bytes of all weights (W)."""
        return (
            self.idle_bytes
            + self.dense_bytes
            + self.experts * (self.moe_layers * self.expert_bytes + self.router_bytes)
        )

    @property
    def active_numbers(self) -> float:
        """Weights that a token passes (P_active), without the head."""
        routed = self.top_k * self.expert_numbers + self.experts * self.hidden  # and the router
        return self.dense_numbers + self.moe_layers * routed

    def pruned(self, keep: int) -> "Decoder":
        """The same model with `keep` experts per layer.

        Raises:
            EvaluationError: there are not so many, or fewer than a token is routed to.
        """
        if not self.top_k <= keep <= self.experts:
            raise EvaluationError(
                f"{keep} of {self.experts} experts cannot be kept; valid are {self.top_k} to "
                f"{self.experts}"
            )
        share = keep / self.experts
        parts = dict(self.parts)
        for part in ("routed experts", "router"):
            if part in parts:
                parts[part] *= share
        return replace(
            self,
            experts=keep,
            parts=parts,
        )
