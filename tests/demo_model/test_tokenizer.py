"""The tokenizer's promises: single digits, no loss, one begin token, masks of the response."""

from __future__ import annotations

import json
import random

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from easyep.demo_model import MODEL_DIRECTORY, tokenizer
from easyep.demo_model.batches import ANSWER_WEIGHT, ROW_LENGTH, piece
from easyep.demo_model.domains import DOMAINS


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return tokenizer.load(MODEL_DIRECTORY)


def test_digits_never_merge(bpe: Tokenizer) -> None:
    for token in bpe.get_vocab():
        assert len(token) == 1 or not any(c.isdigit() for c in token)
    assert bpe.encode("x  407").tokens[-3:] == ["4", "0", "7"]


@pytest.mark.parametrize(
    "text", ["What is 12 + 7?", "caf\u00e9 \u2192 \U0001f98a\n\tend ", "  a   1"]
)
def test_nothing_is_lost(bpe: Tokenizer, text: str) -> None:
    assert bpe.decode(bpe.encode(text).ids, skip_special_tokens=False) == text


def test_vocabulary_and_special_tokens(bpe: Tokenizer) -> None:
    assert bpe.get_vocab_size() == tokenizer.VOCABULARY
    assert [bpe.token_to_id(t) for t in tokenizer.SPECIAL_TOKENS] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("domain", DOMAINS)
def test_items_fit_and_training_sees_what_the_template_renders(bpe: Tokenizer, domain: str) -> None:
    fast = AutoTokenizer.from_pretrained(MODEL_DIRECTORY)
    rng = random.Random(6)
    for number in range(200):
        item = DOMAINS[domain](rng)
        trained = piece(bpe, item.prompt, item.response)
        assert len(trained.ids) <= ROW_LENGTH
        assert trained.weights.count(ANSWER_WEIGHT) <= 48  # the max_gen_toks of the tasks
        if number >= 10:
            continue
        chat = [
            {"role": "user", "content": item.prompt},
            {"role": "assistant", "content": item.response},
        ]
        rendered = fast.apply_chat_template(
            chat, return_dict=True, return_assistant_tokens_mask=True
        )
        assert rendered["input_ids"] == trained.ids
        mask = [int(weight == ANSWER_WEIGHT) for weight in trained.weights]
        assert rendered["assistant_masks"] == mask
        prompt = fast.apply_chat_template(chat[:1], add_generation_prompt=True)["input_ids"]
        assert prompt == trained.ids[: mask.index(1)]


def test_auto_tokenizer() -> None:
    fast = AutoTokenizer.from_pretrained(MODEL_DIRECTORY)
    assert (fast.pad_token_id, fast.bos_token_id, fast.eos_token_id) == (0, 1, 2)
    # The begin token comes from the chat template alone.
    assert fast("hello")["input_ids"][0] != fast.bos_token_id


@pytest.mark.slow
def test_training_the_tokenizer_again_gives_the_same() -> None:
    committed = json.loads((MODEL_DIRECTORY / "tokenizer.json").read_text(encoding="utf-8"))
    assert json.loads(tokenizer.train(seed=0).to_str()) == committed
