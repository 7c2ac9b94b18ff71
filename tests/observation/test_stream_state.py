"""Where a streaming run was, on the disk: whole, of this run, and nothing but data."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from easyep.observation.stream_state import StreamState


def test_one_changed_byte_of_the_state_is_found(tmp_path: Path) -> None:
    state, cpu = StreamState(tmp_path), torch.device("cpu")
    state.add(3, 0, (torch.ones(4, dtype=torch.bfloat16), None))
    state.finish(3, 1)
    assert state.load(cpu) is not None
    path = tmp_path / "layer-00003" / "000000.safetensors"
    content = path.read_bytes()
    for place in (len(content) - 1, content.index(b"form"), content.index(b"crc32") + 10):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert state.load(cpu) is None


@pytest.mark.parametrize("content", [b"", b"x" * 100])
def test_a_damaged_state_is_no_state(tmp_path: Path, content: bytes) -> None:
    state, cpu = StreamState(tmp_path), torch.device("cpu")
    state.add(3, 0, (torch.ones(2), None))
    assert state.load(cpu) is None
    state.finish(3, 1)
    found = state.load(cpu)
    assert found is not None
    assert found.layer == 3
    assert [*map(str, found.output(0))] == [str(torch.ones(2)), "None"]
    assert StreamState(tmp_path, "another run").load(cpu) is None
    output = tmp_path / "layer-00003" / "000000.safetensors"
    written = output.read_bytes()
    for place in (len(written) - 1, len(written) // 2):  # a number, and something of the header
        output.write_bytes(written[:place] + bytes([written[place] ^ 1]) + written[place + 1 :])
        assert state.load(cpu) is None
    for file in (output, tmp_path / "finished.json"):
        file.write_bytes(content)
        assert state.load(cpu) is None


@pytest.mark.parametrize(
    "form",
    [
        "5",
        '["set", []]',
        '["tuple", 5]',
        "[" * 5000,
        '"nothing of that name"',
        '[1, {"type": "collections.defaultdict", "context": "x", "children_spec": []}]',
        '{"__enum__": true, "fqn": "antigravity:x"}',
    ],
)
def test_the_form_of_an_output_runs_nothing(tmp_path: Path, form: str) -> None:
    """A work directory can be another's."""
    state = StreamState(tmp_path)
    output = torch.ones(2)
    state.add(3, 0, output)
    state.finish(3, 1)
    path = tmp_path / "layer-00003" / "000000.safetensors"
    with safe_open(path, "pt") as file:
        about = {**file.metadata(), "form": form}
    save_file({"000000": output}, path, metadata=about)
    assert state.load(torch.device("cpu")) is None
    assert "antigravity" not in sys.modules


def test_the_form_of_an_output_is_kept(tmp_path: Path) -> None:
    state = StreamState(tmp_path)
    half = torch.tensor(0.5, dtype=torch.bfloat16)
    state.add(0, 0, ([half, None], {"key": (half, {})}))
    state.finish(0, 1)
    found = state.load(torch.device("cpu"))
    assert found is not None
    assert found.output(0) == ([half, None], {"key": (half, {})})
    assert found.output(0)[0][0].dtype == torch.bfloat16


def test_what_cannot_be_remembered_leaves_the_layer_before(tmp_path: Path) -> None:
    state = StreamState(tmp_path)
    for layer, output in ((0, torch.ones(1)), (1, {"cache": object()})):
        state.add(layer, 0, output)
        state.finish(layer, 1)
    found = state.load(torch.device("cpu"))
    assert found is not None
    assert found.layer == 0
    assert torch.equal(found.output(0), torch.ones(1))
