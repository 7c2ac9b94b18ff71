"""What observing adds to a forward pass: no waiting for the device, little memory."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from easyep.loading import load_model
from easyep.observation.device_record import DeviceRecord, Rows
from easyep.observation.experts import Routes
from easyep.observation.in_memory import observe_in_memory
from easyep.observation.recorder import Recorder
from easyep.observation.row_norms import PIECE, row_norms
from easyep.observation.shift import residual_shift
from tests.observation.test_recorder import sequence
from tests.tiny_models import build

# Operators whose result depends on numbers that only the device knows: an accelerator's queue runs
# empty while they are waited for.
WAITING = {"_local_scalar_dense", "nonzero", "equal", "unique2", "masked_select"}


class Counting(TorchDispatchMode):
    """Counts the operators that run, and the bytes of what they make."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func.__name__.split(".")[0]] += 1
        indices = args[1] if func.__name__.startswith("index.") else ()
        self.calls["nonzero"] += sum(i is not None and i.dtype == torch.bool for i in indices)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("family", ["deepseek_v3", "gpt_oss", "mixtral", "qwen3_moe"])
def test_a_known_path_is_recorded_without_waiting(family, tmp_path: Path):
    model = load_model(build(family, tmp_path / "model"), dtype="float32", device="cpu")
    rows = [sequence(24, 64)]
    ids = torch.from_numpy(rows[0].input_ids)[None]
    records: list[DeviceRecord] = []
    recorder = Recorder(
        dict(enumerate(model.model.layers)), lambda index, record: records.append(record)
    )
    with torch.inference_mode():
        with Counting() as plain:
            model.model(ids, use_cache=False)
        with recorder.attached():
            with recorder.batch([0], rows, first=0, width=24, recorded=False):
                model.model(ids, use_cache=False)
            assert not records
            with recorder.batch([0], rows, first=0, width=24), Counting() as observed:
                model.model(ids, use_cache=False)
    assert len(records) == len(recorder.moe_layers)
    waits = {name: observed.calls[name] - plain.calls[name] for name in WAITING}
    assert not any(waits.values()), waits
    assert observed.calls["mm"] == plain.calls["mm"]  # nothing is computed twice


def test_norms_of_many_rows_equal_float64():
    torch.manual_seed(0)
    wide = PIECE // 8
    for shape in ((37, wide), (5, 2 * PIECE), (0, 16), (3, 16)):
        rows = torch.randn(shape).bfloat16()
        exact = torch.linalg.vector_norm(rows.double(), dim=-1)
        assert row_norms(rows).dtype == torch.float32
        torch.testing.assert_close(row_norms(rows).double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shifts_of_many_rows_equal_float64(dtype):
    torch.manual_seed(0)
    before = torch.randn(50, PIECE // 16).to(dtype)
    routed = (0.05 * torch.randn_like(before, dtype=torch.float32)).to(dtype)
    # Nearly parallel, as the first token's outliers are: only the rest turns the stream.
    routed[::2] += before[::2]
    one, other = before.double(), before.double() + routed.double()
    exact = 1 - torch.nn.functional.cosine_similarity(one, other, dim=-1)
    torch.testing.assert_close(residual_shift(before, routed).double(), exact, rtol=1e-4, atol=0)


def test_padding_and_what_is_no_route_stay_behind():
    routes = Routes(
        ids=torch.tensor([[3, 1], [9, 0], [2, -1], [1, 0]]),
        weights=torch.tensor([[0.5, 0.25], [0.5, 0.0], [1.0, 0.5], [1.0, 1.0]]),
        norms=torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]),
        routed=torch.zeros(4, 8),
    )
    rows = Rows(
        valid=torch.tensor([True, True, True, False]),
        demo=torch.tensor([4, 4, 5, 5], dtype=torch.int32),
        is_response=torch.tensor([False, True, False, True]),
    )
    shift = torch.tensor([0.1, 0.2, 0.3, 0.4])
    record = DeviceRecord(routes, routes.weights * 2, shift, rows, num_experts=8).fetch()
    assert record.expert_ids.tolist() == [[3, 1], [0, 0], [2, 0]]
    assert record.weights.tolist() == [[1.0, 0.5], [0.0, 0.0], [2.0, 0.0]]
    assert record.output_norms.tolist() == [[1.0, 2.0], [0.0, 0.0], [5.0, 0.0]]
    np.testing.assert_array_equal(record.residual_shift, shift.numpy()[:3])
    assert record.demo.tolist() == [4, 4, 5]
    assert record.is_response.tolist() == [False, True, False]


def test_the_first_demonstration_is_recorded_like_any_other(tmp_path: Path):
    model = load_model(build("gpt_oss", tmp_path / "model"), dtype="float32", device="cpu")
    one, other = sequence(80, 64), sequence(30, 64, seed=1)
    first, last = observe_in_memory(model, [one, other]), observe_in_memory(model, [other, one])
    for index, record in first.items():
        found = record.where(record.demo == 0).arrays()
        again = last[index].where(last[index].demo == 1).arrays()
        assert all(np.array_equal(found[name], again[name]) for name in found if name != "demo")
