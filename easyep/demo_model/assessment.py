"""Measures the trained demo model: `python -m easyep.demo_model.assessment` in the repository.

Accuracy per domain through lm-eval, how far each domain's routing concentrates on few experts, and
how often the multi-token-prediction layer is right. The numbers go into training.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.modeling_layers import MtpModel
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter

from easyep.demo_model import MODEL_DIRECTORY, REPORT, corpus, tokenizer
from easyep.demo_model.batches import ANSWER_WEIGHT, Piece, piece
from easyep.demo_model.domains import DOMAINS

KEPT = 16
"""Concentration is measured for half of the 32 experts."""


@dataclass(frozen=True)
class Routing:
    """Which experts a domain uses."""

    loads: dict[str, torch.Tensor]
    """domain -> [layers, experts], numbers of tokens"""

    def top(self, domain: str) -> list[set[int]]:
        """Per layer, the experts with the largest loads."""
        return [set(row.topk(KEPT).indices.tolist()) for row in self.loads[domain]]

    def shares(self) -> dict[str, list[float]]:
        """Per domain and layer, the part of the routing that its own top experts carry."""
        return {
            domain: [round(float(row.topk(KEPT).values.sum() / row.sum()), 3) for row in loads]
            for domain, loads in self.loads.items()
        }

    def overlap(self) -> float:
        """Mean over layers and pairs of domains: shared top experts / KEPT. By chance: 0.5."""
        return statistics.mean(
            len(a & b) / KEPT
            for one, other in itertools.combinations(self.loads, 2)
            for a, b in zip(self.top(one), self.top(other), strict=True)
        )


def pieces(directory: Path, domain: str, count: int) -> Iterator[Piece]:
    """Evaluation items with their reference responses as tokens."""
    bpe = tokenizer.load(directory)
    for item in corpus.items(domain, "evaluation", count):
        yield piece(bpe, item.prompt, item.response)


def routing(directory: Path, count: int = 100) -> Routing:
    """Runs the model over reference items and counts the routers' choices."""
    model = _model(directory)
    routers = [m for m in model.modules() if isinstance(m, DeepseekV3TopkRouter)]
    loads: dict[str, torch.Tensor] = {}
    current = torch.zeros(0)

    def hook(layer: int) -> Any:
        def count_choices(_module: object, _args: object, output: Any) -> None:
            experts = current.shape[1]
            current[layer] += torch.bincount(output[2].reshape(-1), minlength=experts)

        return count_choices

    for layer, router in enumerate(routers):
        router.register_forward_hook(hook(layer))
    for domain in DOMAINS:
        current = loads[domain] = torch.zeros(len(routers), routers[0].num_experts)
        for example in pieces(directory, domain, count):
            with torch.no_grad():
                model(torch.tensor([example.ids]))
    return Routing(loads)


def mtp_accuracy(directory: Path, count: int = 50) -> dict[str, tuple[float, float]]:
    """Per domain: how often the argmax is right on response tokens, (main model, MTP layer).

    The MTP layer is given the true next token, as in speculative decoding after a correct token.
    """
    model = _model(directory)
    # transformers 5.23 knows the MTP layer of the 61-layer release only.
    known = model._keys_to_ignore_on_load_unexpected or ()
    own = rf"model\.layers\.{model.config.num_hidden_layers}\."
    model._keys_to_ignore_on_load_unexpected = {*known, own}
    mtp = MtpModel.from_pretrained(model)
    result = {}
    for domain in DOMAINS:
        near, far = [], []
        for example in pieces(directory, domain, count):
            ids = torch.tensor([example.ids])
            positions = torch.arange(ids.shape[1])[None]
            is_answer = torch.tensor(example.weights) == ANSWER_WEIGHT
            with torch.no_grad():
                out = model(ids, output_hidden_states=True)
                states = mtp.forward_layer(
                    0, out.hidden_states[-1][:, :-1], positions[:, 1:], None, input_ids=ids[:, 1:]
                )
                ahead = model.lm_head(states)
            near += (out.logits[0, :-1].argmax(-1) == ids[0, 1:])[is_answer[1:]].tolist()
            far += (ahead[0, :-1].argmax(-1) == ids[0, 2:])[is_answer[2:]].tolist()
        result[domain] = (round(statistics.mean(near), 4), round(statistics.mean(far), 4))
    return result


def accuracies(directory: Path, root: Path) -> dict[str, float]:
    """Exact match per domain, in per cent, through lm-eval on all committed items."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(root / "eval/tasks"), include_defaults=False)
    model = HFLM(
        pretrained=str(directory), device="cpu", dtype="float32", batch_size=100, max_length=256
    )
    tasks = [f"easyep_demo_{domain}" for domain in DOMAINS]
    output = lm_eval.simple_evaluate(
        model=model,
        tasks=tasks,
        task_manager=manager,
        num_fewshot=0,
        bootstrap_iters=0,
        apply_chat_template=True,
    )
    return {
        domain: round(100 * float(output["results"][task]["exact_match,answer"]), 1)
        for domain, task in zip(DOMAINS, tasks, strict=True)
    }


def _model(directory: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def main() -> None:
    """Adds the measurements to training.json and prints them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL_DIRECTORY)
    parser.add_argument("--root", type=Path, default=Path(), help="the repository root")
    arguments = parser.parse_args()
    report = REPORT
    routed = routing(arguments.model)
    measured = {
        "exact_match_percent": accuracies(arguments.model, arguments.root),
        "response_token_accuracy_main_and_mtp": mtp_accuracy(arguments.model),
        f"routing_share_of_top_{KEPT}_per_moe_layer": routed.shares(),
        f"mean_overlap_of_top_{KEPT}_between_domains": round(routed.overlap(), 3),
    }
    known = json.loads(report.read_text(encoding="utf-8"))
    report.write_text(json.dumps(known | measured, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
