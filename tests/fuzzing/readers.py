"""Every reader of files and answers from outside, and files for it that are nearly right."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from hypothesis import strategies as st

from easyep import scoring
from easyep.architectures.definitions import read_definitions
from easyep.architectures.spec import find_architecture
from easyep.artifacts import Observations, Scores, Selection
from easyep.artifacts.files import read_json_list
from easyep.artifacts.journal import Journal
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.layout import resolve
from easyep.checkpoint.manifest import Manifest
from easyep.checkpoint.work_folder import fingerprint, work_folder
from easyep.demonstrations import checks, generating, read, render, server
from easyep.demonstrations.building import BuildRecipe
from easyep.errors import EasyEPError
from easyep.evaluation.engines.server import _Told
from easyep.recipe import Recipe, read_yaml
from easyep.selection import from_mask, select
from easyep.study.held_out import read_held_out
from tests.architectures.test_definitions import BASE
from tests.checkpoint.raw_files import tensor, write_checkpoint
from tests.fuzzing.binaries import files
from tests.fuzzing.documents import (
    ANSWER,
    ARRAYS,
    CONFIGS,
    DEMOS,
    EVENT,
    FIRST,
    INDEX,
    MANIFEST,
    OBSERVED,
    PARTS,
    PURPOSE,
    RECIPES,
    RECORD,
    REPLY,
    ROUTER,
    SCORES,
    SELECTED,
    SPECS,
    STATE,
)
from tests.fuzzing.models import READERS_OF_MODELS
from tests.fuzzing.mutations import bombs, lines, one_of, texts, tomls
from tests.fuzzing.reader import Reader, put
from tests.fuzzing.results import READERS_OF_RESULTS
from tests.records import MODEL, observations


def _checkpoint(folder: Path, name: str, content: bytes) -> None:
    experts = "model.layers.0.block_sparse_moe.experts."
    first = {
        f"{experts}{n}.{w}.weight": tensor("F32", 2, 2)
        for n in range(2)
        for w in ("w1", "w2", "w3")
    }
    gate = {"model.layers.0.block_sparse_moe.gate.weight": tensor("F32", 2, 2)}
    path = write_checkpoint(folder / "model", CONFIGS[0], first, gate)
    put(path, name, content)
    opened = Checkpoint.open(path)
    for each in opened.tensors.values():
        assert 0 < each.begin <= each.end <= (path / each.shard).stat().st_size
    resolve(opened, find_architecture(opened.config))
    opened.identity("x")


def _config(folder: Path, content: bytes) -> None:
    try:
        _checkpoint(folder, "config.json", content)
    except EasyEPError:
        config = Checkpoint.open(folder / "model").config
        architecture = find_architecture(config)
        architecture.router(config)
        architecture.expected_moe_layers(config)


def _demos(folder: Path, content: bytes) -> None:
    for demo in read(put(folder, "demos.jsonl", content)):
        if "input_ids" in demo.content:
            render(demo, None, 5)
        else:
            generating.prompt_messages(demo)


def _recipe(folder: Path, content: bytes) -> None:
    value = read_yaml(put(folder, "recipe.yaml", content))
    kind: Any = BuildRecipe if "dataset" in value else Recipe
    kind.from_mapping(value)


def _definitions(folder: Path, content: bytes) -> None:
    text = content.decode(errors="replace")
    read_definitions({"given": text, "child": 'extends = "given"\nmodel_types = ["child"]'})


def _selection(folder: Path, content: bytes) -> None:
    Selection.load(put(folder, "selection.json", content)).to_json()


def _scores(folder: Path, content: bytes) -> None:
    loaded = Scores.load(put(folder, "scores.json", content))
    select(loaded, 4)


def _observations(folder: Path, content: bytes) -> None:
    observations().save(folder / "seen")
    put(folder, "seen/observations.json", content)
    loaded = Observations.load(folder / "seen")
    loaded.unreached()
    scoring.score(loaded)


def _record(folder: Path, content: bytes) -> None:
    """A layer's file whose checksum agrees, as an attacker would have it."""
    observations(layers=(1,)).save(folder / "seen")
    index = folder / "seen" / "observations.json"
    put(folder, "seen/layer-00001.safetensors", content)
    value = json.loads(index.read_text())
    value["checksums"]["1"] = hashlib.sha256(content).hexdigest()
    index.write_text(json.dumps(value))
    loaded = Observations.load(folder / "seen")
    loaded.unreached()
    scoring.score(loaded)


def _mask(folder: Path, content: bytes) -> None:
    mask = read_json_list(put(folder, "mask.json", content), "mask")
    from_mask(mask, [1, 2], MODEL, ROUTER)


class _Reply(io.BytesIO):
    """What a request gives."""


def _reply(folder: Path, content: bytes) -> None:
    asked = server.Server("http://localhost:1", "m", "key", retries=0)
    with patch.object(server.Deadline, "open", lambda *args: _Reply(content)):
        answer = asked.answer([{"role": "user", "content": "2+2?"}], [])
    demo = next(iter(read(put(folder, "demos.jsonl", json.dumps(DEMOS[0]).encode()))))
    line = generating._line(demo, generating.prompt_messages(demo), answer)
    generating._state(demo, answer, line, check=False)
    json.dumps(line, ensure_ascii=False).encode()  # as it is written


def _stream(folder: Path, content: bytes) -> None:
    told = _Told()
    for line in content.splitlines():
        told.read(b"data: " + line, "http://localhost:1/v1")
    told.arrivals([0.1], 1, "http://localhost:1/v1")


def _journal(folder: Path, content: bytes) -> None:
    path = put(folder, "run/00000000.safetensors", content)
    put(folder, "run/layer-00001.safetensors", content)
    put(folder, "run/layer-x.safetensors", content)
    journal = Journal(path.parent)
    for layer in journal.layers():
        list(journal.parts(layer))


def _answers(folder: Path, content: bytes) -> None:
    demo = next(iter(read(put(folder, "demos.jsonl", json.dumps(DEMOS[0]).encode()))))
    for answer in generating._Journal(put(folder, "x.answers", content)).answers.values():
        line = generating._line(demo, generating.prompt_messages(demo), answer)
        generating._state(demo, answer, line, check=False)


def _state(folder: Path, content: bytes) -> None:
    put(folder, f".out.partial-{fingerprint(PURPOSE)}/state.json", content)
    with work_folder(folder / "out", PURPOSE) as work:
        work.keep_only(set())


def _manifest(folder: Path, content: bytes) -> None:
    put(folder, "easyep.json", content)
    manifest = Manifest.load(folder)
    sorted(manifest.checksums.items())


def _check(folder: Path, content: bytes) -> None:
    spec, _, answer = content.partition(b"\n")
    demo = b'{"text": "x", "check": ' + spec + b"}"
    found = read(put(folder, "demos.jsonl", demo))[0].metadata.get("check")
    if isinstance(found, dict) and found.get("kind") not in ("program", "regex"):
        checks.check(answer.decode(errors="replace"), found)


def _held_out(folder: Path, content: bytes) -> None:
    read_held_out(str(put(folder, "held.jsonl", content)))


READERS: dict[str, Reader] = {
    "header": Reader(files(ARRAYS), lambda f, c: _checkpoint(f, FIRST, c)),
    "index": Reader(texts(INDEX), lambda f, c: _checkpoint(f, "model.safetensors.index.json", c)),
    "config": Reader(one_of(CONFIGS), _config),
    "demos": Reader(lines(DEMOS), _demos),
    "held-out answers": Reader(lines(({"question": "a", "response": "b"}, *DEMOS)), _held_out),
    "checks": Reader(st.builds(lambda s, a: s + b"\n" + a, one_of(SPECS), st.binary()), _check),
    "recipe": Reader(one_of(RECIPES, yaml.safe_dump) | one_of(RECIPES) | bombs(), _recipe),
    "architecture": Reader(tomls(BASE), _definitions),
    "selection": Reader(texts(SELECTED), _selection),
    "scores": Reader(texts(SCORES), _scores),
    "observations": Reader(texts(OBSERVED), _observations),
    "record": Reader(files(RECORD), _record),
    "mask": Reader(texts([[1, 0] * 4, [0, 1] * 4]), _mask),
    "server's reply": Reader(texts(REPLY), _reply),
    "server's stream": Reader(texts(EVENT), _stream),
    "answers": Reader(lines((ANSWER,)), _answers),
    "journal": Reader(files(PARTS), _journal),
    "work folder": Reader(texts(STATE), _state),
    "manifest": Reader(texts(MANIFEST), _manifest),
    **READERS_OF_MODELS,
    **READERS_OF_RESULTS,
}
