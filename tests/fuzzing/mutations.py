"""Valid documents made wrong: values exchanged, removed and nested, bytes damaged."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

HUGE = st.sampled_from([-1, 2**31, 2**53, 2**63 - 1, 2**64, 10**400, -(10**400), 1e308, 10**18])
WORDS = st.sampled_from(
    [
        *("", "x" * 20_000, "../../x", "/etc/passwd", "\0", "\ud800", "1" * 5000, "<script>", "0"),
        *("mean", "balanced", "uniform", "a:b", "nan", "math:-1", "easy-ep", "(a+)+$", "[", "é"),
    ]
)
ODD_FLOATS = st.sampled_from([float("nan"), float("inf"), -float("inf"), -0.0, 0.5, 5e-324])
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | HUGE
    | ODD_FLOATS
    | WORDS
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | WORDS, inner, max_size=3)
    ),
    max_leaves=5,
)
INSERTED = st.sampled_from(
    [
        *(b"", b"{", b"}", b"[", b"]", b'"', b",", b":", b"\n", b"\xff", b"\0", b"-", b"1e999"),
        *(b"NaN", b"Infinity", b"[" * 100_000, b'{"a":' * 50_000, b"9" * 5000, b"\xef\xbb\xbf"),
        *(b"\\ud800", b"null", b"true", b"&a ", b"*a", b"!!int ''", b"!!float ''", b"<<: ", b"- "),
        *(b"!!python/object/apply:os.system [x]", b"!!timestamp x", b"!!bool x", b"!!binary x"),
    ]
)
DAMAGE = st.lists(st.tuples(st.floats(0, 1), INSERTED, st.integers(0, 9)), max_size=2)


def damaged(text: bytes, damage: list[tuple[float, bytes, int]]) -> bytes:
    """`text` with some bytes replaced; for each: (where, by what, how many)."""
    for share, inserted, replaced in damage:
        at = int(share * len(text))
        text = text[:at] + inserted + text[at + replaced :]
    return text


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in `value` with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """`value`, a JSON object or list, with up to three places changed."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(0, 3))):
        places = list(_places(value))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        action = draw(st.sampled_from(["junk", "junk", "junk", "remove", "copy", "add"]))
        if action == "junk":
            holder[key] = draw(JUNK)
        elif action == "remove":
            del holder[key]
        elif action == "copy":
            other, place = draw(st.sampled_from(places))
            if place in other if isinstance(other, dict) else place < len(other):
                holder[key] = copy.deepcopy(other[place])
        elif isinstance(holder, dict):
            holder[draw(st.text(max_size=3) | WORDS)] = draw(JUNK)
        else:
            holder.insert(key, draw(JUNK))
    return value


def texts(value: Any, dump: Callable[[Any], str] = json.dumps) -> st.SearchStrategy[bytes]:
    """Files that say `value`, more or less."""

    def dumped(each: Any) -> bytes:
        return dump(each).encode("utf-8", "surrogatepass")

    wrong = st.builds(damaged, changed(value).map(dumped), DAMAGE)
    odd = changed(value).map(dumped)
    return st.one_of(
        odd, odd, wrong, wrong, JUNK.map(json.dumps).map(str.encode), st.binary(max_size=40)
    )


def one_of(
    documents: tuple[Any, ...], dump: Callable[[Any], str] = json.dumps
) -> st.SearchStrategy[bytes]:
    """Files that say one of the documents, more or less."""
    return st.one_of(*(texts(each, dump) for each in documents))


def lines(documents: tuple[Any, ...]) -> st.SearchStrategy[bytes]:
    """Files of up to three lines, each of which says one of the documents, more or less."""
    return st.lists(one_of(documents), min_size=1, max_size=3).map(b"\n".join)


@st.composite
def tomls(draw: st.DrawFn, base: str) -> bytes:
    """A TOML file, its lines removed, repeated and damaged."""
    written = base.strip().split("\n")
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(written) - 1))
        key, _, value = written[at].partition("=")
        other = draw(st.sampled_from(["1", "[]", '"x"', "{}", "[1]", "true", "{a=[1]}", "'(?P<'"]))
        more = ["extends = 'given'", "[config]", "[second]", "[engines.vllm]", "mtp_names=1"]
        more += ["refuse = 1", "[observation]", "[transformers]", "silent_mtp = [['x']]"]
        more += ["tensors = 1", "config = 1", "counts = 5", "engines = 3", "[config.defaults]"]
        written[at] = draw(
            st.sampled_from([f"{key} = {other}", "", value, *(f"{written[at]}\n{m}" for m in more)])
        )
    text = "\n".join(written).encode()
    return damaged(text, draw(DAMAGE)) if draw(st.booleans()) else text


@st.composite
def bombs(draw: st.DrawFn) -> bytes:
    """YAML whose aliases stand for more than they say."""
    merge = draw(st.booleans())
    depth, width = draw(st.integers(1, 12)), draw(st.integers(1, 10))
    lines = ["a0: &a0 {k: v}" if merge else "a0: &a0 [x]"]
    for i in range(depth):
        each = ", ".join([f"*a{i}"] * width)
        lines.append(f"a{i + 1}: &a{i + 1} {'{<<: [' + each + ']}' if merge else '[' + each + ']'}")
    key = draw(st.sampled_from(["model", "domain", "keep", "engine", "max_memory"]))
    return "\n".join([*lines, f"{key}: *a{depth}"]).encode()
