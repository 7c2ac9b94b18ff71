"""YAML that is read with suspicion: plain values only, and no more of them than the text shows."""

import re
from typing import Any

import yaml

# Far more than any recipe has. An alias counts as all that it stands for: a few lines of aliases
# of aliases can stand for more than fits into memory.
MAX_VALUES = 100_000
MAX_CHARACTERS = 1_000_000
MAX_BYTES = 4 * MAX_CHARACTERS
# The library's time grows with the square of the depth.
MAX_NESTING = 200
# Python refuses to write out a number of more than 4300 digits, in messages too.
MAX_DIGITS = 1000


class _Loader(yaml.SafeLoader):
    """Without numbers to base 60: 3:17 is expert 17 of layer 3, and not 197."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if not tag.endswith((":int", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _form in (
    ("int", r"[-+]?(?:0b[0-1_]+|0x[0-9a-fA-F_]+|0[0-7_]+|0|[1-9][0-9_]*)$"),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?"
        r"|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(_form), list("-+0123456789.")
    )


def parse(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: it is not valid YAML, or says more than `MAX_VALUES`, or a number is longer
            than `MAX_DIGITS`, or a key stands twice in a mapping.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it has more than {MAX_CHARACTERS} characters")
    if _nesting(text) > MAX_NESTING:
        raise ValueError("values are nested too deeply")
    try:
        node = yaml.compose(text, _Loader)
        if node is not None and _values(node, {}) > MAX_VALUES:
            raise ValueError(f"its aliases stand for more than {MAX_VALUES} values")
        return _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("values are nested too deeply") from None
    except (LookupError, TypeError, AttributeError, OverflowError):
        # The library converts a value that is tagged as a number without looking at it.
        raise ValueError("a value is not of the kind that its tag says") from None


def _nesting(text: str) -> int:
    """How deep brackets are open at most; those in words count too, so it may be less."""
    deepest = depth = 0
    for bracket in re.findall(r"[][{}]", text):
        depth = depth + 1 if bracket in "[{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def _values(node: yaml.Node, counted: dict[int, int]) -> int:
    """How many values `node` stands for, each alias written out.

    Raises:
        ValueError: a number is longer than `MAX_DIGITS`, or a key stands twice: people read the
            first, and the library takes the last.
    """
    found = counted.get(id(node))
    if found is not None:
        return found
    counted[id(node)] = MAX_VALUES + 1  # what is met again inside of itself has no end
    is_number = isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:int"
    if is_number and len(node.value) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    inside: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        inside = [each for pair in node.value for each in pair]
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(keys) > len(set(keys)):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"the key {twice!r} appears twice in one mapping")
    elif isinstance(node, yaml.SequenceNode):
        inside = node.value
    counted[id(node)] = 1 + sum(_values(each, counted) for each in inside)
    return counted[id(node)]
