"""The commands as somebody types them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import easyep
from easyep import cli
from easyep.cli import COMMANDS, app
from easyep.cli.options import DEFAULTS
from easyep.resources import demo_model
from tests.records import observations

SMALL = ["--model", "demo", "--domain", "math", "--n-demos", "2", "--dtype", "float32"]


def run(capsys, *words) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_the_whole_way(capsys, tmp_path):
    code, out, err = run(capsys, "prune", *SMALL, "--keep", "0.5", "--output", tmp_path / "out")
    assert code == 0
    assert "16 of 32 experts kept in every layer, by easy-ep" in out
    assert "checks passed" in err
    assert (tmp_path / "out" / "easyep.json").exists()


def test_json_is_one_object_and_nothing_else(capsys, tmp_path):
    code, out, _ = run(capsys, "prune", *SMALL, "--output", tmp_path / "out", "--json")
    assert code == 0
    assert out.count("\n") == 1
    value = json.loads(out)
    assert (value["keep"], value["num_experts"], value["warnings"]) == (16, 32, [])


def test_the_stages(capsys, tmp_path):
    obs, scores, selection = (tmp_path / n for n in ("obs", "scores.json", "selection.json"))
    assert run(capsys, "observe", *SMALL, "--output", obs)[0] == 0
    assert run(capsys, "score", "--observations", obs, "--output", scores)[0] == 0
    both = ["--observations", obs, f"{obs}:0.5", "--criterion", "reap"]
    assert run(capsys, "score", *both, "--output", tmp_path / "mixed.json")[0] == 0
    assert len(json.loads((tmp_path / "mixed.json").read_text())["observations"]) == 2
    chosen = ["--scores", scores, "--model", "demo", "--keep", "16", "--groups", "flatten"]
    code, out, _ = run(capsys, "select", *chosen, "--output", selection)
    assert code == 0
    assert "share of the score kept" in out
    out_dir = tmp_path / "out"
    rewriting = ["--model", "demo", "--selection", selection, "--output", out_dir]
    assert run(capsys, "rewrite", *rewriting, "--max-shard-size", "big")[0] == 2
    code, _, err = run(capsys, "rewrite", *rewriting, "--max-shard-size", "500kB")
    assert code == 0
    assert len(list(out_dir.glob("*.safetensors"))) > 1
    assert "the multi-token-prediction layer 5 was left out" in err
    code, out, _ = run(capsys, "verify", out_dir, "--source", "demo", "--json")
    assert code == 0
    assert json.loads(out)["ok"]


def test_a_wrong_output_is_told(capsys, pruned, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(pruned.path, copy)
    config = json.loads((copy / "config.json").read_text())
    config["n_routed_experts"] = 32
    (copy / "config.json").write_text(json.dumps(config))
    code, out, err = run(capsys, "verify", copy, "--source", "demo")
    assert code == 1
    assert "WRONG" in out
    assert err.startswith("easyep: error:")


@pytest.mark.parametrize("what", ["domains", "criteria", "architectures", "models"])
def test_list(capsys, what):
    code, out, _ = run(capsys, "list", what)
    assert code == 0
    assert {"domains": "math", "criteria": "easy-ep", "architectures": "deepseek_v3"}.get(
        what, "demo"
    ) in out
    code, out, _ = run(capsys, "list", what, "--json")
    assert json.loads(out)[what]


def test_inspect(capsys):
    code, out, _ = run(capsys, "inspect", "demo")
    assert code == 0
    for words in ("deepseek_v3", "5, routed experts in 1-4", "4, of which a token uses 2"):
        assert words in out
    assert "BF16 98.5%, F32 1.5%" in out  # the router
    code, out, _ = run(capsys, "inspect", "demo", "--keep", "0.5", "--keep", "8", "--json")
    assert json.loads(out)["experts"] == 32
    assert [saving["keep"] for saving in json.loads(out)["savings"]] == [16, 8]
    code, _, err = run(capsys, "inspect", "demo", "--keep", "7")
    assert code == 1
    assert "nearest counts that work: 8" in err


def test_a_whole_number_is_a_number_of_experts(capsys):
    _, out, _ = run(capsys, "inspect", "demo", "--keep", "24", "--json")
    assert json.loads(out)["savings"][0]["keep"] == 24
    assert run(capsys, "inspect", "demo", "--keep", "24.0", "--json") == (0, out, "")


def test_dry_run_writes_nothing(capsys, tmp_path):
    code, out, _ = run(capsys, "prune", *SMALL, "--output", tmp_path / "out", "--dry-run")
    assert code == 0
    assert "16 of 32" in out
    assert not list(tmp_path.iterdir())
    code, out, _ = run(capsys, "prune", *SMALL, "--dry-run", "--json")
    assert json.loads(out)["demos"]["math"]["demos"] == 2


def test_a_dry_run_shows_what_a_disk_is_too_small_for(capsys, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    command = ["prune", *SMALL, "--output", tmp_path / "out", "--dry-run"]
    code, out, err = run(capsys, *command)
    assert code == 1
    assert "16 of 32" in out
    assert "4.4 MB, but only 1.0 MB are free" in err
    code, out, err = run(capsys, *command, "--json")
    assert code == 1
    assert json.loads(out)["no_room"] in err
    assert not list(tmp_path.iterdir())


def test_a_recipe(capsys, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model: demo\ndomain: [math]\nn_demos: 2\nkeep: 0.5\ndtype: float32\n")
    code, _, err = run(capsys, "run", recipe, "--output", tmp_path / "an out")
    assert code == 0
    assert (tmp_path / "an out" / "config.json").exists()
    assert f"easyep eval '{tmp_path / 'an out'}' --against demo\n" in err


def test_what_was_cut_is_told(capsys, tmp_path):
    words = ["prune", *SMALL, "--max-length", "20", "--output", tmp_path / "out"]
    _, out, err = run(capsys, *words, "--quiet", "--json")
    assert "2 of 2 demonstrations of math were longer than the limit and lost" in err
    assert json.loads(out)["cut_tokens"]["math"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prune", *SMALL, "--keep", "2", "--output", "o"], "cannot keep 2 of 32"),
        (["prune", "--model", "demo", "--domain", "mathe", "--output", "o"], "did you mean 'math'"),
        (["prune", *SMALL, "--criterion", "reep", "--output", "o"], "did you mean 'reap'"),
        (["inspect", "no-such-model"], "unknown model"),
        (["bench", "demo", "--backend", "vlm"], "did you mean 'vllm'"),
        (["bench", "demo", "--against", "demo"], "against itself"),
        (["bench", "demo", "--lengths", "2000+2000"], "the model's 2048 positions"),
        (["bench", "demo", "--backend", "openai"], "give its address"),
        (["bench", "demo", "--base-url", "http://localhost:8000"], "base_url has no effect on"),
        (
            ["bench", "demo", "--backend", "openai", "--memory-budget", "1GB"],
            "a memory budget has no effect on the backend openai",
        ),
        (["eval", "demo", "--against", "nosuch", "--output", "o.json"], "unknown model 'nosuch'"),
        (["eval", "demo", "--model-args", "batch_size=4"], "the argument 'batch_size' has no"),
        (["eval", "demo", "--model-args", "dtype=float32"], "the argument 'dtype' has no effect"),
        (["eval", "demo", "--model-args", "nosuch=1"], "the argument 'nosuch' has no effect"),
        (["inspect", "demo", "--keep", "0.05"], "cannot keep 2 of 32 experts"),
        (["list", "models", "--log-file", ""], "--log-file has no name"),
        (["eval", "demo", "--output", ""], "output must be a text"),
        (["prune", *SMALL, "--output", "o", "--work-dir", ""], "work_dir must be a text"),
        (
            ["bench", "demo", "--tensor-parallel-size", "2"],
            "takes device, dtype, memory, trust_remote_code",
        ),
        (["bench", "demo", "--backend", "openai", "--dtype", "float32"], "dtype has no effect on"),
        (["inspect", "./no-such-model"], "does not exist"),
        (["rewrite", "--model", "demo", "--selection", "x", "--output", "o"], "does not exist"),
        (["select", "--scores", "x", "--output", "o"], "does not exist"),
        (["verify", "nowhere"], "nowhere"),
        (["run", "nowhere.yaml"], "does not exist"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *words)
    assert code == 1
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


HOSTILE = {
    "input_ids": '{"input_ids": [1180591620717411303424]}',
    "surrogate": '{"text": "\\ud800"}',
    "nested": "[" * 10_000,
    "vocabulary": '{"input_ids": [99999]}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_demonstrations(capsys, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.jsonl").write_text(HOSTILE[name] + "\n")
    words = ["prune", "--model", "demo", "--demos", "mine.jsonl", "--output", "out"]
    code, _, err = run(capsys, *words)
    assert code == 1
    assert "mine.jsonl" in err
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["mine.jsonl"]


@pytest.mark.parametrize(
    "text",
    [
        "model: demo\ndomain: 5\n",
        "model: demo\ndomain: [math]\nkeep: .inf\n",
        "model: demo\ndomain: [math]\nseed: abc\n",
        "model: demo\ndomain: [math]\nseed: -1\n",
        "model: demo\ndomain: [math]\ntrust_remote_code: 'no'\n",
        "model: demo\ndomain: [math]\nkeep: 2020-13-45\n",
        "model: demo\ndomain: [math]\ndevice: cuda:99\n",
        "model: [demo]\n",
        "study: s\nmodel: demo\ndomains: []\ntasks: t\n",
        "study: s\nmodel: demo\ndomains: [math]\ntasks: easyep_demo_{domain}\nkeep: 3\n",
        "study: s\nmodel: demo\ndomains: [math]\ntasks: easyep_demo_{domain}\ncriteria: x\n",
    ],
)
def test_hostile_recipes(capsys, tmp_path, text):
    (tmp_path / "r.yaml").write_text(text)
    code, _, err = run(capsys, "run", tmp_path / "r.yaml", "--output", tmp_path / "out")
    assert code == 1
    assert err.count("\n") == 1
    assert "fault of easyep" not in err
    assert [p.name for p in tmp_path.iterdir()] == ["r.yaml"]


def test_terminated_commands_leave_nothing(tmp_path):
    program = (
        "import os, signal, sys, easyep.atomic, pathlib\n"
        "from easyep import cli, pipeline\n"
        "def slow(*args, **kwargs):\n"
        "    with easyep.atomic.appearing(pathlib.Path(sys.argv[1])) as folder:\n"
        "        (folder / 'half').write_text('x')\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "pipeline.verify = slow\n"
        "cli.main(['verify', 'x'])"
    )
    words = [sys.executable, "-c", program, tmp_path / "out"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 143
    assert done.stderr.strip() == "easyep: error: terminated"
    assert not list(tmp_path.iterdir())


def test_faults_of_easyep_are_told_as_such(capsys, monkeypatch):
    def fault(*args, **kwargs):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("easyep.pipeline.verify", fault)
    code, _, err = run(capsys, "verify", "x")
    assert (code, err.count("\n")) == (1, 1)
    assert "RuntimeError: first line (this is a fault of easyep" in err
    assert "Traceback" in run(capsys, "verify", "x", "--debug")[2]


def test_what_the_system_refuses_is_no_fault_of_easyep(capsys):
    name = "x" * 300
    code, _, err = run(capsys, "run", name)
    assert (code, err.count("\n")) == (1, 1)
    assert f"{name}: File name too long (--debug shows where" in err


@pytest.mark.parametrize(
    "words",
    [
        ["prone"],
        ["prune"],
        ["prune", *SMALL],
        ["prune", *SMALL, "--keep", "half", "--output", "o"],
        ["observe", "--model", "demo", "--output", "o"],
        ["observe", *SMALL, "--domain", "code", "--output", "o"],
        ["list", "things"],
        ["select", "--output", "o"],
        ["eval", "demo", "--dtype", "int8"],
        ["bench", "demo", "--dtype", "int8"],
        ["bench", "demo", "--lengths", "12"],
        ["bench", "demo", "--extra-body", "[1]"],
        ["bench", "demo", "--extra-body", "[" * 90_000],
        ["bench", "demo", "--against-base-url", "http://localhost:8001"],
        ["bench", "demo", "--predict", "h100", "--backend", "vllm"],
        ["bench", "demo", "--predict", "h100", "--num-iters", "2"],
        ["eval", "demo", "--tasks", ""],
        ["eval", "demo", "--tasks", " , "],
        ["eval", "demo", "--backend", "paper"],
        ["eval", "demo", "--style", "loud"],
        ["compare", "demo", "out", "--domain", "math", "--tokens", "few"],
        ["demos", "show", "math", "--model", "demo", "--style", "loud"],
        ["observe", *SMALL, "--output", "o", "--runner", "nobody"],
        ["score", "--observations", "obs:0", "--output", "o.json"],
        ["score", "obs:-1", "--output", "o.json"],
        ["stability", "--observations", "obs", "--figure", "figure.xyz"],
        *(
            ["prune", "--model", "demo", "--dry-run", *words]
            for words in (
                ["--domain", "math:0"],
                ["--domain", "math:many"],
                ["--demos", "mine.jsonl:nan"],
                *(
                    ["--domain", "math", f"--{name}", "nosuch"]
                    for name in ("mtp", "tokens", "groups", "mix", "records", "demo-order")
                ),
            )
        ),
        ["prune", *SMALL, "--forbid", "super-experts", "--dry-run"],
        ["observe", "--model", "demo", "--domain", "math:2", "--output", "o"],
        ["compare", "demo", "out", "--domain", "math:2"],
        ["compare", "demo", "out", "--demos", "mine.jsonl:1"],
        ["bench", "demo", "--predict", "h100", "--device", "cpu"],
        ["prune", "--unknown"],
        ["prune", "--model", "demo", "--keep", "0.5", "--output", "o"],
        *(
            ["prune", *SMALL, "--domain", "math", "--keep", keep, "--dry-run"]
            for keep in ("7.5", "0", "-1", "nan")
        ),
    ],
)
def test_wrong_usage(capsys, words):
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "Traceback" not in err


def test_the_list_of_commands_says_what_each_says_itself():
    for name, (_, summary) in COMMANDS.items():
        assert app.get_command(None, name).help.split("\n")[0] == summary  # type: ignore


def test_a_misspelt_command_is_recognised(capsys):
    assert "did you mean 'prune'" in run(capsys, "prone")[2]
    assert "did you mean 'show'" in run(capsys, "demos", "shaw")[2]


@pytest.mark.parametrize("message", [[], ["2 weight files are kept"]])
def test_interrupted(capsys, monkeypatch, message):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt(*message)

    monkeypatch.setattr("easyep.planning.plan", interrupt)
    code, _, err = run(capsys, "prune", *SMALL, "--dry-run")
    assert code == 130
    assert "; ".join(["interrupted", *message]) in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    "words",
    [["list", "models"], ["list", "models", "--json"], ["demos", "table"], ["completion", "fish"]],
)
def test_a_result_that_cannot_be_printed_is_told(words):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "easyep", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("easyep: error: standard output cannot be written: No space")
    assert done.stderr.count("\n") == 1


def test_debug_shows_the_traceback(capsys):
    assert "Traceback" in run(capsys, "inspect", "no-such-model", "--debug")[2]


def test_defaults_are_those_of_the_recipe():
    command = app.get_command(None, "prune")  # type: ignore[arg-type]
    given = command.make_context("prune", ["--model", "demo"]).params
    names = DEFAULTS.keys() - {"model"}
    assert {name: given[name] for name in names} == {name: DEFAULTS[name] for name in names}


@pytest.mark.parametrize("name", [None, *app.list_commands(None)])  # type: ignore[arg-type]
def test_help(capsys, name):
    code, out, _ = run(capsys, *([name] if name else []), "--help")
    assert code == 0
    assert "easyep" in out
    assert "xample" in out or "Start here" in out


def test_version():
    done = subprocess.run(
        [sys.executable, "-m", "easyep", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("easyep, version ")


def test_nothing_is_measured_where_the_second_model_will_not_do(capsys, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(demo_model(), other)
    words = ["eval", "demo", "--against", other, "--limit", "2", "--work-dir", other / "work"]
    assert f"lies in the checkpoint {other}" in run(capsys, *words)[2]
    assert not (other / "work").exists()
    (tmp_path / "none").mkdir()
    words = ["eval", tmp_path / "none", "--tasks", "easyep_demo", "--work-dir", tmp_path / "work"]
    assert "has no file config.json" in run(capsys, *words)[2]
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("bench demo --dtype ", ["auto", "float32", "bfloat16", "float16"]),
        ("prune --groups b", ["balanced"]),
        ("prune --runner ", ["auto", "deepspeed", "memory", "stream"]),
        ("eval demo --backend v", ["vllm"]),
    ],
)
def test_words_that_help_lists_are_completed(words, found):
    context = {"COMP_WORDS": f"easyep {words}", "_EASYEP_COMPLETE": "bash_complete"}
    context["COMP_CWORD"] = str(words.count(" ") + 1)
    done = subprocess.run(
        [sys.executable, "-m", "easyep"],
        env={**os.environ, **context},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [f"plain,{word}" for word in found]


def test_sums_are_told_as_records_are(capsys, tmp_path):
    words = ["prune", *SMALL, "--quiet", "--output"]
    tables = [
        run(capsys, *words, tmp_path / records, "--records", records)
        for records in ("none", "full")
    ]
    assert [code for code, _, _ in tables] == [0, 0]
    assert tables[0][1] == tables[1][1]


def test_a_dry_run_says_what_will_be_left_out(capsys):
    assert "layer 5 will be left out" in run(capsys, "prune", *SMALL, "--dry-run")[2]
    assert "left out" not in run(capsys, "prune", *SMALL, "--dry-run", "--mtp", "score")[2]


def in_a_folder(tmp_path, pruned):
    """Everything that commands read, where it may be overwritten."""
    shutil.copytree(pruned.path, tmp_path / "out")
    shutil.copytree(demo_model(), tmp_path / "model")
    record = observations(experts=8)
    record.save(tmp_path / "obs")
    easyep.score(record, "reap").save(tmp_path / "scores.json")
    (tmp_path / "mine.jsonl").write_text('{"text": "a"}\n')


@pytest.mark.parametrize(
    "words",
    [
        ["score", "--observations", "obs", "--output", "obs/observations.json"],
        ["score", "--observations", "obs", "--output", "out/scores.json"],
        ["select", "--scores", "scores.json", "--keep", "4", "--output", "scores.json"],
        ["select", "--scores", "scores.json", "--keep", "4", "--output", "model/config.json"],
        ["stability", "--observations", "obs", "--output", "obs/new.json"],
        ["stability", "--observations", "obs", "--output", "x.pdf", "--figure", "x.pdf"],
        ["stability", "--observations", "obs", "--output", "new/"],
        ["report", "out", "scores.json", "--output", "scores.json"],
        ["report", "out", "--output", "out/easyep.json"],
        ["report", "out", "--output", "r.html", "--card", "out/model.safetensors"],
        ["report", "out", "--output", "r.html", "--figures", "out/figures"],
        ["report", "out", "--output", "r.html", "--figures", "out"],
        ["compare", "demo", "out", "--domain", "math", "--output", "out/compare.json"],
        ["compare", "demo", "out", "--demos", "mine.jsonl", "--output", "mine.jsonl"],
        ["bench", "demo", "--output", "model/bench.json"],
        ["eval", "demo", "--output", "out"],
        ["eval", "demo", "--output", "model/eval.json"],
        [
            "demos",
            "generate",
            "--prompts",
            "mine.jsonl",
            "--model",
            "demo",
            "--output",
            "mine.jsonl",
        ],
        ["prune", *SMALL, "--output", "out/deep/x"],
        ["observe", *SMALL, "--output", "out/obs"],
        ["rewrite", "--model", "demo", "--selection", "sel.json", "--output", "out/sub"],
        ["verify", "out", "--log-file", "out/log"],
        ["select", "--scores", "scores.json", "--output", "s.json", "--log-file", "scores.json"],
        ["list", "models", "--log-file", "model/config.json"],
    ],
    ids=" ".join,
)
def test_nothing_that_is_read_is_overwritten_and_no_checkpoint_changed(
    capsys, tmp_path, monkeypatch, pruned, words
):
    in_a_folder(tmp_path, pruned)
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, _, err = run(capsys, *words)
    assert code in (1, 2)
    assert "Traceback" not in err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_card_of_a_checkpoint_may_be_written_anew(capsys, tmp_path, monkeypatch, pruned):
    in_a_folder(tmp_path, pruned)
    monkeypatch.chdir(tmp_path)
    words = ["report", "out", "--output", "r.html", "--card", "out/README.md"]
    assert run(capsys, *words)[0] == 0
    assert run(capsys, "verify", "out")[0] == 0


def test_fewer_demonstrations_than_asked_for(capsys, tmp_path):
    words = ["observe", "--model", "demo", "--domain", "math", "--quiet", "--output"]
    assert run(capsys, *words, tmp_path / "few", "--n-demos", "100")[2] == (
        "math: only 50 demonstrations are there; --n-demos asks for 100\n"
    )
    assert run(capsys, *words, tmp_path / "enough", "--n-demos", "2")[2] == ""


@pytest.mark.parametrize("closed", ["| :", "2>&1 | :"])
@pytest.mark.parametrize(
    ("words", "made"),
    [
        (
            "select --scores scores.json --keep 4 --keep 6 --output 's-{keep}.json'",
            ["s-4.json", "s-6.json"],
        ),
        (f"prune {' '.join(SMALL)} --output out", ["out"]),
    ],
    ids=["select", "prune"],
)
def test_a_closed_pipe_ends_the_command_without_a_word(tmp_path, closed, words, made):
    """And after its work."""
    easyep.score(observations(experts=8), "reap").save(tmp_path / "scores.json")
    program = f"set -o pipefail; (sleep 1; {sys.executable} -m easyep {words}) {closed}"
    done = subprocess.run(
        ["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (141, "")
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*made, "scores.json"])


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")],
)
def test_memory_that_runs_out_is_no_fault_of_easyep(capsys, monkeypatch, error):
    from easyep import pipeline

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(pipeline, "observe", fail)
    code, _, err = run(capsys, "observe", *SMALL, "--output", "never")
    assert code == 1
    assert err.startswith("easyep: error: memory ran out")
    assert "fault of easyep" not in err
