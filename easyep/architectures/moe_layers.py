"""Which decoder layers have routed experts, as the keys of `config.json` tell it."""

import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from easyep.architectures.tables import check_keys
from easyep.errors import CheckpointError

_NUMBER = re.compile(r"\s*\d{1,9}\s*", re.ASCII)


@dataclass(frozen=True)
class MoeLayers:
    """The keys of `config.json` that say which layers have experts; None = the family has none.

    Where `types`, `listed` or a list under `frequency` is stated it decides alone; otherwise a
    layer i has experts if it is none of the first ``dense_first`` layers, at most ``last``, not
    among ``dense_layers``, and ``i % step == offset`` (``step - 1`` where no offset is stated).

    Attributes:
        types: the keys that may hold a list of names, or a string of letters, one for each layer.
        moe_types: the names or letters in `types` that mean experts.
        listed: the keys that may hold the layers' numbers, as a list or as text with commas.
        frequency: the key with a number n (every n-th layer from 0 on) or a list of 0 and 1.
        dense_first: the key with the number of dense layers at the start; or a list of them, one
            for each set of experts.
        last: the key with the number of the last layer with experts; or such a list.
        dense_layers: the key with a list of dense layers.
        step, offset: the keys of the two numbers above.
        unstated: the configuration does not say it; the checkpoint's tensors do.
    """

    types: tuple[str, ...] = ()
    moe_types: tuple[str, ...] = ("sparse",)
    listed: tuple[str, ...] = ()
    frequency: str | None = None
    dense_first: str | None = None
    last: str | None = None
    dense_layers: str | None = None
    step: str | None = None
    offset: str | None = None
    unstated: bool = False

    @classmethod
    def from_toml(cls, table: Mapping[str, Any]) -> "MoeLayers":
        """Raises ValueError where the table is none."""
        check_keys(table, [field.name for field in fields(cls)], "[config.moe_layers]")
        settings = dict(table)
        for key in {"types", "listed"} & set(table):
            settings[key] = [table[key]] if isinstance(table[key], str) else table[key]
        several = ("types", "moe_types", "listed")
        for key, value in settings.items():
            kind = list if key in several else bool if key == "unstated" else str
            if not isinstance(value, kind):
                raise ValueError(f"[config.moe_layers] {key} is {reprlib.repr(value)}")
        return cls(**settings | {key: tuple(settings[key]) for key in several if key in settings})

    def described(self, stated: Callable[[str], Any]) -> int | None:
        """How many layers the configuration gives a type to; None where it does not."""
        for key in self.types:
            if isinstance(value := stated(key), list | str):
                return len(value)
        return None

    def layers(
        self, stated: Callable[[str], Any], defaults: Mapping[str, Any], num_layers: int
    ) -> tuple[int, ...] | None:
        """The layers with experts, ascending; None where the configuration does not say it.

        Args:
            stated: key -> its value in the experts' section of `config.json`, or None.
            defaults: name of an attribute -> what the model's code takes where nothing is stated.
            num_layers: decoder layers.

        Raises:
            CheckpointError: a key has a value that cannot be understood.
        """

        def setting(name: str, *kinds: type) -> Any:
            keys = getattr(self, name)
            for key in (keys,) if isinstance(keys, str) else keys or ():
                value = stated(key)
                if value is not None and type(value) not in kinds:
                    expected = " or ".join(kind.__name__ for kind in kinds)
                    raise CheckpointError(
                        f"config.json: {key} is {reprlib.repr(value)}, expected {expected}"
                    )
                if value is not None:
                    return value
            return defaults.get(name)

        def same(name: str, unstated: int) -> int:
            """A number, or a list of as many as there are sets of experts, which mean the same."""
            value = setting(name, int, list)
            each = value if isinstance(value, list) else [unstated if value is None else value]
            if any(type(number) is not int for number in each) or not each:
                raise CheckpointError(
                    f"config.json: {getattr(self, name)} is {reprlib.repr(value)}"
                )
            if len({min(number, num_layers - 1) for number in each}) > 1:
                raise CheckpointError(
                    f"config.json: {getattr(self, name)} is {reprlib.repr(value)}; easyep "
                    "needs both sets of experts in the same layers"
                )
            return int(each[0])

        if self.unstated:
            return None
        everywhere = range(num_layers)
        types = setting("types", list, str)
        if types is not None:
            if len(types) < num_layers:
                raise CheckpointError(
                    f"config.json: {' or '.join(self.types)} describes {len(types)} of "
                    f"{num_layers} layers"
                )
            return tuple(i for i in everywhere if types[i] in self.moe_types)
        listed = setting("listed", list, str)
        if listed is not None:
            return _numbers(self.listed, listed, num_layers)
        frequency = setting("frequency", int, list)
        if isinstance(frequency, list):
            return tuple(i for i in everywhere if i < len(frequency) and frequency[i])
        first = same("dense_first", 0)
        last = same("last", -1)
        last = num_layers if last < 0 else last
        dense = setting("dense_layers", list) or []
        dense = set(_numbers((str(self.dense_layers),), dense, num_layers))
        step = max(1, setting("step", int) or 1)
        offset = setting("offset", int)
        offset = step - 1 if offset is None else offset
        every = max(1, frequency or 1)
        return tuple(
            i
            for i in everywhere
            if first <= i <= last and i % step == offset and i % every == 0 and i not in dense
        )


def _numbers(keys: tuple[str, ...], listed: list[Any] | str, num_layers: int) -> tuple[int, ...]:
    """The numbers of layers that are listed under one of `keys`, ascending."""
    if isinstance(listed, str):
        listed = [int(each) if _NUMBER.fullmatch(each) else each for each in listed.split(",")]
    if any(type(each) is not int for each in listed):
        raise CheckpointError(
            f"config.json: {' or '.join(keys)} is {reprlib.repr(listed)}, expected numbers"
        )
    return tuple(sorted(each for each in set(listed) if 0 <= each < num_layers))
