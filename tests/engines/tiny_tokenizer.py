"""A tokenizer of bytes, as small as llama.cpp's converter takes one."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

SPECIAL = ("<|endoftext|>", "<|user|>", "<|observation|>", "[gMASK]")  # GLM's converter asks
SIZE = 320  # of the models' vocabulary; the tokenizer fills 261


def save(path: Path) -> None:
    """Add the tokenizer to the checkpoint in `path`."""
    symbols = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "th"]
    model = BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[("t", "h")])
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[0],
    }
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
