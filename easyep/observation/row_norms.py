"""Norms of rows in float32, whatever type the rows have."""

import torch
from torch import Tensor

# Numbers that a processor's own cache holds beside a float32 copy of them. On a CPU torch makes
# such a copy of what it sums up in another type: as large as all rows, it costs more than the sum.
PIECE = 2**17


def pieces(rows: Tensor) -> list[Tensor]:
    """[N, H] as parts that a CPU works on without its memory; on other devices the whole."""
    if rows.device.type != "cpu" or not rows.numel():
        return [rows]
    return list(torch.split(rows, max(1, PIECE // rows.shape[-1])))


def row_norms(rows: Tensor) -> Tensor:
    """The Euclidean norm of every row, summed up in float32.

    Args:
        rows: [N, H].

    Returns:
        float32 [N].
    """
    parts = [torch.linalg.vector_norm(part, dim=-1, dtype=torch.float32) for part in pieces(rows)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
