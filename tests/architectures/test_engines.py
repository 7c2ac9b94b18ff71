import pytest

from easyep.architectures import spec
from easyep.architectures.definitions import read_definitions
from easyep.architectures.engines import ENGINES, EngineNotes, Serving, check_serving
from easyep.architectures.router import Router
from easyep.errors import SelectionError, UnknownNameError, UnsupportedModelError

ROUTER = Router(num_experts=256, top_k=8, n_group=8, topk_group=4)
PLAIN = Router(num_experts=384, top_k=6)
V4 = {"vllm": EngineNotes(counts=(64, 128, 192, 256))}


@pytest.mark.parametrize("engine", list(ENGINES))
def test_common_counts_suit_every_engine(engine: str) -> None:
    assert check_serving(Serving((engine,), 8, 8), {}, ROUTER, 128, "balanced") == []


@pytest.mark.parametrize(
    ("serving", "keep", "message"),
    [
        (Serving(("vllm",)), 160, "160 of 384 .* vllm.*64, 128, 192, 256.*work: 128 and 192"),
        (Serving(("sglang",), 1, 16), 200, "16 expert-parallel ranks.*work: 192 and 208"),
        (Serving(("vllm", "sglang"), 1, 3), 64, "sglang on 3 .*work: 192"),
        (Serving(("sglang",), 64, 1), 32, "64 tensor-parallel ranks.*work: 64"),
    ],
)
def test_counts_that_an_engine_cannot_load(serving: Serving, keep: int, message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        check_serving(serving, V4, PLAIN, keep, "balanced")


def test_llama_cpp_has_a_largest_count() -> None:
    router = Router(num_experts=1024, top_k=8)
    with pytest.raises(SelectionError, match="at most 512; the nearest counts that work: 512"):
        check_serving(Serving(("llama.cpp",)), {}, router, 600, "balanced")


def test_groups_of_vllm_are_limited_unless_they_are_flattened() -> None:
    router = Router(num_experts=256, top_k=4, n_group=64, topk_group=8)
    with pytest.raises(SelectionError, match="at most 32 groups, not 64"):
        check_serving(Serving(("vllm",)), {}, router, 128, "balanced")
    assert check_serving(Serving(("vllm",)), {}, router, 128, "flatten") == []


def test_suggestions_keep_to_the_alignment_and_the_groups() -> None:
    serving = Serving(("sglang",), 1, 5)
    with pytest.raises(SelectionError, match="the nearest counts that work: 80 and 160"):
        check_serving(serving, {}, ROUTER, 128, "balanced", align=16)


def test_what_is_allowed_but_should_be_known() -> None:
    notes = {"vllm": EngineNotes(note="runs through its Transformers backend")}
    remarks = check_serving(Serving(("vllm",), 1, 16), notes, PLAIN, 198, "balanced")
    assert len(remarks) == 3
    assert "Transformers backend" in remarks[0]
    assert "16 expert-parallel ranks" in remarks[1]
    assert "no multiple of 4" in remarks[2]


def test_a_family_that_an_engine_cannot_load() -> None:
    notes = {"sglang": EngineNotes(unsupported="it has no code for it")}
    with pytest.raises(UnsupportedModelError, match="sglang cannot load .*: it has no code"):
        check_serving(Serving(("sglang",)), notes, PLAIN, 192, "balanced")


def test_an_unknown_engine_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'vllm'"):
        check_serving(Serving(("vlm",)), {}, PLAIN, 192, "balanced")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[engines.vlm]\ncounts = [1]", "engines are llama.cpp, sglang"),
        ("[engines.vllm]\ncount = [1]", "unknown key 'count'"),
    ],
)
def test_mistakes_in_an_architecture_file(table: str, message: str) -> None:
    text = (
        "model_types = []\n[config]\nnum_experts = ['e']\ntop_k = ['k']\nnum_layers = ['l']\n"
        "[tensors.experts]\nkind = 'rows'\nname = 'e'\n[tensors.router]\nkind = 'rows'\n"
        f"name = 'r'\n{table}\n"
    )
    with pytest.raises(UnsupportedModelError, match=message):
        read_definitions({"a": text})


def test_deepseek_v4_on_vllm_needs_a_count_that_its_kernel_knows() -> None:
    router = Router(num_experts=256, top_k=6)
    notes = spec.get("deepseek_v4").engines
    with pytest.raises(SelectionError, match="the nearest counts that work: 128 and 192"):
        check_serving(Serving(("vllm",)), notes, router, 160, "balanced")
    assert check_serving(Serving(("vllm",)), notes, router, 192, "balanced") == []


def test_ranks_without_an_engine_are_refused() -> None:
    with pytest.raises(SelectionError, match="name the engine too"):
        check_serving(Serving((), 1, 16), {}, PLAIN, 192, "balanced")
