"""Runs a diffusion model over demonstrations, recorded."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from easyep.artifacts import TokenSequence
from easyep.observation.decoder import decoder_layers, find_decoder
from easyep.observation.denoising import Denoising, views
from easyep.observation.recorder import Recorder
from easyep.observation.tap import Sink

# Runs some demonstrations, by number and content, recorded or not.
Run = Callable[[Sequence[int], Sequence[TokenSequence], bool], None]


def denoising_passes(
    model: Any, how: Denoising, sink: Sink, stream: str | None
) -> tuple[list[Recorder], Run]:
    """Recorders of a diffusion model's layers, and what runs it at all ratios.

    Args:
        model: the model.
        how: as what it is run; demonstrations are run one by one, so that none is padded.
        sink, stream: as in `Recorder`.
    """
    decoder = find_decoder(model)
    recorder = Recorder(dict(enumerate(decoder_layers(decoder))), sink, stream=stream)
    if how.kind == "canvas":
        encoder = model.get_encoder()
        layers = decoder_layers(find_decoder(encoder))
        other = Recorder(dict(enumerate(layers)), sink, stream=stream)
        return [recorder, other], _on_canvas(decoder, encoder, recorder, other, how)

    def run(demos: Sequence[int], rows: Sequence[TokenSequence], recorded: bool) -> None:
        for demo, row in zip(demos, rows, strict=True):
            for view in views(row, how):
                given: dict[str, Any] = {"position_ids": view.positions[None].to(model.device)}
                if view.allowed is not None:
                    blocked = torch.zeros(view.allowed.shape, dtype=model.dtype)
                    blocked.masked_fill_(~view.allowed, float("-inf"))
                    given["attention_mask"] = blocked[None, None].to(model.device)
                ids = torch.from_numpy(view.tokens.input_ids)[None].to(model.device)
                one = [view.tokens]
                with recorder.batch([demo], one, 0, len(view.tokens), recorded=recorded):
                    decoder(input_ids=ids, use_cache=False, **given)

    return [recorder], run


def _on_canvas(
    decoder: Any, encoder: Any, in_work: Recorder, finished: Recorder, how: Denoising
) -> Run:
    """The encoder reads the prompt and each finished block; the decoder, each block in work.

    The decoder gets no probabilities of an earlier step (`self_conditioning_logits`): every ratio
    is a first step.
    """

    def one(demo: int, row: TokenSequence, recorded: bool) -> None:
        changed = row.is_response.nonzero()[0]
        first = max(1, int(changed[0]) if len(changed) else 1)
        starts = range(first, len(row), how.block)
        bounds = [(start, min(start + how.block, len(row))) for start in starts]
        cache = None
        for begin, end in [(0, first), *bounds]:
            if begin:
                for ratio in how.ratios:
                    ids = how.corrupted(row, ratio)[begin:end]
                    part = TokenSequence(ids, row.is_response[begin:end])
                    with in_work.batch([demo], [part], 0, len(part), recorded=recorded):
                        decoder(decoder_input_ids=_ids(part, decoder), past_key_values=cache)
            part = TokenSequence(row.input_ids[begin:end], row.is_response[begin:end])
            with finished.batch([demo], [part], 0, len(part), recorded=recorded):
                cache = encoder(
                    input_ids=_ids(part, decoder), past_key_values=cache
                ).past_key_values

    def run(demos: Sequence[int], rows: Sequence[TokenSequence], recorded: bool) -> None:
        for demo, row in zip(demos, rows, strict=True):
            one(demo, row, recorded)

    return run


def _ids(part: TokenSequence, model: Any) -> torch.Tensor:
    return torch.from_numpy(part.input_ids)[None].to(model.device)
