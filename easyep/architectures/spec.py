"""Model families as data: what `config.json` and the tensor names of each say about experts.

A family is one TOML file beside this module (docs/adding-an-architecture.md lists the keys); the
code here only reads those files and asks a `config.json` the questions that they describe.
"""

import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from easyep.architectures.definitions import Definition, load_definitions
from easyep.architectures.router import LARGEST, Router
from easyep.errors import CheckpointError, UnsupportedModelError
from easyep.registry import close_names, unknown_name

# Where a configuration may describe its language model; the first that has experts counts.
SECTIONS: tuple[tuple[str, ...], ...] = (
    (),
    ("text_config",),
    ("language_config",),
    ("llm_config",),
    ("thinker_config", "text_config"),
)

# How families call the number of routed experts; tells an unknown MoE model from a dense one.
EXPERT_KEYS = ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")


@dataclass(frozen=True)
class Architecture(Definition):
    """One family: its names in `config.json` and among the tensors (fields: see `Definition`)."""

    def section(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """The path of the part of `config` that describes the routed experts.

        Raises:
            UnsupportedModelError: no part has any: a dense model.
        """
        for path, section in _sections(config):
            if any(_is_count(_stated(section, key)) for key in self.keys("num_experts")):
                return path
        raise UnsupportedModelError(
            f"the model (architecture {self.name}) has no routed experts: none of "
            f"{', '.join(self.keys('num_experts'))} is a count in config.json; "
            "easyep prunes Mixture-of-Experts models only"
        )

    def aliases(self, config: Mapping[str, Any], what: str) -> dict[tuple[str, ...], Any]:
        """Every place of `config` that states `what` (a key of the TOML's ``[config]``).

        Returns:
            Path -> value, for the keys that are present and not null, in the section of the
            experts and in the sections around it and inside. A value can be a list with one
            number for each layer or for each set of experts.
        """
        return self._stated_under(config, self.keys(what))

    def echoes(self, config: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
        """As `aliases`, where the number of experts stands under other families' names.

        The family's own code does not read them, and others may.
        """
        own, experts = self.keys("num_experts"), self.value(config, "num_experts")
        others = [key for key in EXPERT_KEYS if key not in own]
        return {
            path: value
            for path, value in self._stated_under(config, others).items()
            if value
            and all(
                type(each) is int and each == experts
                for each in (value if isinstance(value, list) else [value])
            )
        }

    def _stated_under(
        self, config: Mapping[str, Any], keys: Sequence[str]
    ) -> dict[tuple[str, ...], Any]:
        home = self.section(config)
        found = {}
        for path, section in _sections(config):
            if path == home[: len(path)] or home == path[: len(home)]:
                for key in keys:
                    if _stated(section, key) is not None:
                        found[(*path, *key.split("."))] = _stated(section, key)
        return found

    def value(self, config: Mapping[str, Any], what: str, default: int | None = None) -> int:
        """The number that `config` states for `what`, under whichever names.

        Raises:
            CheckpointError: names disagree, the value is no count, or there is none and no
                default either.
        """
        aliases = self.aliases(config, what)
        numbers: set[int] = set()
        for path, value in aliases.items():
            several = value if isinstance(value, list) and value else [value]
            if any(type(each) is not int or not 0 <= each <= LARGEST for each in several):
                raise CheckpointError(
                    f"config.json: {'.'.join(path)} is {reprlib.repr(value)}; "
                    f"expected a whole number from 0 to {LARGEST}"
                )
            if len(set(several)) > 1:
                raise CheckpointError(
                    f"config.json: {'.'.join(path)} is {reprlib.repr(value)}; easyep needs "
                    "the same number in every layer"
                )
            numbers.update(several)
        if len(numbers) > 1:
            stated = ", ".join(f"{'.'.join(path)} = {value}" for path, value in aliases.items())
            raise CheckpointError(
                f"config.json contradicts itself: {stated}; which one counts depends on the "
                "program that reads it, so make them equal first"
            )
        if numbers:
            return numbers.pop()
        default = self.defaults.get(what, default)
        if default is None:
            raise CheckpointError(
                f"config.json has none of {', '.join(self.keys(what)) or what}, "
                f"which architecture {self.name} needs"
            )
        return default

    def is_grouped(self, config: Mapping[str, Any]) -> bool:
        """Whether the router that `config` describes looks at groups at all."""
        if not self.keys("n_group"):
            return False
        section = dict(_sections(config))[self.section(config)]
        return all(section.get(key) in values for key, values in self.grouped_if.items())

    def router(self, config: Mapping[str, Any]) -> Router:
        """The numbers of the router.

        Raises:
            CheckpointError: they are missing, contradictory or impossible.
            UnsupportedModelError: the model is dense.
        """
        grouped = self.is_grouped(config)
        return Router(
            num_experts=self.value(config, "num_experts"),
            top_k=self.value(config, "top_k"),
            n_group=self.value(config, "n_group", 1) if grouped else 1,
            topk_group=self.value(config, "topk_group", 1) if grouped else 1,
            num_layers=self.num_layers(config),
            mtp_layers=self.value(config, "mtp_layers", 0),
            group_best=self.group_best,
        )

    def expected_moe_layers(self, config: Mapping[str, Any]) -> tuple[int, ...] | None:
        """The decoder layers that should have routed experts, MTP layers not included.

        None where the family's configuration does not tell.

        Raises:
            CheckpointError: a key that decides it has a value that cannot be understood.
        """
        return self.moe_layers.layers(self._reader(config), self.defaults, self.num_layers(config))

    def num_layers(self, config: Mapping[str, Any]) -> int:
        """How many decoder layers there are: stated, or as many as are given a type.

        Raises:
            CheckpointError: neither is in `config`, or what is makes no sense.
        """
        return self.value(config, "num_layers", self.moe_layers.described(self._reader(config)))

    def _reader(self, config: Mapping[str, Any]) -> Callable[[str], Any]:
        """A function: key -> its value in the experts' section, or None."""
        section = dict(_sections(config))[self.section(config)]
        return lambda key: _stated(section, key)

    def setting(self, config: Mapping[str, Any], key: int | str) -> int:
        """A rule's number: `key` itself, or what `config` states under that key.

        Raises:
            CheckpointError: it is not stated, or no count.
        """
        if isinstance(key, int):
            return key
        value = _stated(dict(_sections(config))[self.section(config)], key)
        value = self.defaults.get(key) if value is None else value
        if type(value) is not int or not 0 <= value <= LARGEST:
            raise CheckpointError(
                f"config.json: {key} is {reprlib.repr(value)}, but architecture {self.name} "
                "needs a number there to find the experts' rows"
            )
        return value

    def is_silent_mtp(self, layer: int) -> bool:
        """Whether transformers passes over the MTP layer of that number without a word."""
        return self.silent_mtp if isinstance(self.silent_mtp, bool) else layer in self.silent_mtp

    def can_run_mtp(self, config: Mapping[str, Any]) -> bool:
        """Whether transformers can run the MTP layers of a model with this `config.json`."""
        return any(each.get("model_type") in self.runs_mtp for _, each in _sections(config))


def names() -> list[str]:
    """The names of all architectures, sorted."""
    return sorted(_all())


def get(name: str) -> Architecture:
    """The architecture called `name`.

    Raises:
        UnknownNameError: there is none; the message suggests the closest names.
    """
    if name not in _all():
        raise unknown_name("architecture", name, _all())
    return _all()[name]


def find_architecture(config: Mapping[str, Any]) -> Architecture:
    """The architecture of a model, by `model_type` in its configuration or in a nested one.

    Args:
        config: the parsed `config.json`.

    Raises:
        UnsupportedModelError: the model is dense, or of a family that easyep does not know.
    """
    types = [section.get("model_type") for _, section in _sections(config)]
    for kind in types:
        architecture = _of_type(kind) if isinstance(kind, str) else None
        if architecture is not None:
            if architecture.refuse is not None:
                raise UnsupportedModelError(
                    f"models of type {kind!r} cannot be pruned: {architecture.refuse}"
                )
            architecture.section(config)  # raises for a dense member of the family
            return architecture
    kind = next((kind[:100] for kind in types if isinstance(kind, str)), None)
    keys = {*EXPERT_KEYS, *(key for each in _all().values() for key in each.keys("num_experts"))}
    stated = [_stated(section, key) for _, section in _sections(config) for key in keys]
    if not any(_is_count(value) and value != 1 for value in stated):
        raise UnsupportedModelError(
            f"the model (model_type {kind!r}) has no routed experts: config.json has none of "
            f"{', '.join(sorted(keys))}; easyep prunes Mixture-of-Experts models only, and one "
            "that counts its experts by another key once a TOML file says so: "
            "docs/adding-an-architecture.md"
        )
    if kind is None:
        raise UnsupportedModelError(
            "config.json names no model_type, which says of what family a model is "
            "(all: easyep list architectures)"
        )
    by_type = [kind for each in _all().values() for kind in each.model_types]
    raise UnsupportedModelError(
        f"unknown model_type {kind!r}{close_names(kind, by_type)} (all: easyep list "
        "architectures); a new family is one small TOML file, in easyep or in a package of your "
        "own: docs/adding-an-architecture.md"
    )


def first_release(config: Mapping[str, Any]) -> tuple[str, str] | None:
    """A model's type, and the first release of transformers that runs it; None = every one."""
    for _, section in _sections(config):
        kind = section.get("model_type")
        if not isinstance(kind, str):
            continue
        family = _of_type(kind)
        if family is not None and kind in family.since:
            return kind, family.since[kind]
    return None


def stated_size(config: Mapping[str, Any], key: str) -> int | None:
    """A number of at least 1 that `config` states under `key`, in the first section that does.

    For what every language model has, experts or not, such as ``vocab_size``.
    """
    values = (section.get(key) for _, section in _sections(config))
    return next((value for value in values if type(value) is int and value >= 1), None)


@cache
def _all() -> dict[str, Architecture]:
    return {name: Architecture(**vars(each)) for name, each in load_definitions().items()}


@cache
def _of_type(model_type: str) -> Architecture | None:
    """The architecture of models of this type, from the one file that has it in quotes."""
    for definition in load_definitions(model_type).values():
        if model_type in definition.model_types:
            return Architecture(**vars(definition))
    written_otherwise = (each for each in _all().values() if model_type in each.model_types)
    return next(written_otherwise, None)


def _sections(
    config: Mapping[str, Any],
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    for path in SECTIONS:
        section: Any = config
        for key in path:
            section = section.get(key) if isinstance(section, Mapping) else None
        if isinstance(section, Mapping):
            yield path, section


def _stated(section: Mapping[str, Any], key: str) -> Any:
    """The value under `key`, whose dots lead into nested objects; None where there is none."""
    value: Any = section
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _is_count(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, int) and value >= 1)
