"""A model whose code comes with the checkpoint, in two styles that such code has."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from easyep.errors import ObservationError
from easyep.observation.adapters import module_list
from easyep.observation.decoder import find_decoder, input_device, input_embeddings
from easyep.observation.in_memory import observe_in_memory
from tests.observation.test_recorder import sequence

EXPERTS, TOP_K, HIDDEN, INNER = 6, 2, 16, 12


class Expert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(HIDDEN, INNER, bias=False)
        self.up = nn.Linear(HIDDEN, INNER, bias=False)
        self.down = nn.Linear(INNER, HIDDEN, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


class LoopOverExperts(nn.Module):
    """One expert after the other picks its tokens, as the first Mixtral code did."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(HIDDEN, EXPERTS, bias=False)
        self.experts = nn.ModuleList(Expert() for _ in range(EXPERTS))
        self.last: tuple[torch.Tensor, torch.Tensor] | None = None

    def route(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weights, ids = self.router(x).softmax(-1).topk(TOP_K)
        self.last = (ids, weights / weights.sum(-1, keepdim=True))
        return self.last

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        x = hidden.view(-1, HIDDEN)
        ids, weights = self.route(x)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            tokens, slots = torch.where(ids == number)
            out.index_add_(0, tokens, expert(x[tokens]) * weights[tokens, slots, None])
        return out.view_as(hidden)


class SortedTokens(LoopOverExperts):
    """Tokens sorted by expert, a scale and a shared expert, as the first DeepSeek code did."""

    scale = 2.5

    def __init__(self) -> None:
        super().__init__()
        self.shared_experts = Expert()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        x = hidden.view(-1, HIDDEN)
        ids, weights = self.route(x)
        order = ids.view(-1).argsort()
        rows, counts = x[order // TOP_K], ids.view(-1).bincount(minlength=EXPERTS).tolist()
        outputs = [
            self.experts[number](part)
            for number, part in enumerate(rows.split(counts))
            if len(part)
        ]
        back = torch.empty_like(rows)
        back[order] = torch.cat(outputs)
        routed = (back.view(*ids.shape, HIDDEN) * weights[..., None]).sum(1) * self.scale
        self.last = (ids, weights * self.scale)
        return (routed + self.shared_experts(x)).view_as(hidden)


class ReadsSomethingElse(LoopOverExperts):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        x = hidden.view(-1, HIDDEN)
        ids, weights = self.route(x)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            tokens, slots = torch.where(ids == number)
            out.index_add_(0, tokens, expert(x[tokens] / 2) * weights[tokens, slots, None])
        return out.view_as(hidden)


def model_with(block: type[nn.Module]) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    model = LlamaForCausalLM(config)
    for layer in model.model.layers:
        layer.mlp = block()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    return model.eval()


@pytest.mark.parametrize("block", [LoopOverExperts, SortedTokens])
@pytest.mark.parametrize("at_once", [1, 7, 256])
def test_routes_and_weights_are_found(block, at_once, monkeypatch):
    monkeypatch.setattr(module_list, "AT_ONCE", at_once)
    model = model_with(block)
    demo = sequence(15, 32)
    demo.input_ids[:] = np.r_[demo.input_ids[:5], 7, 7, 7, demo.input_ids[8:]]
    ids = torch.from_numpy(demo.input_ids)[None]
    with torch.inference_mode():
        plain = model(ids).logits
        found = observe_in_memory(model, [demo, demo], batch_size=2)
        assert torch.equal(model(ids).logits, plain)
        model(ids)
    for index, record in found.items():
        layer = model.model.layers[index].mlp
        expected_ids, expected = (value.detach().numpy() for value in layer.last)
        for half in (0, 1):  # both copies of the demonstration, whose rows are equal
            part = record.where(record.demo == half)
            order, wanted = part.expert_ids.argsort(1), expected_ids.argsort(1)
            assert np.array_equal(
                np.take_along_axis(part.expert_ids, order, 1),
                np.take_along_axis(expected_ids, wanted, 1),
            )
            np.testing.assert_allclose(
                np.take_along_axis(part.weights, order, 1),
                np.take_along_axis(expected, wanted, 1),
                rtol=1e-3,
                atol=1e-5,
            )
            assert (part.output_norms > 0).all()
            assert (part.residual_shift > 0).all()


def test_experts_that_read_something_else_are_refused():
    with pytest.raises(ObservationError, match="something else than rows"):
        observe_in_memory(model_with(ReadsSomethingElse), [sequence(9, 32)])


CODE = """
import torch
from torch import nn
from transformers import LlamaForCausalLM
from .configuration_own import OwnConfig
"""


def test_a_decoder_that_does_not_say_where_tokens_go_in():
    own = nn.Module()
    own.norm, own.words = nn.LayerNorm(HIDDEN), nn.Embedding(3, HIDDEN)
    assert input_embeddings(own) is own.words
    assert input_device(own) == torch.device("cpu")
    with pytest.raises(ObservationError, match="Linear has neither .* where token ids go in"):
        input_embeddings(nn.Linear(2, 2))


def test_code_in_the_checkpoint_runs_only_when_it_is_trusted(tmp_path: Path):
    from easyep.errors import UnsupportedModelError
    from easyep.loading import load_model

    own = Path(__file__).read_text()
    classes = own[own.index("class Expert(") : own.index("class SortedTokens(")]
    (tmp_path / "configuration_own.py").write_text(
        "from transformers import LlamaConfig\n\n\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own_moe'\n"
    )
    (tmp_path / "modeling_own.py").write_text(
        CODE
        + f"EXPERTS, TOP_K, HIDDEN, INNER = {EXPERTS}, {TOP_K}, {HIDDEN}, {INNER}\n\n\n"
        + classes
        + "class OwnForCausalLM(LlamaForCausalLM):\n"
        "    config_class = OwnConfig\n\n"
        "    def __init__(self, config):\n"
        "        super().__init__(config)\n"
        "        for layer in self.model.layers:\n"
        "            layer.mlp = LoopOverExperts()\n"
        "        self.post_init()\n"
    )
    model = model_with(LoopOverExperts)
    model.config.auto_map = {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
    }
    model.save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text().replace('"llama"', '"own_moe"')
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UnsupportedModelError, match="--trust-remote-code"):
        load_model(tmp_path, dtype="float32", device="cpu")
    loaded = load_model(tmp_path, dtype="float32", device="cpu", trust_remote_code=True)
    demo = sequence(12, 32)
    expected, found = observe_in_memory(model, [demo]), observe_in_memory(loaded, [demo])
    for index, record in expected.items():
        assert np.array_equal(found[index].expert_ids, record.expert_ids)
        np.testing.assert_allclose(found[index].weights, record.weights, rtol=1e-5)


def test_a_decoder_that_calls_its_tokens_otherwise():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(2, 2)])

        def forward(self, tokens: Any) -> Any:
            return tokens

    with pytest.raises(ObservationError, match=r"Own.forward takes no input_ids \(tokens\)"):
        find_decoder(Own())
