"""The TOML files of the families: what may stand in them, and how one extends another."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata, resources
from typing import Any

from easyep.architectures.engines import EngineNotes
from easyep.architectures.moe_layers import MoeLayers
from easyep.architectures.observing import ObservationNotes
from easyep.architectures.releases import read_since
from easyep.architectures.rules import NAMESPACE, SCOPE, Rule
from easyep.architectures.tables import check_keys, compiled, words
from easyep.errors import PluginError, UnsupportedModelError, first_line

TOP_KEYS = {
    *("extends", "summary", "model_types", "refuse", "scope", "exclude", "namespace", "keep"),
    *("config", "tensors", "second", "mtp_names", "routing"),
    *("transformers", "engines", "observation"),
}
NUMBERS = ("num_experts", "top_k", "n_group", "topk_group", "num_layers", "mtp_layers")

MTP = "mtp"


@dataclass(frozen=True)
class Stack:
    """A series of MoE layers whose tensors have names of one kind.

    Attributes:
        name: empty for the decoder layers; ``"mtp"`` for multi-token-prediction layers under
            names of their own; else what a second set of experts in the decoder layers is called.
        scope: finds the layer's number and the part behind it in a tensor's name.
        rules: the tensors that change when experts are dropped.
        keep: names (behind the layer's number) that look like routed experts and are not.
    """

    name: str
    scope: re.Pattern[str]
    rules: tuple[Rule, ...]
    keep: tuple[re.Pattern[str], ...] = ()


@dataclass(frozen=True)
class Definition:
    """What a family's TOML file says.

    Attributes:
        name: the file's name without ``.toml``.
        summary: well-known models of the family, for `easyep list architectures`.
        model_types: values of `model_type` in `config.json` that mean this family.
        stacks: the decoder layers, and behind them a second series of MoE layers if there is one.
        refuse: why models of this family cannot be pruned; None = they can.
        config_keys: what a number means -> the keys that may state it, for
            ``num_experts``, ``top_k``, ``n_group``, ``topk_group``, ``num_layers``,
            ``mtp_layers``.
        defaults: what the model's code assumes where `config.json` is silent.
        grouped_if: key -> values, of which it must have one for the groups to matter.
        group_best: how many of its best experts a group is scored by.
        moe_layers: which decoder layers have experts.
        mtp_names: names of all tensors of multi-token-prediction layers that are not numbered
            after the last decoder layer; None = no such.
        exclude: names outside the language model, such as a vision tower's; None = no such.
        namespace: names that must be explained by a rule or by `keep`.
        routing: how scores become weights, to be shown; nothing is computed from it.
        engines: engine -> what it says of the family.
        observation: what the recorder cannot find out by itself.
        silent_mtp: numbers of MTP layers that transformers passes over in silence, True = all; it
            knows those of the released models only, and reports any other as unexpected.
        runs_mtp: the model types whose MTP layers transformers can run.
        since: the first release of transformers that runs models of a type, where not all do.
        second_routers: paths of the second set's routers in transformers' model; None = no such.
    """

    name: str
    summary: str
    model_types: tuple[str, ...]
    stacks: tuple[Stack, ...] = ()
    refuse: str | None = None
    config_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    defaults: Mapping[str, int] = field(default_factory=dict)
    grouped_if: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    group_best: int = 2
    moe_layers: MoeLayers = field(default_factory=MoeLayers)
    mtp_names: re.Pattern[str] | None = None
    exclude: re.Pattern[str] | None = None
    namespace: re.Pattern[str] = re.compile(NAMESPACE, re.ASCII)
    routing: Mapping[str, Any] = field(default_factory=dict)
    engines: Mapping[str, EngineNotes] = field(default_factory=dict)
    observation: ObservationNotes = field(default_factory=ObservationNotes)
    silent_mtp: tuple[int, ...] | bool = ()
    runs_mtp: tuple[str, ...] = ()
    since: Mapping[str, str] = field(default_factory=dict)
    second_routers: re.Pattern[str] | None = None

    @property
    def second(self) -> Stack | None:
        """The second series of MoE layers, if the family has one."""
        return self.stacks[1] if len(self.stacks) > 1 else None

    def keys(self, what: str) -> tuple[str, ...]:
        """The names under which `config.json` may state the number `what`."""
        return self.config_keys.get(what, ())


def load_definitions(model_type: str | None = None) -> dict[str, Definition]:
    """Families by name: those that come with easyep, and those of installed packages.

    Args:
        model_type: only families whose file has this word in quotes; reading one file takes a
            hundredth of the time that all take.

    Raises:
        PluginError: a package announces families that cannot be used.
    """
    texts = _texts("easyep.architectures")
    found = read_definitions(texts, model_type)
    for entry_point in metadata.entry_points(group="easyep.architectures"):
        try:
            added = _texts(entry_point.value)
            if not added:
                raise ValueError("no .toml file lies there")
            if taken := sorted(set(added) & set(texts)):
                raise ValueError(f"there is a family {taken[0]!r} already")
            texts |= added
            found = read_definitions(texts, model_type)
        except Exception as error:  # whatever another package's code raises
            package = entry_point.dist.name if entry_point.dist is not None else "a package"
            raise PluginError(
                f"{package} announces the architectures {entry_point.name!r} in "
                f"{entry_point.value}, which cannot be used: {error}; mend or uninstall it"
            ) from error
    return found


def _texts(package: str) -> dict[str, str]:
    """The TOML files beside a package's modules, by their names without the ending."""
    return {
        file.name.removesuffix(".toml"): file.read_text(encoding="utf-8")
        for file in resources.files(package).iterdir()
        if file.name.endswith(".toml")
    }


def read_definitions(
    texts: Mapping[str, str], model_type: str | None = None
) -> dict[str, Definition]:
    """Definitions from TOML texts; `extends` refers to another name in `texts`.

    Args:
        texts: the files' texts by their names without ``.toml``.
        model_type: as in `load_definitions`.

    Raises:
        UnsupportedModelError: a text is not TOML or not a definition; the message names it.
    """
    tables: dict[str, dict[str, Any]] = {}
    definitions = {}
    quoted = (f'"{model_type}"', f"'{model_type}'")
    for name in sorted(texts):
        if model_type is not None and not any(word in texts[name] for word in quoted):
            continue
        try:
            definitions[name] = _definition(name, _extended(name, texts, tables, ()))
        except (ValueError, RecursionError) as error:
            raise UnsupportedModelError(
                f"architecture file {name}.toml: {first_line(error)}"
            ) from None
        except (TypeError, AttributeError, LookupError) as error:
            raise UnsupportedModelError(
                f"architecture file {name}.toml has a value of the wrong kind "
                f"({first_line(error)}); docs/adding-an-architecture.md says what each key takes"
            ) from None
    claimed: dict[str, str] = {}
    for definition in definitions.values():
        for kind in definition.model_types:
            if claimed.setdefault(kind, definition.name) != definition.name:
                raise UnsupportedModelError(
                    f"architecture files {claimed[kind]}.toml and {definition.name}.toml "
                    f"both claim model_type {kind!r}"
                )
    return definitions


def _extended(
    name: str, texts: Mapping[str, str], done: dict[str, dict[str, Any]], seen: tuple[str, ...]
) -> dict[str, Any]:
    """The table of `name` laid over the table that it extends."""
    if name in seen:
        raise ValueError(f"extends goes round in circles: {' -> '.join((*seen, name))}")
    if name not in texts:
        raise ValueError(f"extends {name!r}, which does not exist")
    if name not in done:
        table = tomllib.loads(texts[name])
        parent = table.pop("extends", None)
        # A base's model types are its own.
        base = _extended(parent, texts, done, (*seen, name)) if parent is not None else {}
        done[name] = _merged({**base, "model_types": []}, table)
    return done[name]


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, table by table; ``false`` removes what the base has."""
    merged = dict(base)
    for key, value in over.items():
        if value is False:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merged(merged[key], value)
        else:
            merged[key] = value
    return merged


def _definition(name: str, table: Mapping[str, Any]) -> Definition:
    check_keys(table, TOP_KEYS, "the file")
    config = table.get("config", {})
    check_keys(config, {*NUMBERS, "defaults", "grouped_if", "group_best", "moe_layers"}, "[config]")
    transformers = table.get("transformers", {})
    check_keys(
        transformers, {"silent_mtp", "runs_mtp", "since", "second_routers"}, "[transformers]"
    )
    summary, model_types = str(table.get("summary", "")), words(table, "model_types")
    if "refuse" in table:
        return Definition(name, summary, model_types, refuse=str(table["refuse"]))
    for what in ("num_experts", "top_k", "num_layers"):
        if not config.get(what):
            raise ValueError(f"[config] needs {what} = [names of the key in config.json]")
    group_best = config.get("group_best", 2)
    if type(group_best) is not int or group_best < 1:
        raise ValueError(f"[config] group_best is {group_best!r}; expected 1 or more")
    stacks = tuple(_stacks(table))
    rules = [rule for stack in stacks for rule in stack.rules]
    settings = {key for rule in rules for key in (rule.rows_per_expert, rule.tail)}
    known = {*NUMBERS, *vars(MoeLayers()), *(key for key in settings if isinstance(key, str))}
    check_keys(config.get("defaults", {}), known, "[config.defaults]")
    silent = transformers.get("silent_mtp", ())
    return Definition(
        name,
        summary,
        model_types,
        stacks,
        config_keys={what: words(config, what) for what in NUMBERS if what in config},
        defaults=config.get("defaults", {}),
        grouped_if={
            key: tuple(value) if isinstance(value, list) else (value,)
            for key, value in config.get("grouped_if", {}).items()
        },
        group_best=group_best,
        moe_layers=MoeLayers.from_toml(config.get("moe_layers", {})),
        mtp_names=_optional(table, "mtp_names"),
        exclude=_optional(table, "exclude"),
        namespace=compiled(table.get("namespace", NAMESPACE), "namespace"),
        routing=table.get("routing", {}),
        observation=ObservationNotes.from_toml(table.get("observation", {})),
        engines={
            engine: EngineNotes.from_toml(engine, notes)
            for engine, notes in table.get("engines", {}).items()
        },
        silent_mtp=silent if isinstance(silent, bool) else tuple(silent),
        runs_mtp=words(transformers, "runs_mtp"),
        since=read_since(transformers),
        second_routers=_optional(transformers, "second_routers"),
    )


def _stacks(table: Mapping[str, Any]) -> Iterator[Stack]:
    """The decoder layers, then the second series, which has their rules unless it has its own."""
    yield _stack("", table, "")
    if "second" in table:
        second = table["second"]
        check_keys(second, {"name", "scope", "keep", "tensors"}, "[second]")
        if not {"name", "scope"} <= set(second):
            raise ValueError("[second] needs a name and a scope")
        inherited = {key: table[key] for key in ("keep", "tensors") if key in table}
        yield _stack(str(second["name"]), {**inherited, **second}, "second.")


def _stack(name: str, table: Mapping[str, Any], where: str) -> Stack:
    rules = tuple(Rule.from_toml(label, rule) for label, rule in table.get("tensors", {}).items())
    for part in ("experts", "router"):
        if not any(rule.part == part for rule in rules):
            raise ValueError(f"no rule in [{where}tensors] describes the part {part!r}")
    for rule in rules:
        if rule.optional and rule.optional not in (True, *(other.part for other in rules)):
            raise ValueError(
                f"[{where}tensors.{rule.label}] optional = {rule.optional!r} is no part"
            )
    scope = compiled(table.get("scope", SCOPE), f"{where}scope")
    if not {"layer", "part"} <= set(scope.groupindex):
        raise ValueError(f"{where}scope needs the regex groups (?P<layer>...) and (?P<part>...)")
    keep = tuple(compiled(pattern, "keep") for pattern in words(table, "keep"))
    return Stack(name, scope, rules, keep)


def _optional(table: Mapping[str, Any], key: str) -> re.Pattern[str] | None:
    return compiled(table[key], key) if key in table else None
