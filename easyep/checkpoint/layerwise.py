"""Which tensors of a plan can be written when only some layers' experts are known."""

from collections.abc import Iterator

from easyep.checkpoint.output_files import OutputShard, OutputTensor
from easyep.checkpoint.output_units import tensors_of
from easyep.checkpoint.planning import Plan

_NEVER = -1  # no layer has that number


class Layerwise:
    """Walks through the files of a plan as its layers become known, each file from its beginning.

    Args:
        work: a plan with stand-ins for experts that are not known yet.
    """

    def __init__(self, work: Plan) -> None:
        self._work = work
        self._known: set[int] = set()
        self._real: dict[str, OutputTensor] = {}
        self._next = dict.fromkeys((shard.name for shard in work.shards), 0)
        self._choice: dict[str, int] = {}  # tensor -> the layer whose experts it depends on
        for index in work.kept_experts:
            layer = work.layout.layers[index]
            for tensor in tensors_of(work.layout, layer, work.kept_experts):
                self._choice[tensor.name] = index
            for rows in layer.rows:
                if len(rows.layers) > 1:
                    self._choice[rows.tensor.name] = _NEVER
        self._place: dict[str, float] = {}  # tensor -> the decoder layer that it lies in
        outside = float("-inf")
        for shard in work.shards:
            for tensor in shard.tensors:
                place = work.layout.layer_of.get(tensor.name)
                if place is not None:
                    outside = float("inf")  # what follows is behind the layers
                self._place[tensor.name] = outside if place is None else place

    def layer(self, index: int, kept: tuple[int, ...]) -> dict[str, list[OutputTensor]]:
        """The experts that MoE layer `index` keeps; layers come in order, none has to.

        Returns:
            For some files the tensors that come next in them: those of this layer, and of all
            before it, that nothing unknown precedes in its file.
        """
        self._known.add(index)
        layer = self._work.layout.layers[index]
        kept_experts = {**self._work.kept_experts, index: kept}
        for tensor in tensors_of(self._work.layout, layer, kept_experts):
            self._real[tensor.name] = tensor
        found = {shard.name: list(self._ready(shard, layer.place)) for shard in self._work.shards}
        return {name: tensors for name, tensors in found.items() if tensors}

    def _ready(self, shard: OutputShard, place: int) -> Iterator[OutputTensor]:
        while self._next[shard.name] < len(shard.tensors):
            tensor = shard.tensors[self._next[shard.name]]
            choice = self._choice.get(tensor.name)
            if choice is not None and choice not in self._known:
                return
            if choice is None and self._place[tensor.name] > place:
                return  # it is read later, and is to be copied then
            self._next[shard.name] += 1
            yield self._real.pop(tensor.name, tensor)
