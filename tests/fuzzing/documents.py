"""What a file says that is right, for every reader."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from easyep.architectures.router import Router
from easyep.selection import select
from tests.records import MODEL, observations, routed_tokens, scores

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
CONFIGS: tuple[dict[str, Any], ...] = (
    {"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 1}
    | {"num_hidden_layers": 1, "vocab_size": 9, "max_position_embeddings": 64},
    {"model_type": "deepseek_v3", "n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 2}
    | {"topk_group": 1, "num_hidden_layers": 3, "first_k_dense_replace": 1, "moe_layer_freq": 1}
    | {"num_nextn_predict_layers": 1, "quantization_config": {"quant_method": "fp8"}},
    {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "num_hidden_layers": 2}
    | {"decoder_sparse_step": 1, "mlp_only_layers": [0]},
    {"model_type": "x", "text_config": {"model_type": "llama4_text", "num_local_experts": 4}}
    | {"auto_map": {"AutoConfig": "code.Config"}, "num_experts_per_tok": 1},
    {"model_type": "jamba", "num_experts": 4, "num_experts_per_tok": 2, "num_hidden_layers": 4}
    | {"expert_layer_period": 2, "expert_layer_offset": 1},
)
TURN = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
DEMOS: tuple[dict[str, Any], ...] = (
    {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]},
    {"messages": [{"role": "assistant", "content": None, "tool_calls": [TURN]}], "tools": [{}]},
    {"prompt": "a", "response": "b", "check": {"kind": "math", "answer": "4"}, "topic": "sums"},
    {"text": "abc", "language": "en", "difficulty": "easy"},
    {"input_ids": [1, 2, 3], "response_start": 1},
)
RECIPES: tuple[dict[str, Any], ...] = (
    {"model": "demo", "domain": ["math:0.5", "code"], "keep": 0.5, "max_memory": {"cpu": "6GiB"}},
    {"model": "demo", "demos": "x.jsonl", "keep": 4, "max_shard_size": "5GB", "mask_ratio": [0.5]},
    {"dataset": "json", "data_files": "x.jsonl", "messages": [{"role": "user", "content": "{{q}}"}]}
    | {"metadata": {"topic": "x"}, "tools": "[]", "filter": "q", "count": 2},
)
REPLY = {
    "choices": [
        {
            "message": {"role": "assistant", "content": "4", "tool_calls": [TURN], "refusal": None},
            "finish_reason": "stop",
        }
    ],
    "usage": {"completion_tokens": 1},
}
EVENT = {"choices": [{"text": "a", "finish_reason": "length"}], "usage": {"completion_tokens": 1}}
SPECS: tuple[dict[str, Any], ...] = (
    {"kind": "math", "answer": "4"},
    {"kind": "choice", "answer": "A"},
    {"kind": "exact", "answer": "yes"},
    {"kind": "form", "words": [1, 5], "lines": 1, "contains": ["4"], "absent": ["x"], "json": True},
)
ROUTER = Router(num_experts=8, top_k=2, num_layers=3)
ANSWER = {"key": "k", "content": "4", "reasoning": "", "tool_calls": [TURN], "finish": "stop"}
PURPOSE = {"what": "a test"}


def _observed() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        observations().save(Path(folder) / "seen")
        return json.loads((Path(folder) / "seen" / "observations.json").read_text())


OBSERVED = _observed()
SELECTED = select(scores({1: [1.0, 2.0, 3.0, 4.0], 2: [4.0, 3.0, 2.0, 1.0]}), 2).to_json()
MANIFEST = {"schema": 1, "source": MODEL.to_json(), "selection": SELECTED, "mtp": "follow"}
MANIFEST |= {"checksums": {"config.json": "c" * 64}, "easyep": "0", "recipe": RECIPES[0]}
SCORES = scores({i: [float(n) for n in range(8)] for i in (1, 2)}).to_json()
STATE = {"schema": 2, "purpose": PURPOSE}
STATE |= {"finished": {FIRST: {"size": 1, "sha256": "s", "plan": "p"}}}
RECORD = routed_tokens().arrays()
PARTS = {"demos": np.array([0, 1]), **{f"1/{name}": each for name, each in RECORD.items()}}
EXPERTS = [
    f"model.layers.0.block_sparse_moe.experts.{n}.{w}.weight"
    for n in range(2)
    for w in ("w1", "w2", "w3")
]
ARRAYS = dict.fromkeys(EXPERTS, np.zeros((2, 2), np.float32))
INDEX = {
    "metadata": {"total_size": 112},
    "weight_map": {"model.layers.0.block_sparse_moe.gate.weight": SECOND}
    | dict.fromkeys(EXPERTS, FIRST),
}
