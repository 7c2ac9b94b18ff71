"""Answers from a model that is loaded here, with transformers."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from easyep.demonstrations import conversation
from easyep.demonstrations.server import Answer, split_thinking
from easyep.errors import DemosError


class InProcess:
    """A model in memory; one question at a time.

    Attributes:
        tools_as_text: the chat template left out tools or calls, so that they were written into
            the messages, as for calibration.

    Args:
        model: a transformers causal language model.
        tokenizer: with a chat template.
        max_tokens: of an answer, thinking included.
        temperature: 0 takes the likeliest token each time.
        seed: for sampling.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, max_tokens: int, temperature: float, seed: int
    ) -> None:
        if not tokenizer.chat_template:
            raise DemosError("the model's tokenizer has no chat template, so it cannot be asked")
        self._model, self._tokenizer = model, tokenizer
        self._max_tokens, self._temperature, self._seed = max_tokens, temperature, seed
        self._lock = threading.Lock()
        self.tools_as_text = False

    def answer(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any],
        stopped: threading.Event | None = None,
    ) -> Answer:
        """Ask.

        Args:
            messages: the conversation so far.
            tools: what the model may call, as in the chat completions API.
            stopped: set where nobody wants the answer any more; it ends with the next token.

        Raises:
            DemosError: the chat template refuses the messages, or they are too long.
        """
        import torch

        prompt = self._tokenizer(
            self._prompt(messages, tools),
            add_special_tokens=False,
            return_tensors="pt",
            verbose=False,  # that it has more tokens than positions is told below
        )
        length = prompt["input_ids"].shape[1]
        limit = getattr(self._model.config, "max_position_embeddings", None)
        room = self._max_tokens if limit is None else min(self._max_tokens, limit - length)
        if room < 1:
            raise DemosError(f"a prompt of {length} tokens fills the model's {limit} positions")
        ends = end_tokens(self._model, self._tokenizer)
        sampling: dict[str, Any] = {
            "do_sample": self._temperature > 0,
            "eos_token_id": sorted(ends) or None,
        }
        if self._temperature > 0:
            sampling["temperature"] = self._temperature
        if stopped is not None:
            sampling["stopping_criteria"] = [
                lambda ids, _: torch.full(ids.shape[:1], stopped.is_set(), device=ids.device)
            ]
        with self._lock, torch.inference_mode():
            if stopped is not None and stopped.is_set():
                raise DemosError("nobody wants the answer any more")
            torch.manual_seed(self._seed)
            made = self._model.generate(
                **prompt.to(self._model.device), max_new_tokens=room, **sampling
            )[0, length:]
        finished = int(made[-1]) in ends
        text = self._tokenizer.decode(made, skip_special_tokens=True)
        opened = self._tokenizer.decode(prompt["input_ids"][0][-8:]).rstrip().endswith("<think>")
        if not finished and (opened or "<think>" in text) and "</think>" not in text:
            return Answer("", text.replace("<think>", "", 1).strip(), finish="length")
        thought, content = split_thinking(text)
        return Answer(content, thought, finish="stop" if finished else "length")

    def _prompt(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any]) -> str:
        """What the chat template writes before the answer, with everything that was asked."""
        refusal: Exception | None = None
        for told, options in conversation.forms(messages, tools, thinking=False):
            # Whether to think is left to the template, as a server leaves it.
            given = {"tools": options["tools"]} if options.get("tools") else {}
            try:
                text: str = self._tokenizer.apply_chat_template(
                    told, tokenize=False, add_generation_prompt=True, **given
                )
            except Exception as error:  # templates raise what they like
                refusal = refusal or error
                continue
            if conversation.shows(text, told, given.get("tools", ())):
                self.tools_as_text |= bool(tools) and not given
                return text
        why = f"the chat template refuses the messages: {refusal}"
        raise DemosError(why if refusal else "the chat template leaves out part of the messages")


def end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """The tokens that end an answer: the model's or, where it states none, the tokenizer's."""
    stated = getattr(model.generation_config, "eos_token_id", None)
    stated = tokenizer.eos_token_id if stated is None else stated
    return set(stated) if isinstance(stated, list) else {stated} - {None}
