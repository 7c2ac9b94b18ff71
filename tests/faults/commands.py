"""Every command that writes or reads for long, on the demo model, as small as it goes."""

import json
from dataclasses import dataclass
from pathlib import Path

from easyep.resources import demo_model
from tests.faults.processes import Limits, run

OBSERVE = ("--model", "demo", "--domain", "math", "--n-demos", "2", "--mtp", "drop")


@dataclass(frozen=True)
class Command:
    """A command line for a folder with `inputs` beside it.

    Attributes:
        words: its arguments.
        timed: whether its result tells how long something took, so that no two are equal.
    """

    words: tuple[str, ...]
    timed: bool = False


COMMANDS = {
    "observe": Command(("observe", *OBSERVE, "--output", "out")),
    "observe, streaming": Command(("observe", *OBSERVE, "--runner", "stream", "--output", "out")),
    "score": Command(("score", "--observations", "../inputs/obs", "--output", "scores.json")),
    "select": Command(
        ("select", "--scores", "../inputs/scores.json", "--model", "demo", "--output", "out.json")
    ),
    "rewrite": Command(
        (
            "rewrite",
            "--model",
            "demo",
            "--selection",
            "../inputs/selection.json",
            "--max-shard-size",
            "300kB",
            "--output",
            "out",
        )
    ),
    "verify": Command(("verify", "../inputs/pruned", "--source", "demo")),
    "prune": Command(("prune", *OBSERVE, "--work-dir", "work", "--output", "out")),
    "prune, streaming": Command(
        ("prune", *OBSERVE, "--runner", "stream", "--work-dir", "work", "--output", "out")
    ),
    "run": Command(("run", "../inputs/recipe.yaml", "--work-dir", "work", "--output", "out")),
    "run, a manifest": Command(
        ("run", "../inputs/again/easyep.json", "--work-dir", "work", "--output", "out")
    ),
    "run, a study": Command(
        ("run", "../inputs/study.yaml", "--work-dir", "work", "--output", "out.json"), timed=True
    ),
    "run, several keeps": Command(
        ("run", "../inputs/keeps.yaml", "--work-dir", "work", "--output", "out.json"), timed=True
    ),
    "stability": Command(
        ("stability", "--observations", "../inputs/obs", "--samples", "2", "--output", "out.json")
    ),
    "report": Command(("report", "../inputs/pruned", "--output", "out.html")),
    "compare": Command(
        (
            "compare",
            "demo",
            "../inputs/pruned",
            "--domain",
            "math",
            "--n-demos",
            "2",
            "--max-new-tokens",
            "4",
            "--output",
            "out.json",
        ),
        timed=True,
    ),
    "eval": Command(
        (
            "eval",
            "../inputs/pruned",
            "--tasks",
            "easyep_demo_math",
            "--limit",
            "2",
            "--work-dir",
            "work",
            "--output",
            "out.json",
        ),
        timed=True,
    ),
    "bench": Command(
        (
            "bench",
            "../inputs/pruned",
            "--lengths",
            "8+4",
            "--batch-size",
            "1",
            "--num-iters",
            "1",
            "--output",
            "out.json",
        ),
        timed=True,
    ),
    "demos build": Command(
        (
            "demos",
            "build",
            "paper-math",
            "--data-files",
            "../inputs/rows.jsonl",
            "--count",
            "3",
            "--output",
            "out.jsonl",
        )
    ),
    "demos generate": Command(
        (
            "demos",
            "generate",
            "--prompts",
            "../inputs/prompts.jsonl",
            "--model",
            "demo",
            "--max-tokens",
            "128",
            "--temperature",
            "0",
            "--output",
            "out.jsonl",
        )
    ),
}


def make_inputs(folder: Path) -> None:
    """What the commands read."""
    folder.mkdir()
    row = {"ID": "1", "Year": 2023, "Problem Number": 1, "Question": "q", "Answer": "42"}
    rows = [{**row, "ID": str(i), "Question": f"How much is {i} and {i}?"} for i in range(5)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    domain = demo_model().parent / "calibration_data" / "demo" / "math.jsonl"
    if not domain.exists():
        domain = Path(__file__).parents[2] / "calibration_data" / "demo" / "math.jsonl"
    prompts = domain.read_text().splitlines(keepends=True)[:2]
    (folder / "prompts.jsonl").write_text("".join(prompts))
    choices = {"model": "demo", "domain": ["math"], "n_demos": 2, "mtp": "drop"}
    (folder / "recipe.yaml").write_text(json.dumps(choices))
    study = {"study": "two", "model": "demo", "domains": ["math"], "keep": [0.5], "limit": 2}
    (folder / "study.yaml").write_text(
        json.dumps({**study, "tasks": "easyep_demo_{domain}", "criteria": ["easy-ep"]})
    )
    held_out = {"held_out": "eval/data/demo_{domain}.jsonl", "criteria": ["easy-ep", "random"]}
    (folder / "keeps.yaml").write_text(json.dumps({**study, **held_out, "keep": [0.25, 0.5]}))
    for words in (
        ("observe", *OBSERVE, "--output", "obs"),
        ("score", "--observations", "obs", "--output", "scores.json"),
        ("select", "--scores", "scores.json", "--model", "demo", "--output", "selection.json"),
        ("rewrite", "--model", "demo", "--selection", "selection.json", "--output", "pruned"),
        ("prune", *OBSERVE, "--output", "again"),
    ):
        done = run(words, folder, Limits())
        assert done.code == 0, done.said
