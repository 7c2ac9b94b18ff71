"""Streamed and in-memory observations agree."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from easyep.architectures import spec
from easyep.artifacts import RoutedTokens, TokenSequence
from easyep.checkpoint.files import Checkpoint
from easyep.errors import CheckpointError, ObservationError
from easyep.loading import load_model
from easyep.observation import tap
from easyep.observation.in_memory import observe_in_memory
from easyep.observation.learning import ENOUGH_TOKENS
from easyep.observation.multi_token import load_mtp
from easyep.observation.stream_state import Remembered, StreamState
from easyep.observation.streaming import run_streaming
from easyep.observation.tap import LayerTap
from easyep.observation.weights.partial import PartialModel
from easyep.source import Source
from tests.checkpoint.test_quantised_logits import BLOCK, quantised, to_fp8, to_mxfp4
from tests.tiny_models import build
from tests.tiny_models.random_model import skip_without_mtp

SEQUENCES = [
    TokenSequence(
        input_ids=np.random.default_rng(n).integers(2, 60, n), is_response=np.arange(n) > n // 2
    )
    for n in (9, 17, 1, 5)
]

FAMILIES = ["deepseek_v3", "deepseek_v4", "glm4_moe", "gpt_oss", "jetmoe", "mixtral", "qwen3_moe"]


def partial(path: Path, **choices: Any) -> PartialModel:
    source = Source.open(path)
    return PartialModel(source.checkpoint, source.layout, **choices)


def streamed(
    model: PartialModel,
    sequences: Sequence[TokenSequence] = SEQUENCES,
    expert_bytes: int = 20_000,
    found: dict[int, RoutedTokens] | None = None,
    **choices: Any,
) -> dict[int, RoutedTokens]:
    found = {} if found is None else found
    run_streaming(model, sequences, found.__setitem__, expert_bytes=expert_bytes, **choices)
    return found


def assert_agree(
    path: Path, rtol: float = 1e-6, *, stream: str | None = None, **choices: Any
) -> None:
    model = load_model(path, device="cpu")
    mtp = load_mtp(model) if choices.get("with_mtp") else None
    expected = observe_in_memory(model, SEQUENCES, stream=stream, mtp=mtp)
    found = streamed(partial(path, **choices), stream=stream)
    assert sorted(found) == list(expected)
    for layer, record in expected.items():
        mine = found[layer]
        for name in ("expert_ids", "demo", "is_response"):
            assert np.array_equal(getattr(mine, name), getattr(record, name)), (layer, name)
        for name in ("weights", "output_norms"):
            np.testing.assert_allclose(getattr(mine, name), getattr(record, name), rtol=rtol)
        np.testing.assert_allclose(mine.residual_shift, record.residual_shift, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "family",
    ["deepseek_v3", "qwen3_moe", "glm4_moe", "gpt_oss", "mixtral", "deepseek_v4", "jetmoe"],
)
def test_records_agree_with_those_of_the_whole_model(
    tmp_path: Path, family: str, dtype: str
) -> None:
    assert_agree(build(family, tmp_path / "m", dtype=dtype))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("family", "depth"), [("deepseek_v3", 1), ("glm4_moe", 2), ("mellum", 1)])
def test_mtp_layers(tmp_path: Path, family: str, depth: int, dtype: str) -> None:
    skip_without_mtp(family)
    path = build(family, tmp_path / "m", mtp=depth, dtype=dtype)
    assert_agree(path, with_mtp=True)
    found = streamed(partial(path, with_mtp=True))
    last = Source.open(path).layout.mtp_layers
    assert [np.bincount(found[layer].demo).tolist() for layer in last] == [
        [max(0, len(each) - 1 - number) for each in SEQUENCES] for number in range(depth)
    ]


def test_tensors_of_layers_under_names_outside_of_them(tmp_path: Path) -> None:
    path = build("inkling2", tmp_path / "m")
    model = partial(path)
    queries = [name for name in model.checkpoint.tensors if ".attn_res." in name]
    assert len(queries) == 6  # one of them is in no layer
    assert sum(name in names for names in model._dense.values() for name in queries) == 5
    assert_agree(path, stream=spec.get("inkling2").observation.stream)


def test_a_number_that_transformers_sets_whatever_the_file_says(tmp_path: Path) -> None:
    """ZAYA's bias of the skipped expert: what is observed is the model that transformers runs."""
    path = build("zaya", tmp_path / "m")
    for shard in path.glob("*.safetensors"):
        tensors = load_file(shard)
        for name in tensors:
            if name.endswith("balancing_biases"):
                tensors[name][-1] = 1.0  # every token would take it
        save_file(tensors, shard, metadata={"format": "pt"})
    assert_agree(path)
    model = partial(path)
    model.load_layer(1)
    buffers = dict(model.layers[1].named_buffers())
    assert float(buffers["mlp.gate.balancing_biases"][-1]) == -1.0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["qwen3_moe", "deepseek_v3"])
def test_fp8_in_blocks(tmp_path: Path, family: str, dtype: str) -> None:
    path = build(family, tmp_path / "m", shard_bytes=None, intermediate_size=32, dtype=dtype)
    quantised(path, {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]}, to_fp8)
    assert_agree(path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_mxfp4_of_gpt_oss(tmp_path: Path, dtype: str) -> None:
    path = build("gpt_oss", tmp_path / "m", shard_bytes=None, intermediate_size=32, dtype=dtype)
    left_out = ["lm_head", "model.embed_tokens"]
    quantised(path, {"quant_method": "mxfp4", "modules_to_not_convert": left_out}, to_mxfp4)
    loaded = load_model(path, device="cpu").get_parameter("model.layers.0.mlp.experts.down_proj")
    if loaded.dtype != getattr(torch, dtype):
        pytest.skip("this transformers computes MXFP4 experts in bfloat16 in every model")
    assert_agree(path)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return build("qwen3_moe", tmp_path / "m")


def test_how_many_experts_are_held_changes_nothing(tmp_path: Path) -> None:
    path = build("qwen3_moe", tmp_path / "m", top_k=4)  # sums of three depend on their order
    few, all_of_them = (streamed(partial(path), expert_bytes=n) for n in (1, 10**9))
    for layer, record in few.items():
        assert np.array_equal(record.output_norms, all_of_them[layer].output_norms)
        assert np.array_equal(record.residual_shift, all_of_them[layer].residual_shift)


def test_only_experts_that_are_hit_are_read_and_each_once(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, int]] = []
    original = PartialModel.read_experts

    def spy(self: PartialModel, layer: int, ids: Sequence[int]) -> Any:
        read.extend((layer, expert) for expert in ids)
        return original(self, layer, ids)

    monkeypatch.setattr(PartialModel, "read_experts", spy)
    found = streamed(partial(tiny), SEQUENCES[2:3])
    hit = {(layer, int(e)) for layer, r in found.items() for e in r.expert_ids.reshape(-1)}
    assert sorted(read) == sorted(hit)
    assert len(read) == 3 * 2  # one token, two experts in each layer


def test_a_layers_way_is_learnt_from_one_pass(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning runs a block a second time; the passes that wait in it meanwhile do not."""
    again: list[int] = []
    original = LayerTap._after_block
    monkeypatch.setattr(
        LayerTap,
        "_after_block",
        lambda self, call: again.append(self.index) or original(self, call),
    )
    streamed(partial(tiny))
    assert again == [0, 1, 2]


def test_nothing_is_left_of_a_run(tiny: Path) -> None:
    model = partial(tiny)
    before = threading.active_count()
    streamed(model)
    assert threading.active_count() == before
    assert all(p.is_meta for layer in model.layers for p in layer.parameters())
    assert not model.layers[0]._forward_pre_hooks


def test_an_error_in_a_pass_ends_the_run(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()

    def broken(self: PartialModel, layer: int, ids: Sequence[int]) -> Any:
        raise CheckpointError("the disk is gone")

    monkeypatch.setattr(PartialModel, "read_experts", broken)
    with pytest.raises(CheckpointError, match="the disk is gone"):
        streamed(partial(tiny))
    assert threading.active_count() == before


def test_a_missing_weight_is_named(tiny: Path) -> None:
    model = partial(tiny)
    model._dense[1] = [name for name in model._dense[1] if "q_proj" not in name]
    with pytest.raises(CheckpointError, match=r"no weight for self_attn.q_proj.weight of layer 1"):
        streamed(model)


def test_there_must_be_demonstrations(tiny: Path) -> None:
    with pytest.raises(ObservationError, match="no demonstrations"):
        streamed(partial(tiny), [])


def test_another_type_to_compute_in(tiny: Path) -> None:
    model = partial(tiny, dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    assert streamed(model)[0].weights.dtype == np.float32


def test_the_checkpoint_is_only_read(tiny: Path) -> None:
    before = {file.name: file.read_bytes() for file in tiny.iterdir()}
    streamed(partial(tiny))
    assert before == {file.name: file.read_bytes() for file in tiny.iterdir()}
    assert Checkpoint.open(tiny).nbytes > 0


def assert_equal(found: dict[int, RoutedTokens], expected: dict[int, RoutedTokens]) -> None:
    assert list(found) == list(expected)
    for layer, record in expected.items():
        theirs = record.arrays()
        assert all(np.array_equal(mine, theirs[n]) for n, mine in found[layer].arrays().items())


class KilledError(Exception):
    """In place of a kill."""


@pytest.mark.parametrize(
    ("family", "after", "mtp"),
    [
        *((family, after, 0) for family in FAMILIES for after in (0, 1)),
        *(("deepseek_v3", after, 2) for after in (1, 2)),
    ],
)
def test_a_run_goes_on_behind_the_last_finished_layer(
    tmp_path: Path, family: str, after: int, mtp: int
) -> None:
    path = build(family, tmp_path / "m", mtp=mtp)
    with_mtp = mtp > 0
    expected = streamed(partial(path, with_mtp=with_mtp))
    state = StreamState(tmp_path / "state")
    found: dict[int, RoutedTokens] = {}

    class Breaks(StreamState):
        def finish(self, layer: int, demos: int) -> None:
            super().finish(layer, demos)
            if layer == after:
                raise KilledError

    killed, again = (partial(path, with_mtp=with_mtp) for _ in range(2))
    with pytest.raises(KilledError):
        streamed(killed, state=Breaks(tmp_path / "state"), found=found)
    streamed(again, state=state, found=found, done=list(found))
    assert_equal(found, expected)


def test_a_finished_layer_is_not_read_again(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StreamState(tmp_path / "state")
    done = streamed(partial(tiny), state=state)  # leaves what the last layer but one gave
    loaded: list[int] = []
    original = PartialModel.load_layer
    monkeypatch.setattr(
        PartialModel, "load_layer", lambda self, i: loaded.append(i) or original(self, i)
    )
    streamed(partial(tiny), state=state, done=done)
    assert loaded == [2]
    streamed(partial(tiny), state=state, done=[0, 2])  # the records of layer 1 are lost
    assert loaded == [2, 0, 1, 2]


def test_going_on_reads_each_remembered_output_once(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StreamState(tmp_path / "state")
    expected = streamed(partial(tiny), state=state)
    before = state.load(torch.device("cpu"))
    assert before is not None
    read: list[int] = []
    counting = Remembered(before.layer, lambda n: read.append(n) or before.output(n))
    monkeypatch.setattr(StreamState, "load", lambda self, device: counting)
    found = streamed(partial(tiny), state=state, done=expected)
    assert before.layer == 1  # behind two finished layers
    assert sorted(read) == [0, 1, 2, 3]
    assert_equal(found, {2: expected[2]})


def test_the_longest_demonstration_tells_a_layers_way(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    original = tap.learn
    monkeypatch.setattr(
        tap, "learn", lambda one, named: seen.append(len(one.tokens)) or original(one, named)
    )
    streamed(partial(tiny), [SEQUENCES[2], *SEQUENCES])
    assert seen == [ENOUGH_TOKENS] * 3  # only one is as long as that
