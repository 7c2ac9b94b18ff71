"""A masked model beside itself, against plain arithmetic and against the pruned checkpoint."""

import json

import numpy as np
import pytest
import torch

import easyep
from easyep import demonstrations, loading, study
from easyep.errors import DemosError, UnsupportedModelError
from easyep.selection import select
from easyep.source import Source
from easyep.study.dropping import dropped
from easyep.study.held_out import HeldOut, read_held_out

PLAN = study.Study(
    study="held out",
    model="demo",
    domains=("math",),
    held_out="eval/data/demo_{domain}.jsonl",
    limit=6,
    dtype="float32",
    batch_size=4,
)


@pytest.fixture(scope="module")
def source():
    return Source.open("demo")


@pytest.fixture(scope="module")
def judge(source):
    return HeldOut(PLAN, source)


@pytest.fixture(scope="module")
def scores():
    return easyep.score(easyep.observe("demo", domain="math", n_demos=5, dtype="float32"))


def plainly(full, pruned, sequences):
    """The four measures in float64, one item and one token at a time."""
    kl, loss, same, right, tokens = 0.0, 0.0, 0, 0, 0
    for one in sequences:
        ids = torch.from_numpy(one.input_ids)[None]
        with torch.inference_mode():
            p, q = (
                torch.log_softmax(model(ids).logits[0].double(), -1).numpy()
                for model in (full, pruned)
            )
        hits = []
        for place in range(len(one) - 1):
            if not one.is_response[place + 1]:
                continue
            target = one.input_ids[place + 1]
            kl += sum(np.exp(a) * (a - b) for a, b in zip(p[place], q[place], strict=True))
            loss -= q[place][target]
            same += int(p[place].argmax() == q[place].argmax())
            hits.append(q[place].argmax() == target)
            tokens += 1
        right += all(hits)
    return right / len(sequences), same / tokens, kl / tokens, loss / tokens


@pytest.mark.parametrize(("keep", "groups"), [(16, "balanced"), (8, "flatten"), (4, "flatten")])
def test_a_masked_model_is_the_pruned_checkpoint(judge, source, scores, keep, groups, tmp_path):
    selection = select(scores, keep, groups=groups)
    easyep.rewrite(source, selection, tmp_path / "pruned")
    full, pruned = (
        loading.load_model(path, dtype="float32", device="cpu")
        for path in (source.model.path, tmp_path / "pruned")
    )
    tokenizer = loading.load_tokenizer(source.model.path)
    items = read_held_out("eval/data/demo_math.jsonl")[:6]
    expected = plainly(full, pruned, [demonstrations.render(d, tokenizer) for d in items])
    found = judge.measure(selection, "math", reroute=True)
    measured = (found.accuracy, found.agreement, found.kl, found.loss)
    assert measured == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert found.kl > 0.001
    assert found.samples == 6


def test_the_unpruned_model_is_like_itself_before_and_after(judge, scores):
    before = judge.measure(None, "math", reroute=True)
    assert (before.agreement, before.kl) == (1.0, 0.0)
    every = select(scores, 32, groups="balanced")
    judge.measure(select(scores, 8, groups="flatten"), "math", reroute=True)
    judge.measure(select(scores, 8, groups="flatten"), "math", reroute=False)
    after = judge.measure(every, "math", reroute=True)
    assert after.kl == pytest.approx(0.0, abs=1e-9)
    assert after.loss == pytest.approx(before.loss)


def test_without_rerouting_dropped_experts_add_nothing(source, scores):
    model = loading.load_model(source.model.path, dtype="float32", device="cpu")
    selection = select(scores, 8, groups="flatten")
    block = model.model.layers[2].mlp
    hidden = torch.randn(1, 5, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        _, weights, ids = block.gate(hidden)
        kept = torch.isin(ids, torch.tensor(selection.layers[2]))
        assert kept.any()
        assert not kept.all()
        expected = block.shared_experts(hidden) + block.experts(
            hidden[0], ids, weights * kept
        ).view_as(hidden)
        with dropped(model, selection):
            found = block(hidden)
    torch.testing.assert_close(found, expected)


def test_experts_that_are_not_called_with_choices_are_refused(source, scores):
    model = loading.load_model(source.model.path, dtype="float32", device="cpu")
    model.model.layers[3].mlp.experts = torch.nn.Linear(2, 2)
    with (
        pytest.raises(UnsupportedModelError, match="layer 3 of DeepseekV3ForCausalLM"),
        dropped(model, select(scores, 16)),
    ):
        pass


def test_held_out_answers_can_be_demonstrations(tmp_path):
    file = tmp_path / "own.jsonl"
    file.write_text(json.dumps({"prompt": "a", "response": "b"}) + "\n")
    assert read_held_out(str(file))[0].content["response"] == "b"
    file.write_text('{"question": "a"}\n')
    with pytest.raises(DemosError, match="line 1"):
        read_held_out(str(file))
    with pytest.raises(DemosError, match="does not exist"):
        read_held_out(str(tmp_path / "none.jsonl"))
    file.write_text("")
    with pytest.raises(DemosError, match="is empty"):
        read_held_out(str(file))


def test_held_out_answers_may_hold_any_sign(tmp_path):
    file = tmp_path / "own.jsonl"
    item = {"question": "a\u2028b\x85", "response": "c\u2029"}
    file.write_text(json.dumps(item, ensure_ascii=False) + "\n", encoding="utf-8")
    (demo,) = read_held_out(str(file))
    assert [m["content"] for m in demo.content["messages"]] == [*item.values()]
