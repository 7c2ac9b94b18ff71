"""What a file of `settings/` says: how to build a family small, and how its release differs.

The file's name is the `model_type` in `config.json`; what follows a further dot names a second
layout of the same family (``qwen3_5_moe.per_expert.toml``).

    extends = "qwen3_5_moe"   # the file that this one is laid over, table by table
    release = "mistral3"      # model_type of the released config.json; default: the file's name
    build = "deepseek_v3"     # model_type that transformers builds; default: the file's name
    auto = "AutoModelForCausalLM"          # auto class (default)
    part = "thinker"          # submodule that computes the logits; default: the model itself
    section = "text_config"   # where common numbers and [settings] go; default: top level
    count = "num_experts"     # key of the number of experts in the section; dots go deeper
    top_k = "num_experts_per_tok"
    num_experts = 8           # default number of experts (default 8)
    default_top_k = 2         # default number of experts per token (default 2)
    layers = 3                # default number of layers (default 3)
    runs = true               # or why transformers cannot compute it
    source = "state_dict"     # names of the modules instead of those that save_pretrained writes
    common = false            # leave out the common numbers (default true)
    [settings]                # entries of the section
    [around]                  # entries of the top level
    [fill]                    # regular expression of a name -> standard deviation of its values, or
                              # "expert ids" for a table whose rows are different experts
    [hub]                     # released config.json from the saved one; keys are dotted paths;
                              # in this order:
    rename = { num_local_experts = "num_experts" }
    remove = ["use_cache"]
    flatten = "text_config"   # its entries go to the top level
    nest = "text_config"      # what is not of the whole model goes in there
    [hub.add]                 # put in where the key is missing
    [[tensors]]               # see `tests.tiny_models.renaming`
    [[more]]                  # see `tests.tiny_models.more`
    [further]                 # whole names of tensors that only the release has -> shapes
    [mtp]                     # see `tests.tiny_models.mtp`

The values "$experts", "$top_k", "$layers" and "$vocab" stand for the numbers of the model.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.tiny_models.more import More
from tests.tiny_models.mtp import MtpLayers
from tests.tiny_models.renaming import Renaming

EXPERT_IDS = "expert ids"
OF_THE_WHOLE = ("architectures", "model_type", "dtype", "transformers_version")
FOLDER = Path(__file__).parent / "settings"


@dataclass(frozen=True)
class Numbers:
    """The sizes of one model."""

    experts: int
    top_k: int
    layers: int
    vocab: int

    def put_in(self, value: Any) -> Any:
        """`value` with every "$name" replaced by the number of that name."""
        if isinstance(value, str) and value.startswith("$"):
            return getattr(self, value[1:])
        if isinstance(value, Mapping):
            return {key: self.put_in(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.put_in(each) for each in value]
        return value


@dataclass(frozen=True)
class Hub:
    """How a released `config.json` differs from the one that transformers saves."""

    rename: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    flatten: str = ""
    nest: str = ""
    add: Mapping[str, Any] = field(default_factory=dict)

    def released(self, config: Mapping[str, Any], numbers: Numbers) -> dict[str, Any]:
        """The released configuration; a renamed key keeps its place."""
        out = dict(config)
        for old, new in self.rename.items():
            at, key = _parent(out, old)
            if at is not None and key in at:
                value = at[key]
                place, name = _parent(out, new)
                if place is at:
                    renamed = {name if k == key else k: v for k, v in at.items()}
                    at.clear()
                    at.update(renamed)
                else:
                    del at[key]
                    put(out, new, value)
        for path in self.remove:
            at, key = _parent(out, path)
            if at is not None:
                at.pop(key, None)
        if self.flatten:
            section = out.pop(self.flatten)
            out = {**section, **out}
        if self.nest:
            whole = {key: out.pop(key) for key in OF_THE_WHOLE if key in out}
            out = {**whole, self.nest: out}
        for path, value in self.add.items():
            at, key = _parent(out, path)
            if at is None or key not in at:
                put(out, path, numbers.put_in(value))
        return out


@dataclass(frozen=True)
class Settings:
    """One file of `settings/`."""

    name: str
    build: str
    release: str
    count: str
    top_k: str
    auto: str = "AutoModelForCausalLM"
    part: str = ""
    section: str = ""
    num_experts: int = 8
    default_top_k: int = 2
    layers: int = 3
    runs: bool | str = True
    source: str = "save_pretrained"
    common: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    around: Mapping[str, Any] = field(default_factory=dict)
    fill: Mapping[str, float | str] = field(default_factory=dict)
    hub: Hub = Hub()
    tensors: tuple[Renaming, ...] = ()
    more: tuple[More, ...] = ()
    further: Mapping[str, str] = field(default_factory=dict)
    mtp: MtpLayers | None = None

    @property
    def model_type(self) -> str:
        """The family's `model_type`, at the top of the released `config.json` or in a section."""
        return self.name.split(".")[0]

    @property
    def released_section(self) -> tuple[str, ...]:
        """The path of the section in the released `config.json`."""
        path = self.hub.rename.get(self.section, self.section) or self.hub.nest
        return () if path == self.hub.flatten else tuple(path.split("."))

    def configuration(self, numbers: Numbers, given: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the configuration class; `given` goes over the entries of the section."""
        section = _common(numbers) if self.common else {}
        section |= numbers.put_in(self.settings)
        put(section, self.count, numbers.experts)
        put(section, self.top_k, numbers.top_k)
        section |= given
        around: dict[str, Any] = numbers.put_in(self.around)
        if not self.section:
            return {**around, **section}
        put(around, self.section, section)
        return around


@cache
def load_settings() -> dict[str, Settings]:
    """All settings files, by name."""
    return {path.stem: _read(path) for path in sorted(FOLDER.glob("*.toml"))}


def put(config: dict[str, Any], path: str, value: Any) -> None:
    """Set the entry at a dotted path; tables on the way are made."""
    *tables, key = path.split(".")
    for table in tables:
        config = config.setdefault(table, {})
    config[key] = value


def _parent(config: dict[str, Any], path: str) -> tuple[dict[str, Any] | None, str]:
    *tables, key = path.split(".")
    at: Any = config
    for table in tables:
        at = at.get(table) if isinstance(at, dict) else None
    return at if isinstance(at, dict) else None, key


def _read(path: Path) -> Settings:
    table = _table(path)
    for key in ("build", "release"):
        table.setdefault(key, path.stem.split(".")[0])
    hub = table.pop("hub", {})
    if "remove" in hub:
        hub["remove"] = tuple(hub["remove"])
    mtp = table.pop("mtp", None)
    return Settings(
        name=path.stem,
        hub=Hub(**hub),
        tensors=tuple(Renaming.from_toml(rule) for rule in table.pop("tensors", [])),
        more=tuple(More(**each) for each in table.pop("more", [])),
        mtp=None if mtp is None else MtpLayers(**mtp),
        **table,
    )


def _table(path: Path) -> dict[str, Any]:
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    other = table.pop("extends", None)
    return table if other is None else _laid_over(_table(path.with_name(f"{other}.toml")), table)


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    out = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            out[key] = _laid_over(below[key], above[key])
    return out


def _common(numbers: Numbers) -> dict[str, Any]:
    return {
        "vocab_size": numbers.vocab,
        "hidden_size": 32,
        "intermediate_size": 24,
        "num_hidden_layers": numbers.layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 512,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": None,
    }
