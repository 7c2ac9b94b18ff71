"""Readers of what lies in a model's folder beside its configuration and weights."""

import json
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from hypothesis import strategies as st

from easyep import hub
from easyep.architectures.spec import find_architecture
from easyep.checkpoint.config_edits import quantisation_edits, quantisation_file_edits
from easyep.checkpoint.files import Checkpoint, parse_object, read_text
from easyep.checkpoint.inspection import inspect
from easyep.checkpoint.layout import resolve
from easyep.checkpoint.renumbering import renaming
from easyep.deepspeed_settings import read_deepspeed_settings
from easyep.demonstrations import read, render, rendering
from easyep.errors import EasyEPError
from easyep.evaluation.roofline.predict import predict
from easyep.loading import load_tokenizer
from easyep.recipe import read_yaml
from easyep.resources import demo_model
from easyep.selection.terms import named_experts
from easyep.study.design import Study
from tests.checkpoint.raw_files import tensor, write_checkpoint
from tests.fuzzing.documents import CONFIGS, DEMOS, EXPERTS, INDEX
from tests.fuzzing.mutations import DAMAGE, WORDS, damaged, one_of, texts
from tests.fuzzing.reader import Reader, put

QUANTISED: tuple[dict[str, Any], ...] = (
    {"quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head", EXPERTS[0][:-7]]}},
    {"quantization_config": {"quant_method": "gptq", "modules": {EXPERTS[0]: {"bits": 4}}}},
    {"quant_method": "awq", "modules_to_not_convert": ["model.layers.0.block_sparse_moe.gate"]},
)
TEMPLATES = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}",
    "{{ bos_token }}{% for m in messages %}{{ m['role'] + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant{% endif %}",
    "{% set ns = namespace(x='') %}{% for m in messages %}{% set ns.x = ns.x ~ m.content %}"
    "{% endfor %}{{ ns.x }}{{ raise_exception('no') if tools }}{{ messages | tojson }}",
)
# What gets out of a sandbox, or never ends, where nobody has thought of it.
JINJA = st.sampled_from(
    [
        *("{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ self.__init__.__globals__ }}"),
        *("{{ cycler.__init__.__globals__.os.system('x') }}", "{{ messages.append(1) }}"),
        *("{{ '{0.__class__.__init__.__globals__}'.format(messages) }}", "{{ messages.pop() }}"),
        *("{% include '/etc/passwd' %}", "{% import 'os' as os %}", "{% extends 'x' %}"),
        *("{% for a in range(10**9) %}{% endfor %}", "{{ range(10**18)|list }}"),
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        *("{{ 'a' * 10**9 }}", "{{ 10**10**6 }}", "{{ 1/0 }}", "{{ '%s %s' % 1 }}", "{{ x.y.z }}"),
        *("{{ '%1000000000d' % 1 }}", "{{ 'a'.center(10**18) }}", "{{ lipsum(n=10**5) }}"),
        *("{{ raise_exception(messages) }}", "{% generation %}", "{{ strftime_now('%Y') }}"),
        *("{{ messages|map(attribute='__class__')|list }}", "{{ [messages]|tojson }}", "{%", "}}"),
    ]
)
ROOFLINE: tuple[dict[str, Any], ...] = tuple(
    {**config, "hidden_size": 64, "intermediate_size": 128, "moe_intermediate_size": 32}
    | {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "head_dim": 16}
    for config in CONFIGS
)
STUDY = {"study": "s", "model": "demo", "domains": ["math", "code"], "keep": [0.5, 8]}
STUDY |= {"tasks": "easyep_demo_{domain}", "criteria": ["easy-ep"], "groups": ["flatten"]}
DEEPSPEED = {"zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}}}
NAMED = {"1": [0, 1], "2": [3]}


@st.composite
def templates(draw: st.DrawFn) -> bytes:
    """A chat template with something inserted, and damaged."""
    text = draw(st.sampled_from(TEMPLATES))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(JINJA | WORDS) + text[at:]
    content = _encoded(text)
    return damaged(content, draw(DAMAGE)) if draw(st.booleans()) else content


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@cache
def _tokenizer() -> Any:
    return load_tokenizer(demo_model())


def _templates() -> st.SearchStrategy[bytes]:
    _tokenizer()  # transformers takes its time, which is no template's
    return templates()


def _template(folder: Path, content: bytes) -> None:
    tokenizer = _tokenizer()
    told = content.decode(errors="replace")
    demo = read(put(folder, "demos.jsonl", json.dumps(DEMOS[0]).encode()))[0]
    with (
        patch.object(tokenizer, "chat_template", told),
        patch.object(rendering, "LONGEST_RENDERING", 0.1),
    ):
        render(demo, tokenizer)


def _tokens(name: str, folder: Path, content: bytes) -> None:
    for each in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        put(folder, f"model/{each}", (demo_model() / each).read_bytes())
    put(folder, f"model/{name}", content)
    tokenizer = load_tokenizer(folder / "model")
    demo = read(put(folder, "demos.jsonl", json.dumps(DEMOS[0]).encode()))[0]
    render(demo, tokenizer)


def _quantised(folder: Path, content: bytes) -> None:
    first = {name: tensor("F32", 2, 2) for name in EXPERTS}
    gate = {"model.layers.0.block_sparse_moe.gate.weight": tensor("F32", 2, 2)}
    path = write_checkpoint(folder / "model", CONFIGS[0], first, gate)
    put(path, "hf_quant_config.json", content)
    inspect(path)
    checkpoint = Checkpoint.open(path)
    architecture = find_architecture(checkpoint.config)
    layout = resolve(checkpoint, architecture)
    rename = renaming(architecture, layout.router, {0: [1]})
    value = parse_object(read_text(path, "hf_quant_config.json"), "hf_quant_config.json")
    quantisation_file_edits(value, rename)
    quantisation_edits(value, rename)


def _hub(folder: Path, content: bytes) -> None:
    put(folder, "config.json", b"{}")
    hub._complete(put(folder, "model.safetensors.index.json", content).parent)


def _roofline(folder: Path, content: bytes) -> None:
    predict(put(folder, "config.json", content), "h100", keep=(0.5,), batch_sizes=(1, 8))


def _study(folder: Path, content: bytes) -> None:
    study = Study.from_mapping(read_yaml(put(folder, "study.yaml", content)))
    for domain in study.domains:
        study.task(domain)


def _named(folder: Path, content: bytes) -> None:
    try:
        named_experts(put(folder, "named.json", content), [1, 2], 4)
    except EasyEPError:
        named_experts(content.decode(errors="replace").splitlines() or [""], [1, 2], 4)


READERS_OF_MODELS: dict[str, Reader] = {
    "chat template": Reader(st.deferred(_templates), _template),
    "tokenizer": Reader(
        texts(json.loads((demo_model() / "tokenizer.json").read_text())),
        lambda f, c: _tokens("tokenizer.json", f, c),
    ),
    "tokenizer's settings": Reader(
        texts(json.loads((demo_model() / "tokenizer_config.json").read_text())),
        lambda f, c: _tokens("tokenizer_config.json", f, c),
    ),
    "quantisation file": Reader(one_of(QUANTISED), _quantised),
    "cached index": Reader(texts(INDEX), _hub),
    "roofline's config": Reader(one_of(ROOFLINE), _roofline),
    "study": Reader(texts(STUDY, yaml.safe_dump) | texts(STUDY), _study),
    "named experts": Reader(texts(NAMED) | WORDS.map(_encoded), _named),
    "DeepSpeed's settings": Reader(
        texts(DEEPSPEED), lambda f, c: read_deepspeed_settings(str(put(f, "ds.json", c)))
    ),
}
