"""The main job, end to end, on the trained demo model."""

import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import easyep
from easyep import queries
from easyep.artifacts import Observations, Scores, Selection
from easyep.checkpoint import verification
from easyep.checkpoint.files import Checkpoint
from easyep.demonstrations import domain_file
from easyep.errors import (
    ArtifactError,
    DemosError,
    EasyEPError,
    MissingDependencyError,
    OutputError,
    SelectionError,
    UnknownNameError,
    UnsupportedModelError,
    VerificationError,
)
from easyep.loading import load_model
from easyep.resources import demo_model
from easyep.source import Source
from tests.tiny_models import build

QUESTION = [{"role": "user", "content": "What is 12 + 7?"}]


def mask_router(model, selection: Selection, grouped: bool) -> None:
    """Let the full model choose among the kept experts only."""
    for index, kept in selection.layers.items():
        if index >= model.config.num_hidden_layers:
            continue
        router = model.model.layers[index].mlp.gate
        dropped = torch.ones(router.num_experts, dtype=torch.bool)
        dropped[list(kept)] = False
        # The bias steers the choice only; far below 0, no dropped expert is ever chosen.
        router.e_score_correction_bias[dropped] = -1e4
        if not grouped:
            router.num_group = router.topk_group = 1


def logits(model) -> torch.Tensor:
    torch.manual_seed(0)
    ids = torch.randint(8, model.config.vocab_size, (4, 40))
    with torch.inference_mode():
        return model(ids).logits


@pytest.mark.parametrize("groups", ["balanced", "flatten"])
def test_the_pruned_model_is_the_masked_original(groups, math_observations, tmp_path):
    selection = easyep.select(easyep.score(math_observations), keep=0.5, groups=groups)
    easyep.rewrite("demo", selection, tmp_path / "out")
    pruned = load_model(tmp_path / "out", dtype="float32", device="cpu")
    masked = load_model(demo_model(), dtype="float32", device="cpu")
    mask_router(masked, selection, grouped=groups == "balanced")
    assert pruned.config.n_routed_experts == 16
    assert pruned.config.n_group == (4 if groups == "balanced" else 1)
    torch.testing.assert_close(logits(pruned), logits(masked), rtol=1e-4, atol=1e-4)


def test_kept_tensors_are_byte_identical(pruned):
    source, output = Checkpoint.open(demo_model()), Checkpoint.open(pruned.path)

    def content(checkpoint, name) -> bytes:
        tensor = checkpoint.tensors[name]
        with open(checkpoint.path / tensor.shard, "rb") as file:
            file.seek(tensor.begin)
            return file.read(tensor.end - tensor.begin)

    compared = 0
    for name in output.tensors:
        before, dot, after = name.partition(".mlp.experts.")
        if dot:
            layer = int(before.rsplit(".", 1)[1])
            new, _, rest = after.partition(".")
            old = pruned.selection.layers[layer][int(new)]
            assert content(output, name) == content(source, f"{before}{dot}{old}.{rest}")
        elif ".mlp.gate." in name:
            layer = int(name.split(".layers.")[1].split(".")[0])
            rows = np.frombuffer(content(source, name), np.uint8).reshape(32, -1)
            kept = rows[list(pruned.selection.layers[layer])].tobytes()
            assert content(output, name) == kept
        else:
            assert content(output, name) == content(source, name)
        compared += 1
    assert compared == len(source.tensors) - 5 * 16 * 3


def test_the_output_is_whole_and_verified(pruned):
    assert pruned.verification.ok
    assert pruned.rewritten.bytes_after < 0.65 * pruned.rewritten.bytes_before
    manifest = json.loads((pruned.path / "easyep.json").read_text())
    assert Selection.from_json(manifest["selection"]) == pruned.selection
    assert manifest["recipe"]["domain"] == ["math"]
    card = (pruned.path / "README.md").read_text()
    assert "16 of its 32 routed experts" in card
    assert not [p for p in pruned.path.parent.iterdir() if p.name.startswith(".")]


def test_the_output_loads_without_a_warning_and_generates(tmp_path, caplog):
    done = easyep.prune(
        "demo", domain="math", dtype="float32", batch_size=8, output=tmp_path / "out"
    )
    assert done.rewritten.dropped_mtp == (5,)  # transformers would report it: see docs/decisions
    with caplog.at_level(logging.WARNING), pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("transformers"), "propagate", True)
        model = AutoModelForCausalLM.from_pretrained(done.path)
    assert not caplog.records
    tokenizer = AutoTokenizer.from_pretrained(done.path)
    ids = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt")
    text = tokenizer.decode(model.generate(**ids, max_new_tokens=48)[0])
    assert re.search(r"answer: \d+<\|end\|>$", text)


@pytest.mark.parametrize("mtp", ["score", "follow", "drop"])
def test_config_and_tensors_agree_on_mtp(mtp, math_observations, tmp_path):
    selection = easyep.select(easyep.score(math_observations), keep=0.5)
    easyep.rewrite("demo", selection, tmp_path / "out", mtp=mtp)
    output = Checkpoint.open(tmp_path / "out")
    present = any(name.startswith("model.layers.5.") for name in output.tensors)
    assert present == (mtp != "drop") == bool(output.config["num_nextn_predict_layers"])
    assert easyep.verify(tmp_path / "out", "demo").ok


def test_what_auto_does_with_mtp(math_observations, tmp_path):
    demo, selection = Source.open("demo"), easyep.select(easyep.score(math_observations))
    assert demo.mtp_mode("auto") == "drop"
    assert demo.mtp_mode("auto", selection) == "score"  # scored on purpose
    assert demo.mtp_mode("follow") == "follow"
    without = Source.open(build("deepseek_v3", tmp_path / "m"))
    assert without.mtp_mode("auto") == "score"


def test_only_the_mtp_layer_is_left_to_the_loader(pruned):
    """transformers knows MTP layers by the number that they have in the released model (61)."""
    _, info = AutoModelForCausalLM.from_pretrained(pruned.path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert all(key.startswith("model.layers.5.") for key in info["unexpected_keys"])


def test_the_mtp_layer_keeps_experts_of_its_own(pruned):
    assert sorted(pruned.selection.layers) == [1, 2, 3, 4, 5]
    from easyep.observation.multi_token import load_mtp

    model = load_model(pruned.path, dtype="float32", device="cpu")
    assert load_mtp(model).layers[0].mtp_block.mlp.experts.gate_up_proj.shape[0] == 16


def test_the_same_command_goes_on_from_the_work_directory(pruned, tmp_path, monkeypatch):
    work = pruned.path.parent / "work"

    def no_model(*args, **kwargs):
        raise AssertionError("the model was loaded again")

    monkeypatch.setattr("easyep.loading.load_model", no_model)
    choices = {"domain": "math", "keep": 0.5, "dtype": "float32", "batch_size": 8, "mtp": "score"}
    again = easyep.prune("demo", output=tmp_path / "again", work_dir=work, **choices)
    assert again.selection == pruned.selection
    for name in ("model.safetensors.index.json", "config.json"):
        assert (again.path / name).read_bytes() == (pruned.path / name).read_bytes()
    with pytest.raises(AssertionError, match="loaded again"):
        easyep.prune("demo", output=tmp_path / "new", work_dir=work, **{**choices, "n_demos": 3})


def test_the_stages_one_by_one_give_the_same(pruned, tmp_path):
    seen = easyep.observe(
        "demo",
        domain="math",
        mtp="score",
        dtype="float32",
        batch_size=8,
        output=tmp_path / "obs",
    )
    easyep.score(Observations.load(tmp_path / "obs")).save(tmp_path / "scores.json")
    chosen = easyep.select(Scores.load(tmp_path / "scores.json"), keep=0.5)
    assert chosen.layers == pruned.selection.layers
    assert seen.num_tokens == sum(len(s) for s in seen.layers.values()) // 5 + len(seen.demos) // 5
    chosen.save(tmp_path / "selection.json")
    easyep.rewrite("demo", tmp_path / "selection.json", tmp_path / "out")
    assert easyep.verify(tmp_path / "out", "demo").ok


def test_batches_and_runs_select_the_same(pruned):
    seen = easyep.observe("demo", domain="math", mtp="score", dtype="float32", batch_size=3)
    assert easyep.select(easyep.score(seen), keep=0.5).layers == pruned.selection.layers


def test_several_domains_are_mixed(tmp_path):
    done = easyep.prune(
        "demo",
        domain=("math", "facts:0.5"),
        n_demos=5,
        keep=12,
        dtype="float32",
        mtp="follow",
        output=tmp_path / "out",
    )
    assert [o["weight"] for o in done.scores.observations] == [1.0, 0.5]
    for scores in done.scores.layers.values():
        assert scores.sum() == pytest.approx(1.0)
    assert done.verification.ok


def test_the_plan_tells_what_would_be_done(tmp_path):
    planned = easyep.plan("demo", domain="math", keep=0.5, output=tmp_path / "out")
    assert (planned.keep, planned.demos["math"]["demos"]) == (16, 25)
    assert planned.rewriting.bytes_after < planned.rewriting.bytes_before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("choices", "error", "message"),
    [
        ({"keep": 3}, SelectionError, "cannot keep 3 of 32"),
        ({"keep": 10}, SelectionError, "12"),
        ({"domain": "maths"}, UnknownNameError, "did you mean 'math'"),
        ({"criterion": "easyep"}, UnknownNameError, "did you mean 'easy-ep'"),
        ({"domain": ()}, DemosError, "at least one domain"),
        ({"domain": ("math", "math")}, DemosError, "different names"),
        ({"demos": "nowhere.jsonl"}, DemosError, "does not exist"),
        ({"groups": "even"}, UnknownNameError, "balanced"),
    ],
)
def test_bad_choices_leave_nothing_behind(choices, error, message, tmp_path):
    with pytest.raises(error, match=message):
        easyep.prune(
            "demo",
            output=tmp_path / "out",
            work_dir=tmp_path / "work",
            **{"domain": "math", **choices},
        )
    assert not list(tmp_path.iterdir())


def test_a_broken_line_leaves_nothing_behind(tmp_path):
    demos = tmp_path / "mine.jsonl"
    demos.write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(DemosError, match=r"mine\.jsonl, line 2"):
        easyep.prune("demo", demos=demos, output=tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.jsonl"]


def test_ids_outside_the_vocabulary(tmp_path):
    demos = tmp_path / "mine.jsonl"
    demos.write_text('{"input_ids": [1, 100000]}\n')
    with pytest.raises(DemosError, match=r"line 1: a token id .*vocabulary of 512"):
        easyep.observe("demo", demos=demos)


def test_limits_of_a_language_model_inside_of_another(tmp_path):
    model = build("qwen3_vl_moe", tmp_path / "m")
    demos = tmp_path / "mine.jsonl"
    demos.write_text('{"input_ids": [1, 64]}\n')
    with pytest.raises(DemosError, match=r"line 1: a token id .*vocabulary of 64"):
        easyep.observe(model, demos=demos)
    config = json.loads((model / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 8
    (model / "config.json").write_text(json.dumps(config))
    demos.write_text(json.dumps({"input_ids": [1] * 20}))
    assert easyep.observe(model, demos=demos, device="cpu").num_tokens == 8


def test_an_existing_output_is_not_touched(tmp_path):
    (tmp_path / "precious").write_text("")
    with pytest.raises(OutputError, match="is not empty"):
        easyep.prune("demo", domain="math", output=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


def test_a_dense_model_has_nothing_to_prune(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "dense")
    with pytest.raises(UnsupportedModelError, match="llama"):
        easyep.prune(tmp_path / "dense", domain="math", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scores_of_another_model_are_refused(tmp_path):
    other = build("deepseek_v3", tmp_path / "other")
    scores = easyep.score(easyep.observe("demo", domain="math", n_demos=1))
    with pytest.raises(ArtifactError, match="not of"):
        queries.check_scores(scores, other)
    with pytest.raises(EasyEPError):
        easyep.rewrite(other, easyep.select(scores), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_published_mask(tmp_path):
    source = Source.open("demo")
    rows = [[1] * 16 + [0] * 16 for _ in source.layout.moe_layers]
    path = tmp_path / "mask.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(SelectionError, match="--groups flatten"):
        queries.read_mask(path, "demo")
    chosen = queries.read_mask(path, "demo", groups="flatten")
    done = easyep.rewrite("demo", chosen, tmp_path / "out", mtp="follow")
    assert easyep.verify(done.path, "demo").ok
    path.write_text("{}")
    with pytest.raises(ArtifactError, match="not a JSON list"):
        queries.read_mask(path, "demo")


def other_weights(path: Path) -> Path:
    """The demo model with one router turned upside down: the same config and shapes."""
    shutil.copytree(demo_model(), path)
    tensor = Checkpoint.open(path).tensors["model.layers.2.mlp.gate.weight"]
    with open(path / tensor.shard, "r+b") as file:
        file.seek(tensor.begin)
        rows = np.frombuffer(file.read(tensor.end - tensor.begin), np.uint8).reshape(32, -1)
        file.seek(tensor.begin)
        file.write(rows[::-1].tobytes())
    for shard in path.glob("*.safetensors"):  # training changes every weight, not only routers
        content = bytearray(shard.read_bytes())
        content[-2] ^= 1
        shard.write_bytes(content)
    return path


def test_other_weights_are_another_model(pruned, tmp_path):
    other = other_weights(tmp_path / "other")
    with pytest.raises(ArtifactError, match="not of"):
        queries.check_scores(pruned.scores, other)
    choices = {"demos": domain_file("math", "demo"), "n_demos": 3, "dtype": "float32"}
    work = tmp_path / "work"
    one = easyep.prune("demo", output=tmp_path / "a", work_dir=work, **choices)
    two = easyep.prune(other, output=tmp_path / "b", work_dir=work, **choices)
    assert one.scores.layers[2].tolist() != two.scores.layers[2].tolist()


def test_damaged_observations_are_made_again(pruned, tmp_path):
    choices = {"domain": "math", "n_demos": 2, "dtype": "float32"}
    first = easyep.prune("demo", output=tmp_path / "a", work_dir=tmp_path / "work", **choices)
    (saved,) = (tmp_path / "work" / "observations").iterdir()
    (saved / "layer-00003.safetensors").write_bytes(b"half")
    again = easyep.prune("demo", output=tmp_path / "b", work_dir=tmp_path / "work", **choices)
    assert again.selection == first.selection
    (saved / "observations.json").unlink()
    third = easyep.prune("demo", output=tmp_path / "c", work_dir=tmp_path / "work", **choices)
    assert third.selection == first.selection


@pytest.mark.parametrize("kind", ["file", "link", "link to nothing"])
def test_what_is_no_folder_of_observations_is_put_aside(kind, tmp_path):
    choices = {"domain": "math", "n_demos": 1, "dtype": "float32"}
    work = tmp_path / "work"
    first = easyep.prune("demo", output=tmp_path / "a", work_dir=work, **choices)
    (saved,) = (work / "observations").iterdir()
    shutil.rmtree(saved)
    if kind == "file":
        saved.write_text("")
    else:
        saved.symlink_to(tmp_path / "elsewhere")
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "observations.json").write_text("somebody's")
    again = easyep.prune("demo", output=tmp_path / "b", work_dir=work, **choices)
    assert again.selection == first.selection
    if kind == "link":
        assert (tmp_path / "elsewhere" / "observations.json").read_text() == "somebody's"


def test_the_home_folder_is_meant_where_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    easyep.observe("demo", domain="math", n_demos=1, output="~/seen")
    assert Observations.load(tmp_path / "home" / "seen").domain == "math"
    done = easyep.prune("demo", criterion="router-norm", output="~/pruned")
    assert Checkpoint.open(done.path).path == tmp_path / "home" / "pruned"
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


def test_two_runs_share_a_work_directory(tmp_path, monkeypatch):
    save = Observations.save

    def as_if_another_run_were_faster(self, folder):
        save(self, folder)
        save(self, folder)

    monkeypatch.setattr(Observations, "save", as_if_another_run_were_faster)
    choices = {"domain": "math", "n_demos": 1, "output": tmp_path / "out"}
    assert easyep.prune("demo", work_dir=tmp_path / "work", **choices).verification.ok


def test_a_wrong_output_is_not_kept(tmp_path, monkeypatch):
    wrong = verification.Verification((verification.Check("bytes", False, "one differs"),))
    monkeypatch.setattr(verification, "verify", lambda *args, **kwargs: wrong)
    with pytest.raises(VerificationError, match="one differs"):
        easyep.prune("demo", domain="math", n_demos=1, output=tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("work", ["out/work", "file/work"])
def test_a_work_directory_that_cannot_be(work, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="work directory"):
        easyep.prune("demo", domain="math", output=tmp_path / "out", work_dir=tmp_path / work)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("work", ["{pruned}", "{pruned}/work", "{model}", "{model}/work", "other"])
def test_no_checkpoint_is_a_work_directory(work, pruned, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(demo_model(), model)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    place = tmp_path / work.format(pruned=pruned.path, model=model)
    before = {folder: sorted(folder.rglob("*")) for folder in (pruned.path, tmp_path)}
    for way in (easyep.prune, easyep.plan):
        with pytest.raises(OutputError, match="work directory|in the checkpoint"):
            way(model, domain="math", output=tmp_path / "out", work_dir=place)
    with pytest.raises(OutputError, match="work directory|in the checkpoint"):
        easyep.evaluate(model, work_dir=place)
    assert {folder: sorted(folder.rglob("*")) for folder in before} == before


def test_a_config_further_up_does_not_make_a_checkpoint(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    easyep.plan("demo", domain="math", output=tmp_path / "out", work_dir=tmp_path / "work")


def test_ids_need_no_tokenizer(tmp_path):
    path = tmp_path / "model"
    shutil.copytree(demo_model(), path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).unlink()
    demos = tmp_path / "mine.jsonl"
    demos.write_text('{"input_ids": [5, 6, 7, 8]}\n')
    assert easyep.observe(path, demos=demos).num_tokens == 4


def test_observing_needs_one_source_of_demonstrations():
    for choices in ({}, {"domain": "math", "demos": "mine.jsonl"}):
        with pytest.raises(DemosError, match="either a domain or a file"):
            easyep.observe("demo", **choices)


def test_nothing_is_printed(pruned, tmp_path: Path, capfd):
    easyep.rewrite("demo", pruned.selection, tmp_path / "out")
    easyep.observe("demo", domain="math", n_demos=2)
    easyep.verify(tmp_path / "out", "demo")
    assert capfd.readouterr() == ("", "")


def test_a_criterion_of_weights_runs_no_model(tmp_path, monkeypatch):
    monkeypatch.setattr("easyep.loading.load_model", None)
    done = easyep.prune("demo", criterion="aimer", keep=0.5, output=tmp_path / "out")
    assert done.observations == ()
    assert done.verification.ok
    assert sorted(done.selection.layers) == [1, 2, 3, 4]


def test_what_cannot_be_chosen_is_told_before_the_model_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("easyep.loading.load_model", None)
    some = {"domain": ["math", "code"], "output": tmp_path / "out"}
    with pytest.raises(SelectionError, match="there is no layer 9"):
        easyep.prune("demo", protect="9:1", **some)
    with pytest.raises(SelectionError, match="are protected"):
        easyep.prune("demo", protect="0-6", keep=0.5, **some)
    with pytest.raises(ArtifactError, match="choose the mix 'mean'"):
        easyep.prune("demo", criterion="hope", mix="max-min", **some)
    with pytest.raises(UnknownNameError, match="load in no engine"):
        easyep.prune("demo", allocation="global", **some)
    monkeypatch.setattr("easyep.selection.solver.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="easyep\\[solver\\]"):
        easyep.prune("demo", mix="max-min", **some)
