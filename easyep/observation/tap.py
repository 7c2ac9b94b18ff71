"""Watches one MoE layer: its experts, the residual stream before them, and the way in between."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from easyep.errors import ObservationError
from easyep.observation.calls import Call, first_tensor, results_of
from easyep.observation.device_record import DeviceRecord, Rows
from easyep.observation.experts import Routes, Watcher
from easyep.observation.learning import ENOUGH_TOKENS, Pass, UnexplainedError, candidates, learn
from easyep.observation.path import Path, Stream, one_stream, scaled
from easyep.observation.shift import residual_shift

Sink = Callable[[int, DeviceRecord], None]


@dataclass
class Batch:
    """The forward pass that runs in this thread.

    Attributes:
        rows: whose its rows are.
        recorded: whether what the layers do is handed on; else they only learn from it.
        passes: layer -> what was seen of it so far.
        silent: as in `Tap`.
    """

    rows: Rows
    recorded: bool = True
    passes: dict[int, "Seen"] = field(default_factory=dict)
    silent: bool = False


@dataclass
class Seen:
    """What was seen so far of one pass through one layer."""

    inside: list[Call] = field(default_factory=list)
    outside: list[Call] = field(default_factory=list)
    streams: dict[Stream, Tensor] = field(default_factory=dict)
    block: Call | None = None
    silenced: list[Call] = field(default_factory=list)
    routes: Routes | None = None


BATCH: ContextVar[Batch | None] = ContextVar("easyep_batch", default=None)


class LayerTap:
    """One MoE layer, watched."""

    def __init__(
        self,
        index: int,
        layer: nn.Module,
        experts: nn.Module,
        watcher: Watcher,
        sink: Sink,
        stream: str | None,
    ) -> None:
        self.index = index
        self.layer = layer
        self.experts = experts
        self.block = next(child for child in layer.children() if experts in set(child.modules()))
        self._watcher = watcher
        self._sink = sink
        self._stream = (layer.get_submodule(stream), 0) if stream is not None else None
        self._path: Path | None = None
        self._hooks = ExitStack()

    @property
    def silent(self) -> bool:
        """Whether the block runs once more, to see what it does without its experts."""
        batch = BATCH.get()
        return batch is not None and batch.silent

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Within this context the experts of this thread's pass give zeros."""
        batch = BATCH.get()
        assert batch is not None
        before, batch.silent = batch.silent, True
        try:
            yield
        finally:
            batch.silent = before

    def tell(self, routes: Routes) -> None:
        """What the experts did in the pass of this thread."""
        self._seen().routes = routes

    def attach(self, undo: ExitStack) -> None:
        """Watch the layer until `undo` is closed."""
        self._watcher.attach(self.block, self.experts, self, undo)
        undo.callback(self.layer.register_forward_pre_hook(self._begin).remove)
        undo.callback(self.layer.register_forward_hook(self._end).remove)
        undo.callback(self._hooks.close)
        self._path = None
        self._see_all()

    def _see_all(self) -> None:
        """Until the path is known, every module may be on it."""
        inside = set(self.block.modules())
        for module in set(self.layer.modules()) - set(self.experts.modules()) - {self.layer}:
            if module is not self.block:
                self._hook(module, self._inside if module in inside else self._outside)
        self._hook_block()
        self._hook(self.block, self._after_block)

    def _see(self, path: Path) -> None:
        """From now on, only what is on the path."""
        self._hooks.close()
        self._path = path
        for module in path.modules:
            self._hook(module, self._outside)
        if path.stream is None:
            self._hook_block()

    def _hook(self, module: nn.Module, see: Callable[[Call], None]) -> None:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            see(Call(module, args, kwargs, output))

        self._hooks.callback(module.register_forward_hook(hook, with_kwargs=True).remove)

    def _hook_block(self) -> None:
        hook = self.block.register_forward_pre_hook(self._before_block, with_kwargs=True)
        self._hooks.callback(hook.remove)

    def _seen(self) -> Seen:
        batch = BATCH.get()
        if batch is None or self.index not in batch.passes:
            raise ObservationError(f"layer {self.index} ran outside of a recorded batch")
        return batch.passes[self.index]

    def _begin(self, layer: nn.Module, args: Any) -> None:
        batch = BATCH.get()
        if batch is not None:
            batch.passes[self.index] = Seen()

    def _outside(self, call: Call) -> None:
        if not self.silent:
            self._seen().outside.append(call)

    def _inside(self, call: Call) -> None:
        seen = self._seen()
        if self.silent:
            seen.silenced.append(call)
        elif seen.routes is not None:
            seen.inside.append(call)

    def _before_block(self, block: nn.Module, args: Any, kwargs: Any) -> None:
        """Find the residual stream: what went into the module that made the block's input."""
        seen = self._seen()
        inputs = first_tensor((*args, *kwargs.values()))
        if self.silent or inputs is None:
            return
        if self._path is None:
            seen.streams = candidates(seen.outside, inputs, self._stream)
            children = set(self.layer.children())
            seen.outside = [call for call in seen.outside if call.module in children]
        else:
            seen.streams[None] = inputs

    def _after_block(self, call: Call) -> None:
        """Run the block once more with silent experts: what they add is the difference."""
        seen = self._seen()
        seen.block = call
        if seen.routes is not None:
            with self.silence():
                output = call.again()
            seen.silenced.append(Call(call.module, call.args, call.kwargs, output))

    def _end(self, layer: nn.Module, args: Any, output: Any) -> None:
        batch = BATCH.get()
        if batch is None:
            return
        seen = self._seen()
        if seen.routes is None:  # no token of the batch came to these experts
            return
        if self._path is None:
            self._see(self._learn(seen, results_of(output)[0], batch))
        assert self._path is not None
        if batch.recorded:
            self._record(self._path, seen, seen.routes, batch.rows)
        del batch.passes[self.index]

    def _learn(self, seen: Seen, output: Tensor, batch: Batch) -> Path:
        assert seen.routes is not None
        assert seen.block is not None
        if not output.isfinite().all():
            raise ObservationError(
                f"layer {self.index} ({type(self.layer).__name__}) gives numbers that are not "
                f"finite: its weights hold such, or {str(output.dtype).removeprefix('torch.')} is "
                "too narrow for them (--dtype)"
            )
        children = set(self.layer.children())
        one_pass = Pass(
            streams=seen.streams,
            routed=seen.routes.routed,
            inside=seen.inside,
            silenced=seen.silenced,
            block=seen.block,
            children=[call for call in seen.outside if call.module in children],
            output=output,
            tokens=batch.rows.valid.nonzero()[:ENOUGH_TOKENS, 0].to(output.device),
        )
        try:
            with self.silence():
                return learn(one_pass, self._stream)
        except UnexplainedError:
            raise ObservationError(
                f"layer {self.index} ({type(self.layer).__name__}): how its MoE block's output "
                "gets into the residual stream could not be found out; the architecture file may "
                "name the stream (docs/adding-an-architecture.md)"
            ) from None

    def _record(self, path: Path, seen: Seen, routes: Routes, rows: Rows) -> None:
        """Hand on what the layer did with one batch. Nothing here waits for the device."""
        calls = [*seen.inside, *seen.outside]
        stream = seen.streams.get(path.stream)
        if stream is None and path.stream is not None:
            module, place = path.stream
            stream = next(call.sources[place] for call in calls if call.module is module)
        assert stream is not None
        added = path.added(routes.routed, calls)
        if not len(rows.valid) == len(routes.ids) == len(added):
            raise ObservationError(
                f"layer {self.index} routed {len(routes.ids)} tokens of a batch of "
                f"{len(rows.valid)}"
            )
        h = one_stream(stream, added.shape[-1], len(added))
        shift = residual_shift(scaled(h, path.stream_factor), scaled(added, path.added_factor))
        weights = scaled(routes.weights.float(), path.factor)
        experts = getattr(self.experts, "num_experts", None)
        self._sink(self.index, DeviceRecord(routes, weights, shift, rows, experts))
