"""safetensors files made wrong: other types, shapes, names, and damaged bytes."""

import json
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.fuzzing.mutations import DAMAGE, HUGE, JUNK, damaged

NAMES = {"f": "F", "i": "I", "u": "U"}
DTYPES = st.sampled_from(
    ["F32", "F64", "F16", "BF16", "F8_E4M3", "I64", "I16", "BOOL", "U8", "C64"]
)


def entries(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a valid file."""
    header: dict[str, Any] = {}
    data = b""
    for name, array in arrays.items():
        kind = array.dtype.kind
        dtype = "BOOL" if kind == "b" else f"{NAMES[kind]}{8 * array.dtype.itemsize}"
        end = len(data) + array.nbytes
        header[name] = {"dtype": dtype, "shape": [*array.shape], "data_offsets": [len(data), end]}
        data += array.tobytes()
    return header, data


@st.composite
def files(draw: st.DrawFn, arrays: Mapping[str, np.ndarray]) -> bytes:
    """A file of these arrays that is wrong in some places."""
    header, data = entries(arrays)
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(sorted(header)))
        action = draw(st.sampled_from(["shape", "dtype", "name", "remove", "entry", "junk"]))
        if action == "remove" and len(header) > 1:
            del header[name]
        elif action == "name":
            header[
                draw(st.text(max_size=4) | st.sampled_from(["a/b", "x/y", "999999/demo", "/"]))
            ] = header.pop(name)
        elif action == "junk" or not isinstance(header[name], dict):
            header[name] = draw(JUNK)
        elif action == "dtype":
            header[name] = {**header[name], "dtype": draw(DTYPES)}
        elif action == "shape":
            given = header[name].get("shape")
            shape = given if isinstance(given, list) else []
            whole = prod(each for each in shape if isinstance(each, int))
            shapes = [shape[::-1], [1, *shape], shape[:-1], [whole], [0], []]
            header[name] = {**header[name], "shape": draw(st.sampled_from(shapes))}
        else:
            key = draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
            header[name] = {**header[name], key: draw(JUNK | st.lists(HUGE, max_size=2))}
    if draw(st.booleans()):  # other values: NaN, infinity, numbers beyond every range
        data = draw(st.sampled_from([b"\xff" * len(data), b"\x7f" * len(data), data[::-1]]))
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    length = len(text) if draw(st.integers(0, 9)) else draw(st.sampled_from([0, 2**40, 2**63]))
    content = length.to_bytes(8, "little") + text + data
    return damaged(content, draw(DAMAGE)) if draw(st.booleans()) else content
