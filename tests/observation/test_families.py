"""Every family that transformers runs at tiny size: the records against float64, nothing changed.

The reference is a float64 copy of the model with transformers' own eager experts, asked for one
expert and one token at a time; what is around the experts is in `ways`.
"""

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from easyep.architectures import spec
from easyep.artifacts import RoutedTokens, TokenSequence
from easyep.observation.decoder import decoder_layers, find_decoder
from easyep.observation.in_memory import observe_in_memory
from easyep.observation.recorder import Recorder
from tests.observation.single_experts import routes_of
from tests.observation.test_recorder import sequence
from tests.observation.ways import WAYS, Way
from tests.tiny_models.random_model import random_model
from tests.tiny_models.settings import Numbers, load_settings

SETTINGS = load_settings()
NOT_RUN = {
    "diffusion_gemma": "its decoder wants an encoder's output, which text alone does not give",
}
RUN = [
    name
    for name, family in SETTINGS.items()
    if (family.runs is True or name == "longcat_flash") and name not in NOT_RUN
]
# One of each way through the recorder; the others are in the slow suite.
QUICK = {
    *("afmoe", "axk1", "beam", "dbrx", "deepseek_v3", "deepseek_v4", "gemma4", "gpt_oss"),
    *("granitemoeshared", "inkling2", "jetmoe", "laguna", "llama4", "longcat_flash", "minimax"),
    *("muse_spark", "nemotron_h", "qwen4_exp", "step3p7", "zaya"),
}
# transformers' default for this family is another implementation.
NOT_BIT_EQUAL = {"openai_privacy_filter"}
NOT_IN_BFLOAT16 = {
    "inkling2": "some of its weights are float32 always, which only loading brings about",
    "openai_privacy_filter": "two implementations differ there by more than rounding",
    "qwen3_vl_moe": "transformers' grouped_mm refuses such small matrices in this layout",
}
# Its code has types of its own and does not run in float64.
FLOAT32_ONLY = {"inkling2"}
LENGTH = 20


@cache
def model_of(family: str, dtype: str = "float32") -> Any:
    settings = SETTINGS[family]
    numbers = Numbers(settings.num_experts, settings.default_top_k, settings.layers, 64)
    generator = torch.Generator().manual_seed(0)
    return random_model(settings, numbers, {}, dtype, generator).eval()


def stream_of(family: str) -> str | None:
    return spec.get(family).observation.stream if family in spec.names() else None


def observed(family: str, sequences: list[TokenSequence], **choices: Any) -> dict[int, Any]:
    return observe_in_memory(model_of(family), sequences, stream=stream_of(family), **choices)


@torch.no_grad()
def reference(family: str, ids: torch.Tensor) -> dict[int, dict[str, np.ndarray]]:
    """Layer -> the arrays of RoutedTokens in float64, experts in ascending order."""
    way = WAYS.get(family, Way())
    model = copy.deepcopy(model_of(family))
    if family not in FLOAT32_ONLY:
        model = model.double()
    model.set_experts_implementation("eager")
    decoder = find_decoder(model)
    layers = {
        i: layer
        for i, layer in enumerate(decoder_layers(decoder))
        if any(way.experts == name for name, _ in layer.named_modules())
        and "MLP" not in type(layer.get_submodule(way.experts)).__name__  # a dense layer
    }
    calls: dict[tuple[int, str], tuple[tuple[Any, ...], Any]] = {}
    with torch.no_grad():
        for i, layer in layers.items():
            names = [way.experts, way.stream, *way.norms, way.projection, way.convolution]
            for name in filter(None, names):

                def hook(module, args, kwargs, output, key=(i, name)):
                    calls[key] = ((*args, *kwargs.values()), output)

                layer.get_submodule(name).register_forward_hook(hook, with_kwargs=True)
        decoder(input_ids=ids[None], use_cache=False)
    seen = dict(calls)
    return {
        i: _layer(layer, way, {n: c for (j, n), c in seen.items() if i == j})
        for i, layer in layers.items()
    }


def _layer(layer: Any, way: Way, calls: dict[str, Any]) -> dict[str, np.ndarray]:
    routes = routes_of(layer.get_submodule(way.experts), calls[way.experts][0])
    tensors = [arg for arg in calls[way.stream][0] if isinstance(arg, torch.Tensor)]
    stream = tensors[way.place].reshape(len(routes), way.streams, -1).mean(1)
    routed = torch.stack(
        [sum((g * e for g, e in token.values()), torch.zeros(width_of(routes))) for token in routes]
    )
    if way.projection is not None:
        routed = layer.get_submodule(way.projection)(routed)
    factor = way.factor
    if isinstance(factor, str):
        owner, name = factor.rsplit(".", 1)
        factor = float(getattr(layer.get_submodule(owner), name))
    added = routed * factor
    for name in way.norms:
        (source, *_), output = calls[name]
        added = added * (output / source).reshape(added.shape)
    if way.convolution is not None:
        added = layer.get_submodule(way.convolution)(added[None])[0]
    a, c = way.scales(layer)
    before, after = a * stream, a * stream + c * added
    cosine = torch.nn.functional.cosine_similarity(before, after, dim=-1)
    k = max(map(len, routes))
    rows = [
        sorted(token.items()) + [(0, (0.0, torch.zeros(1)))] * (k - len(token)) for token in routes
    ]
    return {
        "expert_ids": np.array([[e for e, _ in row] for row in rows]),
        "weights": np.array([[g * factor for _, (g, _) in row] for row in rows]),
        "output_norms": np.array(
            [[float(torch.linalg.norm(e)) for _, (_, e) in row] for row in rows]
        ),
        "residual_shift": (1 - cosine).clamp(min=0).numpy(),
    }


def width_of(routes: list[dict[int, Any]]) -> int:
    return len(next(e for token in routes for _, e in token.values()))


def ordered(record: RoutedTokens, k: int) -> dict[str, np.ndarray]:
    """A record's arrays, experts in ascending order, what is no route behind them."""
    order = np.lexsort((record.expert_ids, record.weights == 0), axis=1)[:, :k]
    return {
        name: np.take_along_axis(getattr(record, name), order, axis=1)
        for name in ("expert_ids", "weights", "output_norms")
    }


families = pytest.mark.parametrize(
    "family",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RUN],
)


@families
def test_the_record_equals_the_float64_reference(family):
    demo = sequence(LENGTH, 60)
    expected = reference(family, torch.from_numpy(demo.input_ids))
    found = observed(family, [demo])
    count = len(decoder_layers(find_decoder(model_of(family))))
    assert [i for i in found if i < count] == list(expected)  # behind: second sets
    for index, exact in expected.items():
        record = found[index]
        arrays = ordered(record, exact["expert_ids"].shape[1])
        assert np.array_equal(arrays["expert_ids"], exact["expert_ids"])
        np.testing.assert_allclose(arrays["weights"], exact["weights"], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(arrays["output_norms"], exact["output_norms"], rtol=1e-3)
        np.testing.assert_allclose(
            record.residual_shift, exact["residual_shift"], rtol=5e-3, atol=1e-7
        )


@families
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_is_changed(family, dtype):
    if dtype == "bfloat16" and family in NOT_IN_BFLOAT16:
        pytest.skip(NOT_IN_BFLOAT16[family])
    model = model_of(family, dtype)
    decoder, rows = find_decoder(model), [sequence(LENGTH, 60)]
    recorder = Recorder(
        dict(enumerate(decoder_layers(decoder))),
        lambda index, record: None,
        stream=stream_of(family),
    )
    ids = torch.from_numpy(rows[0].input_ids)[None]

    def run() -> torch.Tensor:
        return decoder(input_ids=ids, use_cache=False).last_hidden_state

    with torch.inference_mode():
        plain = run()
        with recorder.attached(), recorder.batch([0], rows, first=0, width=LENGTH):
            seen = [run(), run()]  # the first learns the paths, the second knows them
        assert torch.equal(run(), plain)
    if family in NOT_BIT_EQUAL:
        torch.testing.assert_close(seen[0], plain, rtol=0.05, atol=0.05)
    else:
        assert torch.equal(seen[0], plain)
        assert torch.equal(seen[1], plain)


@families
def test_later_tokens_and_other_demonstrations_change_nothing(family):
    if family == "openai_privacy_filter":
        pytest.skip("its attention looks both ways")
    first = sequence(LENGTH, 60)
    changed = TokenSequence(first.input_ids.copy(), first.is_response)
    changed.input_ids[12:] = sequence(LENGTH - 12, 60, seed=9).input_ids
    alone = observed(family, [first])
    together = observed(family, [changed, sequence(9, 60, seed=3), first], batch_size=3)
    for index, record in alone.items():
        batch = together[index]
        early = batch.where(batch.demo == 0).where(np.arange(LENGTH) < 12)
        _same(early, record.where(np.arange(LENGTH) < 12))
        _same(batch.where(batch.demo == 2), record)


def _same(one: RoutedTokens, other: RoutedTokens) -> None:
    """Equal up to the rounding that another batch brings (2e-4; the shift: 2e-3)."""
    assert np.array_equal(one.expert_ids, other.expert_ids)
    np.testing.assert_allclose(one.weights, other.weights, rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(one.output_norms, other.output_norms, rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(one.residual_shift, other.residual_shift, rtol=2e-3, atol=1e-7)
