"""The machinery of training on small, randomly initialised networks."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.modeling_layers import MtpModel

from easyep.demo_model import MODEL_DIRECTORY, balance, batches, tokenizer
from easyep.demo_model.architecture import Network, configuration
from easyep.demo_model.batches import PATIENCE, ROWS, STORIES
from easyep.demo_model.export import export, hub_tensors
from easyep.demo_model.feeding import feed
from easyep.demo_model.optimisation import CLIP, PEAK_RATE, FlatAdamW, learning_rate
from easyep.demo_model.training import losses


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network(configuration())


@pytest.fixture(scope="module")
def batch() -> batches.Batch:
    return batches.batch(tokenizer.load(MODEL_DIRECTORY), seed=0, process=0, step=5)


def test_a_batch_follows_from_step_and_process(batch: batches.Batch) -> None:
    bpe = tokenizer.load(MODEL_DIRECTORY)
    again = batches.batch(bpe, seed=0, process=0, step=5)
    assert torch.equal(again.ids, batch.ids)
    assert not torch.equal(batches.batch(bpe, seed=0, process=1, step=5).ids, batch.ids)


def test_streams_are_joined_in_order(batch: batches.Batch) -> None:
    (fed,) = feed(MODEL_DIRECTORY, seed=0, streams=[0, 1], steps=range(5, 6))
    assert fed.texts == 2 * batch.texts
    other = batches.batch(tokenizer.load(MODEL_DIRECTORY), seed=0, process=1, step=5)
    for name in ("ids", "segments", "positions", "weights"):
        both = torch.cat([getattr(batch, name), getattr(other, name)])
        assert torch.equal(getattr(fed, name), both), name


def test_bfloat16_arithmetic_follows_the_gradient_of_float32(batch: batches.Batch) -> None:
    gradients = []
    for arithmetic in (torch.float32, torch.bfloat16):
        torch.manual_seed(1)
        net = Network(configuration())
        optimiser = FlatAdamW(net, arithmetic)
        assert {p.dtype for p in net.parameters()} == {arithmetic}
        loss, _ = losses(net, batch, with_mtp=True)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients.append(optimiser.gradient.float().clone())
        before = net.main.lm_head.weight.detach().clone()
        optimiser.step(1e-2)
        assert not torch.equal(before, net.main.lm_head.weight)
        assert not optimiser.gradient.any()
    assert torch.cosine_similarity(*gradients, dim=0) > 0.98


def test_the_large_network_is_what_it_says() -> None:
    with torch.device("meta"):
        parameters = sum(p.numel() for p in Network(configuration("large")).parameters())
    assert parameters == 135_487_296


def test_rows_are_of_one_domain_and_mostly_full(batch: batches.Batch) -> None:
    assert batch.texts == [name for name, count in ROWS.items() for _ in range(count)]
    assert float((batch.segments >= 0).float().mean()) > 0.85


def test_a_batch_draws_no_more_than_the_split_tests_assume(batch: batches.Batch) -> None:
    for name in ROWS:
        if name != STORIES:
            rows = [i for i, text in enumerate(batch.texts) if text == name]
            placed = int((batch.segments[rows].max(dim=1).values + 1).sum())
            # At most PATIENCE - 1 are skipped before each one that is placed late.
            assert placed + 2 * PATIENCE <= 64


def test_items_in_a_row_do_not_see_each_other(network: Network, batch: batches.Batch) -> None:
    row = batch.texts.index("strings")
    span = batch.segments[row] == 1
    ids, positions = batch.ids[row, span][None], batch.positions[row, span][None]
    alone = network.main(input_ids=ids, position_ids=positions).logits[0]
    states = network.states(
        batch.ids[row : row + 1], batch.positions[row : row + 1], batch.segments[row : row + 1]
    )
    packed = network.main.lm_head(states)[0, span]
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)


def test_loss_and_gradient_reach_every_weight(batch: batches.Batch) -> None:
    torch.manual_seed(1)
    net = Network(configuration())
    FlatAdamW(net)
    loss, each = losses(net, batch, with_mtp=True)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(1.3 * 6.24, rel=0.1)  # ln 512 = 6.24
    assert each.shape == (sum(ROWS.values()), batches.ROW_LENGTH - 1)
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0, name


def test_the_network_sees_bf16_values_and_the_masters_move_less_than_a_bf16_step() -> None:
    layer = torch.nn.Linear(8, 8)
    optimiser = FlatAdamW(layer)
    before = layer.weight.detach().clone()
    assert torch.equal(before, before.bfloat16().float())
    for _ in range(3):
        layer(torch.ones(1, 8)).sum().backward()
        norm = optimiser.step(1e-6)
    assert norm > CLIP
    after = layer.weight.detach()
    assert torch.equal(after, after.bfloat16().float())
    masters = optimiser.state()["masters"][0][:64].view(8, 8)  # type: ignore[index]
    assert not torch.equal(masters, masters.bfloat16().float())
    assert float(optimiser.gradient.abs().sum()) == 0


def test_optimiser_goes_on_where_it_was() -> None:
    results = []
    for interrupted in (False, True):
        torch.manual_seed(2)
        layer = torch.nn.Linear(4, 4)
        optimiser = FlatAdamW(layer)
        for step in range(6):
            if interrupted and step == 3:
                state = optimiser.state()
                layer = torch.nn.Linear(4, 4)
                optimiser = FlatAdamW(layer)
                optimiser.restore(state)
            layer(torch.arange(4.0)[None] + step).square().sum().backward()
            optimiser.step(1e-2)
        results.append(layer.weight.detach().clone())
    assert torch.equal(*results)


def test_learning_rate() -> None:
    rates = [learning_rate(step, 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(PEAK_RATE / 100)
    assert rates[100] == rates[299] == PEAK_RATE
    assert rates[-1] == pytest.approx(0.02 * PEAK_RATE)
    assert all(a >= b for a, b in itertools.pairwise(rates[100:]))


def test_balance_prefers_idle_experts_and_ignores_padding(batch: batches.Batch) -> None:
    torch.manual_seed(3)
    net = Network(configuration())
    counter = balance.Balance(net)
    real = batch.segments >= 0
    counter.clear(real)
    with torch.no_grad():
        losses(net, batch, with_mtp=False)
    assert counter.loads[:4].sum(dim=1).tolist() == [4 * int(real.sum())] * 4
    assert counter.loads[4].sum() == 0
    counter.move()
    busiest, idlest = int(counter.loads[0].argmax()), int(counter.loads[0].argmin())
    bias = counter.routers[0].e_score_correction_bias
    assert float(bias[busiest]) == pytest.approx(-balance.SPEED)
    assert float(bias[idlest]) == pytest.approx(balance.SPEED)
    assert not counter.routers[4].e_score_correction_bias.any()


def test_export_is_what_was_trained(network: Network, tmp_path: Path) -> None:
    FlatAdamW(network)  # rounds the weights to BF16
    export(network, tmp_path)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(hub_tensors(network))
    assert len(set(index["weight_map"].values())) >= 2
    model, report = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    assert all(key.startswith("model.layers.5.") for key in report["unexpected_keys"])
    ids = torch.arange(20)[None] + 40
    positions, segments = torch.arange(20)[None], torch.zeros(1, 20, dtype=torch.int64)
    model._keys_to_ignore_on_load_unexpected = {r"model\.layers\.5\."}
    mtp = MtpModel.from_pretrained(model)
    with torch.no_grad():
        states = network.states(ids, positions, segments)
        loaded = model.model(ids).last_hidden_state
        torch.testing.assert_close(loaded, states, atol=1e-5, rtol=1e-5)
        ahead = network.mtp_states(states, ids, positions, segments)
        theirs = mtp.forward_layer(0, states[:, :-1], positions[:, 1:], None, input_ids=ids[:, 1:])
    torch.testing.assert_close(theirs, ahead, atol=1e-5, rtol=1e-5)
