"""Observation of a model that fits into memory."""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from easyep.artifacts import RoutedTokens, TokenSequence
from easyep.distributed import ALONE, Group
from easyep.observation.decoder import decoder_layers, find_decoder, input_device
from easyep.observation.denoising import Denoising
from easyep.observation.denoising_passes import Run, denoising_passes
from easyep.observation.device_record import DeviceRecord
from easyep.observation.learning import ENOUGH_TOKENS
from easyep.observation.multi_token import run_mtp
from easyep.observation.recorder import Recorder, check_work
from easyep.observation.tap import Sink
from easyep.progress import SILENT, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.modeling_layers import MtpModel


Keep = Callable[[Sequence[int], Mapping[int, RoutedTokens]], None]


@torch.inference_mode()
def run_in_memory(
    model: "PreTrainedModel",
    sequences: Sequence[TokenSequence],
    keep: Keep,
    *,
    done: Collection[int] = (),
    mtp: "MtpModel | None" = None,
    stream: str | None = None,
    batch_size: int = 1,
    denoising: Denoising | None = None,
    group: Group = ALONE,
    title: str = "Observing",
    progress: Progress = SILENT,
) -> None:
    """Run the demonstrations through the model and record every MoE layer.

    Sequences are padded on the right, where causal attention cannot see it; the batch size
    changes results only by floating-point rounding. The processes of a group run one batch each at
    a time, and their records come together in the order of one process.

    Args:
        model: a causal language model with routed experts.
        sequences: the demonstrations.
        keep: takes what each layer did with the demonstrations of one batch; batches come in
            order, all of them to the first process of the group.
        done: demonstrations that are passed over, because their records are there already.
        mtp: the model's multi-token-prediction layers, to be recorded too; they are numbered
            after the last layer. As in generation, the layer at depth d reads the token d + 1
            places ahead of the hidden state it is given.
        stream: as in `Recorder`.
        batch_size: demonstrations per forward pass.
        denoising: how a diffusion model is run, one demonstration at a time.
        group: the processes that do so together; all need the same other arguments.

    Raises:
        ObservationError: there is nothing to record, or it cannot be recorded exactly.
        PeerError: another process has failed, is gone or hangs.
    """
    parts: dict[int, list[DeviceRecord]] = {}

    def record(layer: int, part: DeviceRecord) -> None:
        parts.setdefault(layer, []).append(part)

    if denoising is not None:
        batch_size = 1
        recorders, run = denoising_passes(model, denoising, record, stream)
    else:
        recorders, run = _causal_passes(model, mtp, record, stream)
    check_work(model, recorders, sequences)
    todo = [demo for demo in range(len(sequences)) if demo not in done]
    batches = [todo[start : start + batch_size] for start in range(0, len(todo), batch_size)]
    total = sum(len(sequences[demo]) for demo in todo)
    with ExitStack() as context:
        for recorder in recorders:
            context.enter_context(recorder.attached())
        task = context.enter_context(progress.task(title, total, "tokens"))
        if todo:
            longest = max((sequences[demo] for demo in todo), key=len)
            run([0], [_start_of(longest)], False)
        waiting: deque[tuple[list[int], dict[int, list[DeviceRecord]], int]] = deque()

        def take() -> None:
            demos, records, count = waiting.popleft()
            own = {index: _fetched(records[index]) for index in sorted(records)}
            for batch, found in group.collect((demos, own), count):
                keep(batch, found)
                task.advance(sum(len(sequences[demo]) for demo in batch))

        for start in range(0, len(batches), group.here.size):
            together = batches[start : start + group.here.size]
            # Who has no batch repeats another's: sharded weights come only where all ask for them.
            demos = together[min(group.here.number, len(together) - 1)]
            run(demos, [sequences[demo] for demo in demos], True)
            waiting.append((demos, dict(parts), len(together)))
            parts.clear()
            if len(waiting) > 1:  # kept while the device computes the next batch
                take()
        while waiting:
            take()


def observe_in_memory(
    model: "PreTrainedModel", sequences: Sequence[TokenSequence], **choices: Any
) -> dict[int, RoutedTokens]:
    """The same, with the records kept in memory: layer index -> record."""
    parts: dict[int, list[RoutedTokens]] = {}

    def keep(demos: Sequence[int], found: Mapping[int, RoutedTokens]) -> None:
        for index, part in found.items():
            parts.setdefault(index, []).append(part)

    run_in_memory(model, sequences, keep, **choices)
    return {index: RoutedTokens.concatenate(parts[index]) for index in sorted(parts)}


def _fetched(parts: list[DeviceRecord]) -> RoutedTokens:
    found = [part.fetch() for part in parts]
    return found[0] if len(found) == 1 else RoutedTokens.concatenate(found)


def _causal_passes(
    model: "PreTrainedModel", mtp: "MtpModel | None", sink: Sink, stream: str | None
) -> tuple[list[Recorder], Run]:
    """A recorder of a model's layers, and what runs it; arguments as in `run_in_memory`."""
    decoder = find_decoder(model)
    layers: dict[int, nn.Module] = dict(enumerate(decoder_layers(decoder)))
    if mtp is not None:
        layers |= {len(layers) + i: layer.mtp_block for i, layer in enumerate(mtp.layers)}
    recorder = Recorder(layers, sink, stream=stream)
    device = input_device(decoder)

    def run(demos: Sequence[int], rows: Sequence[TokenSequence], recorded: bool) -> None:
        ids, mask = _pad(rows, device)
        with recorder.batch(demos, rows, first=0, width=ids.shape[1], recorded=recorded):
            output = decoder(input_ids=ids, attention_mask=mask, use_cache=False)
        if mtp is not None:
            hidden, embedded = output.last_hidden_state, mtp.embed_tokens(ids)
            run_mtp(mtp, recorder, demos, rows, embedded, hidden, recorded=recorded)

    return [recorder], run


def _start_of(sequence: TokenSequence) -> TokenSequence:
    """What the recorder learns the layers' ways from, before the first batch."""
    ids = sequence.input_ids[:ENOUGH_TOKENS]
    return TokenSequence(ids, np.arange(len(ids)) >= len(ids) // 2)


def _pad(rows: Sequence[TokenSequence], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both [B, T], padded on the right."""
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.from_numpy(row.input_ids)
        mask[i, : len(row)] = 1
    return ids.to(device), mask.to(device)
