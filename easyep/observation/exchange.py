"""Tensors that several processes share: rank 0's for all, sums of all, pieces put together.

Everything goes through main memory, by gloo: machines need nothing but a network.
"""

import torch.distributed
from torch import Tensor

from easyep.distributed import Group

_TENSORS = "tensors"


def from_first(group: Group, values: Tensor) -> Tensor:
    """Rank 0's tensor, in every process: one of the same shape and type as `values`.

    Raises:
        PeerError: another process has failed, is gone or hangs.
    """
    if group.here.size == 1:
        return values
    sent = values.cpu().contiguous()
    if sent is values and not group.here.first:
        sent = sent.clone()
    with group.exchanging(_TENSORS) as processes:
        torch.distributed.broadcast(sent, src=0, group=processes)
    return sent.to(values.device)


def add_up(group: Group, part: Tensor) -> None:
    """Put the sum of all processes' tensors, of one shape and type, in the place of each.

    Raises:
        PeerError: another process has failed, is gone or hangs.
    """
    if group.here.size == 1:
        return
    total = part.cpu().contiguous()
    with group.exchanging(_TENSORS) as processes:
        torch.distributed.all_reduce(total, group=processes)
    if total is not part:
        part.copy_(total)


def put_together(group: Group, whole: Tensor, own: slice) -> None:
    """Fill a tensor of which each process has a piece: as many equal ones as processes.

    Args:
        group: the processes.
        whole: one-dimensional, in main memory.
        own: which of it this process has.

    Raises:
        PeerError: another process has failed, is gone or hangs.
    """
    if group.here.size == 1 or not len(whole):
        return
    dist = torch.distributed
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    with group.exchanging(_TENSORS) as processes:
        gather(whole, whole[own].clone(), group=processes)
