"""Readers of what easyep itself wrote: results, work directories, manifests that are redone."""

import hashlib
import json
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from hypothesis import strategies as st

from easyep import scoring
from easyep.artifacts import Observations
from easyep.artifacts.files import read_json
from easyep.artifacts.layer_sums import LayerSums
from easyep.demonstrations import building
from easyep.demonstrations.building import BuildRecipe, build
from easyep.evaluation.accuracy import merged, results_of
from easyep.evaluation.evaluating import remembered
from easyep.gathering import gather
from easyep.observation.stream_state import StreamState
from easyep.presenting import choice, results
from easyep.presenting.told import DAMAGED, Told
from easyep.recipe import read_yaml
from easyep.redoing import Made
from easyep.reporting import measured, page
from easyep.reporting.model_card import model_card
from easyep.source import Source
from easyep.study.evaluations import recalled
from easyep.study.summary import Cell, summarise
from tests.fuzzing.binaries import files
from tests.fuzzing.documents import MANIFEST, RECIPES
from tests.fuzzing.mutations import changed, one_of, texts
from tests.fuzzing.reader import Reader, put
from tests.presenting import test_card
from tests.presenting.test_writing import BENCH, COMPARED, EVALUATED, STUDY
from tests.records import MODEL, observations
from tests.reporting import test_model_card

RESULTS = (STUDY, COMPARED, EVALUATED, BENCH, MANIFEST)
MODELS = {"demo-math": MODEL.to_json(), "demo": MODEL.to_json()}
CARDS = (
    test_model_card.MANIFEST,
    test_card.evaluated(MODELS)["demo-math"],
    test_card.compared(MODELS),
    test_card.benched(MODELS),
)
TASK = "easyep_demo_math"
MEASURED = {
    "results": {TASK: {"alias": TASK, "exact_match,answer": 0.5, "exact_match_stderr,answer": 0.1}},
    "n-samples": {TASK: {"original": 10, "effective": 2}},
    "versions": {TASK: 1},
    "config": {"model_dtype": "float32", "limit": 2},
    "samples": {TASK: []},
    "group_subtasks": {"g": [TASK]},
    "groups": {"g": {"exact_match,answer": 0.5}},
}
RECALLED = (
    {"accuracy": 0.5, "samples": 10, "bytes": 100, "kl": 0.1, "agreement": 0.9, "loss": 1.0},
    {"accuracy": {"results": [], "settings": {}}, "bytes": 1},
)
SUMS = {
    f"{kind}/{name}": np.ones(shape)
    for kind in ("all", "response")
    for name, shape in (("easy-ep", (2, 8)), ("peaks", 8), ("counted", 1))
}
ROW = {"q": "How much is 2 and 2?", "a": "4", "turns": [{"from": "human", "value": "x"}]}
WAYS: tuple[Any, ...] = (
    {"dataset": "json", "data_files": "x", "count": 1, "filter": "q and a|length < 9"}
    | {"messages": [{"role": "user", "content": "{{ q|upper }}"}]},
    {"dataset": "a/b", "count": 1, "messages": {"column": "turns"}}
    | {"metadata": {"topic": "{{ q[:3] }}"}, "tools": "{{ [row]|tojson }}"},
)
STATE = {"000000": np.ones((2, 4), np.float32), "000001": np.zeros(1, np.float32)}


def _results(folder: Path, content: bytes) -> None:
    """All that a report says in words; its figures are matplotlib's own."""
    put(folder, "given/results.json", content)
    put(folder, "given/easyep.json", content)
    with patch.object(Told, "drawn", _without_figures):
        told = Told(gather([folder / "given"]))
        measurements = (results.studies, results.accuracies, results.comparisons, results.costs)
        for part in (*measurements, choice.origin):
            part(told)
        page.render(told.title, [told.summary(), *told.sections, told.absent()])


def _without_figures(told: Told, path: str, draw: Any, value: Any) -> list[Any]:
    return []


def _card(folder: Path, content: bytes) -> None:
    """What a card says in words; whatever is damaged is left out, or refused with the card."""
    value = read_json(put(folder, "given.json", content), "file")
    throughput = partial(measured.throughput, here="demo-math", original="demo")
    for tell in (model_card, measured.accuracy, measured.likeness, throughput):
        with suppress(*DAMAGED):
            tell(value)


def _evaluation(folder: Path, content: bytes) -> None:
    found = remembered(put(folder, "math.json", content))
    if found is not None:
        [*results_of(merged([found]))]


def _recalled(folder: Path, content: bytes) -> None:
    found = recalled(put(folder, "math.json", content))
    if found is not None:
        summarise([Cell("full", "math", 4, "flatten", 0, **found)])


def _state(folder: Path, content: bytes) -> None:
    state = StreamState(folder / "state", "key")
    for number in range(2):
        state.add(3, number, (torch.ones(2, 4), None, [torch.zeros(1)]))
    state.finish(3, 2)
    which, content = content[:1], content[1:]
    if which == b"i":
        put(folder, "state/finished.json", content)
    else:
        put(folder, "state/layer-00003/000001.safetensors", content)
    before = StreamState(folder / "state", "key").load(torch.device("cpu"))
    if before is not None:
        before.output(0)
        before.output(1)


def _sums(folder: Path, content: bytes) -> None:
    sums = {1: LayerSums(SUMS)}
    seen = observations(layers=(1,))
    fields = {name: getattr(seen, name) for name in ("model", "router", "domain", "demos")}
    Observations.summed(sums, runner="memory", dtype="float32", **fields).save(folder / "seen")
    index = folder / "seen" / "observations.json"
    put(folder, "seen/layer-00001.safetensors", content)
    value = json.loads(index.read_text())
    value["checksums"]["1"] = hashlib.sha256(content).hexdigest()
    index.write_text(json.dumps(value))
    loaded = Observations.load(folder / "seen")
    loaded.unreached()
    scoring.score(loaded)


def _redone(folder: Path, content: bytes) -> None:
    made = Made.load(put(folder, "easyep.json", content))
    made.check(made.selection, folder)


def _rows(folder: Path, content: bytes) -> None:
    way, _, row = content.rpartition(b"\n")
    recipe = BuildRecipe.from_mapping(read_yaml(put(folder, "recipe.yaml", way)))
    rows = [value for value in [json.loads(row)] if isinstance(value, dict)]
    with patch.object(building, "LONGEST_ROW", 0.2):
        [*build(recipe, rows=rows)]


@cache
def _demo_manifest() -> dict[str, Any]:
    return {**MANIFEST, "source": Source.open("demo").identity.to_json(), "recipe": RECIPES[0]}


READERS_OF_RESULTS: dict[str, Reader] = {
    "results": Reader(one_of(RESULTS), _results),
    "card": Reader(one_of(CARDS), _card),
    "evaluation": Reader(texts(MEASURED), _evaluation),
    "study's evaluation": Reader(one_of(RECALLED), _recalled),
    "stream's state": Reader(
        st.builds(bytes.__add__, st.just(b"i"), texts({"layer": 3, "demos": 2, "key": "key"}))
        | st.builds(bytes.__add__, st.just(b"s"), files(STATE)),
        _state,
    ),
    "sums": Reader(files(SUMS), _sums),
    "manifest to redo": Reader(st.deferred(lambda: texts(_demo_manifest())), _redone),
    "rows": Reader(
        st.builds(
            lambda way, row: way + b"\n" + row,
            one_of(WAYS),
            changed(ROW).map(json.dumps).map(str.encode),
        ),
        _rows,
    ),
}
