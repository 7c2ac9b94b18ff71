"""What a layer did with a batch, on its way from the device that the model runs on.

To fetch a tensor is to wait for the device. So a layer's record is packed into one tensor, its
copy is begun beside the computation, and only when all layers have run is it waited for.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from easyep.artifacts import RoutedTokens
from easyep.observation.experts import Routes


@dataclass(frozen=True)
class Rows:
    """What the rows of a forward pass are, all [T], on the host, padding included."""

    valid: Tensor
    demo: Tensor
    is_response: Tensor


class DeviceRecord:
    """One layer's record of one forward pass.

    Args:
        routes: what the experts did.
        weights: [T, k], the combine weights as they reach the residual stream.
        shift: float32 [T].
        rows: whose each row is.
        num_experts: ids from this number on are no expert's; None = there are none.
    """

    def __init__(
        self, routes: Routes, weights: Tensor, shift: Tensor, rows: Rows, num_experts: int | None
    ) -> None:
        self._rows = rows
        self._num_experts = num_experts
        self._top_k = routes.ids.shape[1]
        columns = [weights.float(), routes.norms.float(), shift.float()[:, None]]
        packed = torch.cat(
            [routes.ids.to(torch.int32), *(part.view(torch.int32) for part in columns)], dim=1
        )
        self._packed, self._copied = _begin_copy(packed)

    def fetch(self) -> RoutedTokens:
        """The record on the host, without padding; waits until it is there."""
        if self._copied is not None:
            self._copied.synchronize()
        valid, k = self._rows.valid.numpy(), self._top_k
        packed = self._packed.numpy()[valid]
        ids = packed[:, :k]
        weights, norms = (packed[:, i * k : (i + 1) * k].view(np.float32) for i in (1, 2))
        none = (weights == 0) | (ids < 0)
        if self._num_experts is not None:
            none |= ids >= self._num_experts
        return RoutedTokens(
            expert_ids=np.where(none, 0, ids),
            weights=np.where(none, np.float32(0), weights),
            output_norms=np.where(none, np.float32(0), norms),
            residual_shift=packed[:, 3 * k].view(np.float32),
            demo=self._rows.demo.numpy()[valid],
            is_response=self._rows.is_response.numpy()[valid],
        )


def _begin_copy(values: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """A tensor on the host, and what to wait for until it holds the values."""
    if values.device.type != "cuda":
        return values.cpu(), None
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    beside = _stream(values.device)
    beside.wait_stream(torch.cuda.current_stream(values.device))
    with torch.cuda.stream(beside):
        host.copy_(values, non_blocking=True)
        values.record_stream(beside)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(beside)
    return host, copied


_STREAMS: dict[torch.device, torch.cuda.Stream] = {}


def _stream(device: torch.device) -> torch.cuda.Stream:
    """The stream of copies from a device."""
    if device not in _STREAMS:
        _STREAMS[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return _STREAMS[device]
