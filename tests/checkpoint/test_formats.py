"""Every storage format is kept byte for byte, with its settings, and an expert in one file."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from easyep.artifacts.selection import Selection
from easyep.checkpoint.rewriting import rewrite
from easyep.checkpoint.verification import verify
from tests.checkpoint.formats import EXPERTS, FORMATS, LAYERS, write
from tests.checkpoint.raw_files import Raw, read_all, read_file

Chooser = Callable[..., Selection]

OF_EXPERT = re.compile(r"(model\.layers\.(\d+)\.mlp\.experts\.)(\d+)(\..+)")
NAMES_EXPERT = re.compile(r"(.*layers\\?\.(\d+)\\?\.mlp\\?\.experts\\?\.)(\d+)(\\?\..*)")

# (files of the source, bytes of a file): one file stays one, several are cut anew; with 1 byte as
# small as can be.
WAYS = {"one file": (1, 10**9), "several files": (3, 300_000), "cut up": (3, 1)}

UNSCALED = ("bf16", "fp16", "fp32", "stacked bf16")


def expected(name: str, source: dict[str, Raw], kept: dict[int, tuple[int, ...]]) -> dict[str, Raw]:
    """The tensors of the pruned checkpoint, from plain slices of the source's bytes."""
    scalars = FORMATS[name].scalars
    tensors: dict[str, Raw] = {}
    for key, (dtype, shape, data) in source.items():
        of_expert = OF_EXPERT.fullmatch(key)
        layer = re.match(r"model\.layers\.(\d+)\.mlp\.(gate|experts)\.", key)
        if of_expert:
            experts = kept[int(of_expert[2])]
            if int(of_expert[3]) in experts:
                number = experts.index(int(of_expert[3]))
                tensors[f"{of_expert[1]}{number}{of_expert[4]}"] = (dtype, shape, data)
        elif layer and not key.endswith(scalars or "none"):
            row = len(data) // EXPERTS
            rows = [data[e * row : (e + 1) * row] for e in kept[int(layer[1])]]
            tensors[key] = (dtype, (len(rows), *shape[1:]), b"".join(rows))
        else:
            tensors[key] = (dtype, shape, data)
    return tensors


def renamed(settings: Any, kept: dict[int, tuple[int, ...]]) -> Any:
    """Settings with every name of an expert renumbered, or left out."""
    if isinstance(settings, dict):
        new = {renamed(key, kept): renamed(value, kept) for key, value in settings.items()}
        return {key: value for key, value in new.items() if key is not None}
    if isinstance(settings, list):
        return [item for item in (renamed(each, kept) for each in settings) if item is not None]
    match = NAMES_EXPERT.fullmatch(settings) if isinstance(settings, str) else None
    if match is None:
        return settings
    experts = kept[int(match[2])]
    if int(match[3]) not in experts:
        return None
    return f"{match[1]}{experts.index(int(match[3]))}{match[4]}"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FORMATS)
def test_kept_byte_for_byte(name: str, way: str, choose: Chooser, tmp_path: Path) -> None:
    shards, limit = WAYS[way]
    source = write(name, tmp_path / "source", shards)
    selection = choose(source)
    out = rewrite(source, selection, tmp_path / "out", max_shard_size=limit).path
    kept = {layer: tuple(experts) for layer, experts in selection.layers.items()}
    assert read_all(out) == expected(name, read_all(source), kept)
    files = sorted(out.glob("*.safetensors"))
    assert [file.name for file in files] == ["model.safetensors"] or way != "one file"
    read_by_safetensors(files)
    together(name, files, one_unit=limit == 1)
    config = json.loads((source / "config.json").read_text())
    settings = renamed(config.get("quantization_config"), kept)
    changed = {"quantization_config": settings} if settings else {}
    pruned_config = json.loads((out / "config.json").read_text())
    assert pruned_config == {**config, "n_routed_experts": selection.keep, **changed}
    for file, content in FORMATS[name].files.items():
        assert json.loads((out / file).read_text()) == renamed(content, kept)
    result = verify(out, source)
    assert result.ok, result.problems


def read_by_safetensors(files: list[Path]) -> None:
    """The library itself reads the files, and the metadata is whole."""
    for file in files:
        raw = read_file(file)
        with safe_open(file, "pt") as opened:
            assert opened.metadata() == {"format": "pt", "made_by": "a quantiser"}
            for key in opened.keys():  # noqa: SIM118
                part = opened.get_slice(key)
                assert (part.get_dtype(), tuple(part.get_shape())) == raw[key][:2]
                assert opened.get_tensor(key).nbytes == len(raw[key][2])


def together(name: str, files: list[Path], *, one_unit: bool) -> None:
    """What belongs to one expert, or to one matrix, is in one file, alone if it can be."""
    how = FORMATS[name]
    matrices = [how.matrix(64, 64), how.attention(64, 64) if how.attention else {".weight": ()}]
    suffixes = sorted({*matrices[0], *matrices[1], *how.scalars}, key=len, reverse=True)
    places: dict[str, set[str]] = {}
    units: dict[str, set[str]] = {}
    for file in files:
        for key in read_file(file):
            expert = OF_EXPERT.fullmatch(key)
            suffix = next((suffix for suffix in suffixes if key.endswith(suffix)), "")
            unit = expert[1] + expert[3] if expert else key.removesuffix(suffix)
            places.setdefault(unit, set()).add(file.name)
            units.setdefault(file.name, set()).add(unit)
    assert {len(names) for names in places.values()} == {1}
    assert not one_unit or {len(names) for names in units.values()} == {1}


def test_the_settings_are_not_empty_words() -> None:
    named = [json.dumps([f.settings, f.files]).count("experts") for f in FORMATS.values()]
    assert sum(count > LAYERS * EXPERTS for count in named) >= 9


@pytest.mark.parametrize("shards", [1, 3])
def test_tied_embeddings(choose: Chooser, tmp_path: Path, shards: int) -> None:
    source = write("bf16", tmp_path / "source", shards, tied=True)
    out = rewrite(source, choose(source), tmp_path / "out", max_shard_size=100_000).path
    assert len(list(out.glob("*.safetensors"))) > 1
    assert "lm_head.weight" not in read_all(out)
    assert verify(out, source).ok


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in UNSCALED])
def test_a_flipped_bit_in_a_scale_is_found(name: str, choose: Chooser, tmp_path: Path) -> None:
    source = write(name, tmp_path / "source", 1)
    out = rewrite(source, choose(source), tmp_path / "out").path
    key = next(k for k in read_all(out) if ".experts." in k and re.search("scale|absmax", k))
    file = out / "model.safetensors"
    content = bytearray(file.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[start + json.loads(content[8:start])[key]["data_offsets"][1] - 1] ^= 128
    file.write_bytes(content)
    checksums, tensor_bytes = verify(out, source).problems
    assert checksums.startswith("checksums")
    assert repr(key) in tensor_bytes
    assert "differs from the source" in tensor_bytes


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name].stacked])
def test_swapped_experts_in_a_stack_are_found(name: str, choose: Chooser, tmp_path: Path) -> None:
    source = write(name, tmp_path / "source", 1)
    selection = choose(source)
    out = rewrite(source, selection, tmp_path / "out").path
    key = [k for k, raw in read_all(out).items() if ".1.mlp.experts." in k and raw[1]][-1]
    file = out / "model.safetensors"
    content = bytearray(file.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    begin, end = json.loads(content[8:start])[key]["data_offsets"]
    row = (end - begin) // selection.keep
    data = content[start + begin : start + end]
    content[start + begin : start + end] = data[row : 2 * row] + data[:row] + data[2 * row :]
    file.write_bytes(content)
    _, tensor_bytes = verify(out, source).problems
    for new, old in enumerate(selection.layers[1][:2]):
        assert (
            f"expert {new} in tensor {key!r} (expert {old} of the source) differs" in tensor_bytes
        )
    assert tensor_bytes.count("differs") == 2
