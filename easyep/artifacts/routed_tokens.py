"""What one MoE layer did with every token of the demonstrations."""

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from easyep.errors import ArtifactError

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class RoutedTokens:
    """The complete record of one layer: every token-level criterion is a function of it.

    T tokens stand in demonstration order, then by position; each was routed to k experts.

    Attributes:
        expert_ids: int16 or int32 [T, k], the experts that the router chose.
        weights: float32 [T, k], the combine weights g as applied: after renormalisation and
            scaling, without the bias that only steers the choice. 0 means that the token took no
            such route: some routers skip experts; the id is 0 then and means nothing.
        output_norms: float32 [T, k], the L2 norm of each expert's un-weighted output e.
        residual_shift: float32 [T], s = max(0, 1 - cos(h, h')) with h the residual stream before
            the MoE block and h' = h + sum_i g_i e_i (EASY-EP, arXiv 2504.06792).
        demo: int32 [T], the demonstration that the token belongs to.
        is_response: bool [T], whether the token belongs to a response.
    """

    expert_ids: npt.NDArray[np.integer]
    weights: npt.NDArray[np.float32]
    output_norms: npt.NDArray[np.float32]
    residual_shift: npt.NDArray[np.float32]
    demo: npt.NDArray[np.int32]
    is_response: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        routes, tokens = self.expert_ids.shape, self.expert_ids.shape[:1]
        if len(routes) != 2:
            raise ArtifactError(f"expert_ids must be [tokens, top-k], not {list(routes)}")
        for name, kinds in (
            ("expert_ids", "iu"),
            ("weights", "f"),
            ("output_norms", "f"),
            ("residual_shift", "f"),
            ("demo", "iu"),
            ("is_response", "b"),
        ):
            if getattr(self, name).dtype.kind not in kinds:
                raise ArtifactError(f"{name} has the type {getattr(self, name).dtype}")
        if self.expert_ids.size and self.expert_ids.min() < 0:
            raise ArtifactError("expert_ids has a number below 0")
        for name, shape in (
            ("weights", routes),
            ("output_norms", routes),
            ("residual_shift", tokens),
            ("demo", tokens),
            ("is_response", tokens),
        ):
            if getattr(self, name).shape != shape:
                found = list(getattr(self, name).shape)
                raise ArtifactError(f"{name} must be {list(shape)} like expert_ids, not {found}")

    def __len__(self) -> int:
        return len(self.expert_ids)

    @staticmethod
    def bytes_per_token(num_experts: int, top_k: int) -> int:
        """How much a token's record takes in a layer, `with_ids_for` applied."""
        return top_k * (_id_type(num_experts).itemsize + 4 + 4) + 4 + 4 + 1

    def with_ids_for(self, num_experts: int) -> "RoutedTokens":
        """The same, its ids in the smallest type that holds `num_experts`."""
        return replace(self, expert_ids=self.expert_ids.astype(_id_type(num_experts)))

    def arrays(self) -> dict[str, Array]:
        """The arrays by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def where(self, tokens: npt.NDArray[np.bool_]) -> "RoutedTokens":
        """Only the tokens for which the mask (bool [T]) is true."""
        return RoutedTokens(**{f.name: getattr(self, f.name)[tokens] for f in fields(self)})

    @classmethod
    def none(cls, top_k: int) -> "RoutedTokens":
        """The record of a layer that no token came to."""
        routes, tokens = np.zeros((0, top_k), np.float32), np.zeros(0, np.int32)
        return cls(
            expert_ids=routes.astype(np.int32),
            weights=routes,
            output_norms=routes,
            residual_shift=tokens.astype(np.float32),
            demo=tokens,
            is_response=tokens.astype(np.bool_),
        )

    @classmethod
    def concatenate(cls, parts: "list[RoutedTokens]") -> "RoutedTokens":
        """The tokens of all parts, in order; ArtifactError where their numbers of routes differ."""
        widths = sorted({part.expert_ids.shape[1] for part in parts})
        if len(widths) > 1:
            raise ArtifactError(
                f"tokens are routed to {widths[0]} experts here and to {widths[-1]} there; a "
                "record needs the same number everywhere"
            )
        return cls(
            **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)}
        )


def _id_type(num_experts: int) -> "np.dtype[np.integer]":
    return np.dtype(np.int16 if num_experts <= np.iinfo(np.int16).max + 1 else np.int32)
