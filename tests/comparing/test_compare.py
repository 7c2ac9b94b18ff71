"""Two models on the same text, against plain float64 and against each other."""

import json
import shutil
from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
import torch

import easyep
from easyep import demonstrations
from easyep.checkpoint.files import Checkpoint
from easyep.comparing.predictions import counted
from easyep.demonstrations import domain_file
from easyep.errors import ArtifactError, EasyEPError, EvaluationError, OutputError, SelectionError
from easyep.loading import load_model, load_tokenizer
from easyep.resources import demo_model
from tests.cli.test_cli import run
from tests.tiny_models import build
from tests.tiny_models.choosing import choose_at_random

FLOAT = {"dtype": "float32", "device": "cpu"}


def log_softmax(row):
    top = max(row)
    total = log(sum(exp(x - top) for x in row)) + top
    return [x - total for x in row]


def reference(paths, sequences):
    """Token by token, in Python's own numbers: divergence, agreement and both losses."""
    logits = []
    for path in paths:
        model = load_model(path, **FLOAT)
        with torch.inference_mode():
            logits.append(
                [model(torch.from_numpy(s.input_ids)[None]).logits[0].tolist() for s in sequences]
            )
    found = []
    for n, sequence in enumerate(sequences):
        rows = []
        for t in counted(sequence, "response"):
            p, q = (log_softmax(each[n][t]) for each in logits)
            true = int(sequence.input_ids[t + 1])
            kl = sum(exp(a) * (a - b) for a, b in zip(p, q, strict=True))
            rows.append((kl, p.index(max(p)) == q.index(max(q)), -p[true], -q[true]))
        found.append(rows)
    return found


def held_out_sequences(path, count):
    """What `compare` draws for a model that was pruned with demonstrations of its own."""
    shown = json.loads((path / "easyep.json").read_text())["observations"][0]["demos_sha256"]
    tokenizer = load_tokenizer(demo_model())
    every = [
        demonstrations.render(d, tokenizer)
        for d in demonstrations.read(domain_file("math", "demo"))
    ]
    return demonstrations.choose([s for s in every if s.sha256 not in shown], count)


def test_against_plain_float64(pruned):
    sequences = held_out_sequences(pruned.path, 5)
    found = easyep.compare("demo", pruned.path, domain="math", n_demos=5, max_new_tokens=0, **FLOAT)
    (one,) = found.domains
    tokens = [row for rows in reference((demo_model(), pruned.path), sequences) for row in rows]
    kl, agree, first, second = (np.array([row[i] for row in tokens], float) for i in range(4))
    assert one.tokens == len(tokens)
    assert one.held_out is True
    assert one.divergence.value == pytest.approx(kl.mean(), rel=1e-9)
    assert one.median == pytest.approx(np.median(kl), rel=1e-9)
    assert one.p99 == pytest.approx(np.quantile(kl, 0.99), rel=1e-9)
    assert one.agreement.value == agree.mean()
    assert one.first_loss.value == pytest.approx(first.mean(), rel=1e-9)
    assert one.second_loss.value == pytest.approx(second.mean(), rel=1e-9)
    assert one.loss_difference.value == pytest.approx((second - first).mean(), rel=1e-9)
    assert one.divergence.value > 1e-4
    assert one.generation is None


def test_a_model_is_like_itself():
    found = easyep.compare("demo", "demo", domain=["math", "facts"], n_demos=3, **FLOAT)
    assert [one.domain for one in found.domains] == ["math", "facts", "all"]
    for one in found.domains:
        assert one.divergence.value == pytest.approx(0, abs=1e-9)
        assert one.agreement.value == 1
        assert one.loss_difference.value == pytest.approx(0, abs=1e-9)
        assert one.held_out is None
        assert one.generation.same == 1
        assert one.generation.drift.value == 0
        assert one.generation.first == one.generation.second


def test_a_selection_counts_as_the_checkpoint_that_it_gives(tmp_path):
    for groups in ("balanced", "flatten"):
        selection = choose_at_random(demo_model(), 16, groups, mtp=False)
        written = easyep.rewrite("demo", selection, tmp_path / groups, mtp="drop").path
        settings = {"domain": "strings", "n_demos": 3, "max_new_tokens": 8, **FLOAT}
        masked = easyep.compare("demo", selection=selection, **settings).domains[0]
        pruned = easyep.compare("demo", written, **settings).domains[0]
        assert masked.divergence.value == pytest.approx(pruned.divergence.value, rel=1e-4)
        assert masked.agreement == pruned.agreement
        assert masked.generation == pruned.generation
        assert masked.divergence.value > 0.01


def test_text_without_answers_counts_whole(tmp_path):
    demos = tmp_path / "notes.jsonl"
    demos.write_text('{"text": "Ivo buys 3 packs of 4 nuts."}\n{"text": "What is 1 + 1?"}\n')
    tokenizer = load_tokenizer(demo_model())
    lengths = [
        len(tokenizer(text)["input_ids"])
        for text in ("Ivo buys 3 packs of 4 nuts.", "What is 1 + 1?")
    ]
    found = easyep.compare("demo", "demo", demos=demos, **FLOAT)
    identity = Checkpoint.open(demo_model()).identity("").to_json()
    assert found.settings["models"] == {"demo": identity}
    (one,) = found.domains
    assert one.tokens == sum(lengths) - 2
    assert one.generation is None


def test_what_cannot_be_compared(tmp_path, pruned, monkeypatch):
    with pytest.raises(EvaluationError, match="one of them"):
        easyep.compare("demo", domain="math")
    for wrong in ({"tokens": "some"}, {"batch_size": 0}, {"max_new_tokens": "5"}):
        (name,) = wrong
        with pytest.raises(EasyEPError, match=name):
            easyep.compare("demo", "demo", domain="math", **wrong)
    other = build("qwen3_moe", tmp_path / "m")
    with pytest.raises(EvaluationError, match="512 and 56|vocabular"):
        easyep.compare("demo", other, domain="math", n_demos=1, **FLOAT)
    (tmp_path / "all.jsonl").write_text('{"text": "A word or two."}\n')
    with pytest.raises(EvaluationError, match="rename all.jsonl"):
        easyep.compare("demo", "demo", domain="math", demos=tmp_path / "all.jsonl", **FLOAT)
    diffusion = build("diffusion_gemma", tmp_path / "d")
    with pytest.raises(EvaluationError, match="is a diffusion model"):
        easyep.compare(diffusion, "demo", domain="math", **FLOAT)
    few = choose_at_random(demo_model(), 16)
    uneven = replace(few, layers={layer: tuple(range(16)) for layer in few.layers})
    foreign = replace(few, model=replace(few.model, weights_sha256="0" * 64))
    with monkeypatch.context() as nothing_is_loaded:
        nothing_is_loaded.setattr("easyep.loading.load_model", None)
        for wrong, error in ((uneven, SelectionError), (foreign, ArtifactError)):
            with pytest.raises(error):
                easyep.compare("demo", selection=wrong, domain="math", n_demos=1, **FLOAT)
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("U", (), {"free": 1})())
    with pytest.raises(OutputError, match="TMPDIR"):
        easyep.compare("demo", pruned.path, domain="math", **FLOAT)


def test_what_an_ancestor_was_shown_is_not_held_out(pruned, tmp_path):
    grand = tmp_path / "grand"
    easyep.prune(pruned.path, domain="facts", keep=8, output=grand)
    earlier = json.loads((grand / "easyep.json").read_text())["earlier_demos_sha256"]
    asked = {"n_demos": 50, "max_new_tokens": 0, **FLOAT}
    for first, second in (("demo", pruned.path), ("demo", grand), (grand, "demo")):
        found = easyep.compare(first, second, domain="math", **asked).domains[0]
        assert (found.demos, found.held_out) == (50 - len(earlier), True)


@pytest.mark.parametrize("shown", [None, 5, [["a"], {}], {"a": 1}])
def test_a_manifest_of_another_hand(tmp_path, shown):
    copy = shutil.copytree(demo_model(), tmp_path / "copy")
    (copy / "easyep.json").write_text(json.dumps({"observations": [{"demos_sha256": shown}, 3]}))
    found = easyep.compare("demo", copy, domain="math", n_demos=1, max_new_tokens=0, **FLOAT)
    assert found.domains[0].held_out is True


def test_a_file_may_have_any_name(tmp_path):
    names = ["..jsonl", "...jsonl"]
    for name in names:
        (tmp_path / name).write_text('{"text": "A word or two."}\n')
    demos = [tmp_path / name for name in names]
    found = easyep.compare("demo", "demo", demos=demos, max_new_tokens=0, **FLOAT)
    assert [one.domain for one in found.domains] == [".", "..", "all"]


def test_the_command(capsys, pruned, tmp_path):
    words = ["compare", "demo", pruned.path, "--domain", "math", "--n-demos", "2", "--quiet"]
    words += ["--dtype", "float32", "--device", "cpu", "--max-new-tokens", "16"]
    code, out, _ = run(capsys, *words, "--output", tmp_path / "c.json")
    assert code == 0
    assert "Greedy answers" in out
    code, out, _ = run(capsys, *words, "--json")
    assert json.loads(out) == json.loads((tmp_path / "c.json").read_text())
    assert json.loads(out)["domains"][0]["generation"]["first"]["answers"] == 2
    assert run(capsys, "compare", "demo", "--domain", "math")[0] == 2
    assert run(capsys, "compare", "demo", "demo")[0] == 2


def test_predictions_that_do_not_fit_after_all(monkeypatch):
    def full(file, array):
        raise OSError(f"{array.size} requested and 206 written")  # in numpy's words

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputError, match=r"0\.npy: \d+ requested and 206 written"):
        easyep.compare("demo", "demo", domain="math", n_demos=1, max_new_tokens=0, **FLOAT)
