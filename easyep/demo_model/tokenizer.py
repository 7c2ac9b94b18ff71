"""The demo's tokenizer: byte-level BPE with 512 entries, and its chat template.

The tokenizer is trained with digits cut apart, so no merge contains a digit; at run time the plain
byte-level split is enough to give the same ids (and other runtimes know it as the GPT-2 split).
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from easyep.demo_model.domains import DOMAINS, stories
from easyep.demo_model.items import draw

VOCABULARY = 512
PAD, BEGIN, END, USER, ASSISTANT = "<|pad|>", "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"
#: In the order of their ids, from 0.
SPECIAL_TOKENS = (PAD, BEGIN, END, USER, ASSISTANT)

#: The begin token is written here and nowhere else: the tokenizer itself adds no special tokens.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}<|assistant|>"
    "{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}{{ raise_exception('The demo model knows the roles user and assistant only.') }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def training_text(seed: int, per_domain: int) -> Iterator[str]:
    """Training text of every domain and of the stories, in equal numbers of pieces."""
    for name, sample in DOMAINS.items():
        rng = random.Random(f"tokenizer {seed} {name}")
        for item in itertools.islice(draw(sample, rng, "train"), per_domain):
            yield item.prompt
            yield item.response
    rng = random.Random(f"tokenizer {seed} stories")
    for _ in range(per_domain // 2):
        yield stories.sample(rng)


def train(seed: int = 0, per_domain: int = 3000) -> Tokenizer:
    """A new tokenizer; the same seed gives the same one."""
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), byte_level]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_text(seed, per_domain), trainer)
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def save(tokenizer: Tokenizer, directory: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json, loadable by `AutoTokenizer`."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 2048,
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": PAD,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(config, indent=2) + "\n"
    (directory / "tokenizer_config.json").write_text(text, encoding="utf-8")


def load(directory: Path) -> Tokenizer:
    """The tokenizer that `save` wrote."""
    return Tokenizer.from_file(str(directory / "tokenizer.json"))
