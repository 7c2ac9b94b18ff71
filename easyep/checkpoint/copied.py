"""What is known of a weight file that was compared with what was read while it was written."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from easyep.checkpoint.comparison import Counterpart
from easyep.checkpoint.copying import Range, merged, read
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.output_files import OutputTensor
from easyep.checkpoint.proofreading import Proof


@dataclass(frozen=True)
class Copied:
    """A weight file each block of which was read back when it was written.

    So its bytes are those of the ranges that its tensors name; whether these are the right ranges
    is another question, and needs no bytes: `misplaced` answers it.

    Attributes:
        sha256: of its content.
        tensors: what it was made from, in order.
    """

    sha256: str
    tensors: tuple[OutputTensor, ...]


def proofs_of_copied(
    copied: Mapping[str, Copied],
    counterparts: Iterable[Counterpart],
    pruned: Checkpoint | None,
    source: Checkpoint | None,
    *,
    limit: int,
) -> dict[str, Proof]:
    """What `proofread` would find in files that need not be read again.

    Args:
        copied: the files.
        counterparts: what all tensors must equal, derived from names and shapes.
        pruned, source: where both lie; without them only checksums are given.
        limit: how many differences of one file are told.
    """
    in_file: dict[str, list[Counterpart]] = {name: [] for name in copied}
    for each in counterparts:
        if each.pruned.shard in in_file:
            in_file[each.pruned.shard].append(each)
    proofs = {}
    for name, file in copied.items():
        wrong: list[str] = []
        if pruned is not None and source is not None:
            wrong = list(islice(misplaced(file, in_file[name], pruned, source), limit))
        proofs[name] = Proof(file.sha256, differences=tuple(wrong))
    return proofs


def misplaced(
    copied: Copied, counterparts: Iterable[Counterpart], pruned: Checkpoint, source: Checkpoint
) -> Iterator[str]:
    """Tensors of one file that were not made from the bytes that they must equal, in words.

    The few tensors that are computed rather than copied (`OutputTensor.change`) are read, on both
    sides, and compared.

    Args:
        copied: what the file was made from.
        counterparts: what its tensors must equal, derived from names and shapes.
        pruned, source: where both lie.

    Raises:
        CheckpointError: a computed tensor cannot be read.
    """
    made = {tensor.name: tensor for tensor in copied.tensors}
    begins = _begins(copied, pruned)
    for each in counterparts:
        name, theirs = each.pruned.name, list(merged(each.ranges()))
        if name not in made or begins[name] != each.pruned.begin:
            yield f"tensor {name!r} does not lie where it was written"
        elif made[name].change is None:
            if list(merged(made[name].ranges)) != theirs:
                yield f"tensor {name!r} was copied from other bytes of the source"
        else:
            if read(pruned, [Range.of(each.pruned)]) != read(source, theirs):
                yield f"tensor {name!r} differs from the source"


def _begins(copied: Copied, pruned: Checkpoint) -> dict[str, int]:
    """Where each tensor begins in the file: one behind the other, up to the file's end."""
    first = copied.tensors[0].name
    at = pruned.shards[pruned.tensors[first].shard].size if first in pruned.tensors else 0
    at -= sum(tensor.nbytes for tensor in copied.tensors)
    found = {}
    for tensor in copied.tensors:
        found[tensor.name] = at
        at += tensor.nbytes
    return found
