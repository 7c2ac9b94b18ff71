"""The model card with what was measured: only of this checkpoint, and nothing else changes."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

import easyep
from easyep.checkpoint.files import Checkpoint
from easyep.errors import ArtifactError
from easyep.gathering import gather
from easyep.presenting.card import card
from easyep.presenting.told import Told
from easyep.resources import demo_model
from tests.cli.test_cli import run
from tests.presenting.test_writing import COMPARED, TASK

HOSTILE = "a|b\n\n# c <img src=x>"
ESCAPED = "a\\|b # c &lt;img src=x&gt;"
HOW = {"masked": False, "lm_eval": "0.4.13", "backend": "hf", "dtype": "float32", "limit": None}


def identity(path) -> dict[str, str]:
    return Checkpoint.open(path).identity("").to_json()


def evaluated(models, task="sums", values=(0.75, 0.95)):
    """What `easyep eval` writes of models, name -> identity, the first against the second."""
    part = {**TASK, "task": f"part of {task}", "part_of": task, "value": 0.5, "stderr": None}
    found = {
        name: {
            "results": [{**TASK, "task": task, "value": value, "stderr": 0.05}, part],
            "settings": {**HOW, "model": model},
        }
        for (name, model), value in zip(models.items(), values, strict=True)
    }
    pair = {"task": task, "metric": "acc,none", "difference": values[0] - values[1]}
    return {**found, "differences": [{**pair, "stderr": 0.02, "p": 0.004}]}


def compared(models, domain="math"):
    first, second = models
    one = {**COMPARED["domains"][0], "domain": domain, "held_out": True}
    told = {"settings": {"models": models}, "domains": [one]}
    return {**COMPARED, "first": first, "second": second, **told}


def benched(models, rate="inf"):
    here, source = models
    work = {"random_input_len": 64, "random_output_len": 32, "request_rate": rate}
    rows = [
        {**work, "model": name, "max_concurrency": 8, "output_throughput": speed}
        for name, speed in ((here, 1500.0), (source, 1000.0))
    ]
    gain = {
        **work,
        "model": here,
        "against": source,
        "max_concurrency": 8,
        "against_max_concurrency": 8,
        "per_instance": {"output_throughput": 1.5},
        "spread": {"output_throughput": [1.25, 1.75]},
    }
    engines = {name: {"device": "cpu"} for name in models}
    ran = {"processor": "a processor", "backend": "transformers", "date": "2026-01-02T03:04:05"}
    group = {"results": rows, "gains": [gain]}
    return {
        "fixed_batch": group if rate == "inf" else {"results": [], "gains": []},
        **({"request_rates": group} if rate != "inf" else {}),
        "within_memory": {**group, "memory_budget_bytes": 2_000_000_000},
        "settings": {**ran, "models": models, "engines": engines},
    }


@pytest.fixture
def checkpoint(pruned, tmp_path):
    return Path(shutil.copytree(pruned.path, tmp_path / "demo-math"))


@pytest.fixture
def models(checkpoint):
    return {"demo-math": identity(checkpoint), "demo": identity(demo_model())}


def carded(tmp_path, checkpoint, *results):
    """The card, and what the report will say that is not in it."""
    files = []
    for number, result in enumerate(results):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(result))
    told = Told(gather([checkpoint, *files]))
    return card(told), {**told.left_out, **told.found.left_aside}


def test_without_measurements_it_is_what_pruning_wrote(checkpoint, tmp_path):
    assert carded(tmp_path, checkpoint) == ((checkpoint / "README.md").read_text(), {})


def test_every_measurement_is_told_and_nothing_else_changes(capsys, pruned, checkpoint, models):
    def digests():
        files = (path for path in sorted(checkpoint.iterdir()) if path.name != "README.md")
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before, folder = digests(), checkpoint.parent
    source_first = dict(reversed(models.items()))
    for name, value in (
        ("eval", evaluated(models)),
        ("compare", compared(source_first)),
        ("bench", benched(models)),
    ):
        (folder / f"{name}.json").write_text(json.dumps(value))
    other = easyep.observe("demo", domain="facts", n_demos=2, dtype="float32")
    other.save(folder / "observations" / "facts")
    words = [checkpoint, pruned.path.parent / "work", folder, "--output", folder / "page.html"]
    code, out, err = run(capsys, "report", *words, "--card", checkpoint / "README.md", "--json")
    assert code == 0, err
    assert not [name for name in json.loads(out)["left_out"] if "card" in name]
    text = (checkpoint / "README.md").read_text()
    assert "| sums | acc,none | 40 | 95.0 ± 5.0 | 75.0 ± 5.0 | -20.0 ± 2.0 | 0.004 |" in text
    assert "part of sums" not in text
    assert "| math | yes | 1,234 | 0.0625 | 98.0 | +0.100 |" in text
    speed = "| 64+32 | 8 | 1,000 | 1,500 | 1.50 (1.25 to 1.75) | - |"
    assert text.count(speed) == 2
    assert "transformers on a processor, 2026-01-02" in text
    assert "Each at the largest batch within 2.0 GB:" in text
    shown, hidden = (
        next(line for line in text.splitlines() if line.startswith(f"| {domain} | {how} | "))
        for domain, how in (("math", "yes"), ("facts", "no"))
    )
    assert float(hidden.split("|")[3]) < float(shown.split("|")[3]) < 100
    assert digests() == before
    assert easyep.verify(checkpoint, "demo").ok


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # lm-eval and what it imports
def test_what_the_commands_write_is_what_the_card_reads(capsys, checkpoint, tmp_path):
    how = ["--quiet", "--dtype", "float32", "--output"]
    task = ["--tasks", "easyep_demo_math", "--limit", 2]
    text = ["--domain", "code", "--n-demos", 2, "--max-new-tokens", 0]
    load = ["--lengths", "4+4", "--batch-size", 1, "--num-iters", 1]
    for words in (
        ["eval", checkpoint, "--against", "demo", *task, *how, tmp_path / "eval.json"],
        ["compare", "demo", checkpoint, *text, *how, tmp_path / "compare.json"],
        ["bench", checkpoint, "--against", "demo", *load, *how, tmp_path / "bench.json"],
    ):
        code, _, err = run(capsys, *words)
        assert code == 0, err
    told = Told(gather([checkpoint, *sorted(tmp_path.glob("*.json"))]))
    written = card(told)
    assert not told.left_out
    assert not told.found.left_aside
    assert "| easyep\\_demo\\_math | exact\\_match,answer | 2 | " in written
    assert "| code | yes | " in written
    assert written.count("| 4+4 | 1 | ") == 1


def test_either_model_may_have_been_evaluated_against_the_other(checkpoint, models, tmp_path):
    result = evaluated(dict(reversed(models.items())), values=(0.95, 0.75))
    text, _ = carded(tmp_path, checkpoint, result)
    assert "| 95.0 ± 5.0 | 75.0 ± 5.0 | -20.0 ± 2.0 | 0.004 |" in text
    alone = {name: each for name, each in result.items() if name == "demo-math"}
    text, _ = carded(tmp_path, checkpoint, alone)
    assert "| sums | acc,none | 40 | 75.0 ± 5.0 |\n" in text


def test_request_rates(checkpoint, models, tmp_path):
    text, _ = carded(tmp_path, checkpoint, benched(models, rate=2.5))
    assert "| 64+32 | 8 at most, 2.5 a second | 1,000 | 1,500 | 1.50 (1.25 to 1.75) | - |" in text


def test_servers_are_taken_on_trust(checkpoint, models, tmp_path):
    bench, measured = benched(models, rate=2.5), evaluated(models)
    bench["settings"]["backend"] = "openai"
    measured["demo-math"]["settings"] |= {"backend": "local-completions", "dtype": ""}
    text, _ = carded(tmp_path, checkpoint, bench, measured)
    assert "openai (a server that is trusted to run this model), 2026-01-02." in text
    assert "local-completions (a server that is trusted to run this model)." in text
    assert "a processor" not in text


def test_what_is_of_other_models_is_left_out(checkpoint, models, tmp_path):
    plain = (checkpoint / "README.md").read_text()
    other = {
        "demo-math": {**models["demo-math"], "weights_sha256": "0" * 64},
        "demo": models["demo"],
    }
    third = {"demo-math": models["demo-math"], "x": {**models["demo"], "config_sha256": "0" * 64}}
    masked = evaluated(models)
    masked["demo-math"]["settings"]["masked"] = True
    results = [evaluated(other), masked, compared(dict(reversed(other.items())))]
    results += [compared(models), compared({**third}), benched(other), benched(third)]
    results += [{**benched(models), "settings": {}}]  # of a time when no identity was kept
    text, left_out = carded(tmp_path, checkpoint, *results)
    assert text == plain
    assert len(left_out) == len(results)
    assert all("measurement of this checkpoint" in why for why in left_out.values())


def test_names_are_text_and_no_markup(checkpoint, models, tmp_path):
    reversed_models = dict(reversed(models.items()))
    cards = []
    for name in ("tame", HOSTILE):
        how = {**HOW, "lm_eval": name, "backend": name, "dtype": name}
        measured = evaluated(models, task=name)
        for model in models:
            measured[model]["settings"] |= how
        bench = benched(models)
        bench["settings"] |= {"processor": name, "backend": name}
        cards.append(
            carded(tmp_path, checkpoint, measured, compared(reversed_models, name), bench)[0]
        )
    tame, hostile = cards
    assert hostile.count(ESCAPED) == 7
    assert "<img" not in hostile
    assert len(hostile.splitlines()) == len(tame.splitlines())


def test_numbers_are_numbers(checkpoint, models, tmp_path):
    bench = benched(models)
    bench["fixed_batch"]["gains"][0]["random_input_len"] = HOSTILE
    bench["fixed_batch"]["results"][0]["random_input_len"] = HOSTILE
    measured = evaluated(models)
    measured["demo-math"]["results"][0]["samples"] = HOSTILE
    nobody = compared({"demo": HOSTILE, "demo-math": models["demo-math"]})
    text, left_out = carded(tmp_path, checkpoint, measured, bench, nobody)
    assert text == (checkpoint / "README.md").read_text()
    assert all("it is damaged" in why for why in left_out.values())
    assert len(left_out) == 3


def test_a_card_needs_a_whole_checkpoint(checkpoint, models, tmp_path):
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(benched(models)))
    with pytest.raises(ArtifactError, match="of a pruned checkpoint"):
        easyep.report(path, output=tmp_path / "r.html", card=tmp_path / "c.md")
    for name, value in (("source", {}), ("observations", 3), ("bytes_after", "x")):
        manifest = json.loads((checkpoint / "easyep.json").read_text())
        broken = Path(shutil.copytree(checkpoint, tmp_path / name))
        (broken / "easyep.json").write_text(json.dumps({**manifest, name: value}))
        with pytest.raises(ArtifactError):
            easyep.report(broken, output=tmp_path / "r.html", card=tmp_path / "c.md")
    assert not (tmp_path / "r.html").exists()
    assert not (tmp_path / "c.md").exists()
