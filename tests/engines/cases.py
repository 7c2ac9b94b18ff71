"""Tiny checkpoints of families that several engines run, and what is pruned from them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from easyep.artifacts.selection import Selection
from easyep.checkpoint.rewriting import rewrite
from easyep.demo_model import corpus
from tests.engines import tiny_tokenizer
from tests.tiny_models import WITH_MTP, build
from tests.tiny_models.choosing import choose_at_random

# Of gpt-oss, but for `truncate`, which llama.cpp does not read: see test_llama_cpp.
YARN = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": True,
    "original_max_position_embeddings": 4096,
    "rope_theta": 150000.0,
}


@dataclass(frozen=True)
class Case:
    """Which checkpoint, and how it is pruned.

    Attributes:
        keep: experts per layer; None: half.
        config: further entries of the configuration.
        masked: what the original's configuration must say to route as the pruned one does.
    """

    name: str
    family: str
    keep: int | None = None
    groups: str = "balanced"
    config: dict[str, Any] = field(default_factory=dict)
    masked: dict[str, Any] = field(default_factory=dict)


CASES = (
    *(Case(name, name) for name in ("qwen3_moe", "qwen2_moe", "mixtral", "olmoe", "glm4_moe")),
    Case("deepseek_v3", "deepseek_v3"),
    Case("deepseek_v3, flatten", "deepseek_v3", 6, "flatten", {}, {"n_group": 1, "topk_group": 1}),
    Case("gpt_oss", "gpt_oss", config={"rope_parameters": YARN}),
)


@dataclass(frozen=True)
class Checkpoints:
    """A tiny checkpoint at `source`, pruned to `selection` at `path`."""

    case: Case
    source: Path
    selection: Selection
    path: Path


def make(case: Case, folder: Path) -> Checkpoints:
    """Build and prune, in the empty directory `folder`."""
    source = build(
        case.family,
        folder / "source",
        vocab_size=tiny_tokenizer.SIZE,
        mtp=int(case.family in WITH_MTP),
        **case.config,
    )
    tiny_tokenizer.save(source)
    selection = choose_at_random(source, case.keep, case.groups)
    return Checkpoints(case, source, selection, rewrite(source, selection, folder / "out").path)


def demo_prompts(path: Path) -> list[list[int]]:
    """Eight questions of the domain that the demo model is pruned for in tests, as it is asked."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": item.prompt}],
            add_generation_prompt=True,
            return_dict=False,
        )
        for item in corpus.items("math", "evaluation", 8)
    ]
