"""The engines of transformers, on small models."""

from dataclasses import replace

import pytest
import torch

from easyep import resources
from easyep.errors import EvaluationError, MemoryExhaustedError
from easyep.evaluation.engines import EngineSettings, engine
from easyep.evaluation.engines.peak_memory import PeakMemory
from tests.tiny_models import build

PROMPTS = [[5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]
CPU = EngineSettings(dtype="float32", device="cpu")


def test_a_fixed_batch_generates_what_generate_does(monkeypatch):
    session = engine("transformers").open(str(resources.demo_model()), CPU)
    model, seen = session._loaded.model, []
    forward = model.forward

    def watched(**arguments):
        seen.append(arguments["input_ids"].clone())
        return forward(**arguments)

    expected = model.generate(
        torch.tensor(PROMPTS), max_new_tokens=6, min_new_tokens=6, do_sample=False, pad_token_id=0
    )
    monkeypatch.setattr(model, "forward", watched)
    timings = session.generate(PROMPTS, 6)
    # One pass over the prompts, then one token of each sequence a pass; no end of sequence.
    assert [tuple(each.shape) for each in seen] == [(3, 4)] + [(3, 1)] * 5
    assert torch.cat(seen, dim=1)[:, 4:].tolist() == expected[:, 4:9].tolist()
    assert [each.tokens for each in timings] == [6] * 3
    assert all(a < b for a, b in zip(timings[0].arrivals, timings[0].arrivals[1:], strict=False))
    stored = sum(p.nbytes for p in {id(p): p for p in model.parameters()}.values())
    assert session.describe()["weights_bytes"] >= stored
    assert session.peak_memory() >= stored
    session.close()


def test_the_peak_is_what_was_taken():
    peak = PeakMemory(torch.device("cpu"))
    with peak.measured():
        block = torch.ones(50_000_000, dtype=torch.uint8)
        del block
    assert peak.growth == pytest.approx(50e6, abs=3e6)
    with peak.measured():
        pass
    assert peak.growth < 3e6


def test_the_end_of_memory_is_told_as_such():
    peak = PeakMemory(torch.device("cpu"))
    with pytest.raises(MemoryExhaustedError), peak.measured():
        torch.empty(1 << 60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="size"), peak.measured():
        _ = torch.ones(2) + torch.ones(3)


def test_a_batch_that_cannot_fit_is_not_begun(monkeypatch):
    session = engine("transformers").open(str(resources.demo_model()), CPU)
    session._loaded.peak.growth = 1_000_000
    session._loaded.note_room(1, 8)
    monkeypatch.setattr("easyep.memory.available", lambda: 2_500_000)
    with pytest.raises(MemoryExhaustedError, match="3 requests would take"):
        session.generate(PROMPTS, 4)
    assert session.generate(PROMPTS[:2], 4)
    session.close()


@pytest.mark.slow
def test_continuous_batching(tmp_path):
    session = engine("transformers-continuous").open(str(build("qwen3_moe", tmp_path / "m")), CPU)
    timings = session.generate(PROMPTS, 6)
    assert [each.tokens for each in timings] == [6] * 3
    assert all(each.ttft > 0 and each.last > each.first for each in timings)
    session.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_model_that_continuous_batching_cannot_run():
    # Keys and values of DeepSeek-V3 differ in width, which its paged cache has no place for.
    session = engine("transformers-continuous").open(str(resources.demo_model()), CPU)
    with pytest.raises(EvaluationError, match="cannot run this model.*--backend transformers runs"):
        session.generate(PROMPTS, 6)
    session.close()


def test_extra_arguments_that_continuous_batching_does_not_know():
    settings = replace(CPU, extra_args={"nosuch": 1})
    session = engine("transformers-continuous").open(str(resources.demo_model()), settings)
    with pytest.raises(EvaluationError, match="does not take these extra arguments: .*nosuch"):
        session.generate(PROMPTS, 6)
    session.close()
