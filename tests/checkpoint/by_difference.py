"""What pruning must give, read off the same model built with fewer experts.

No rule of an architecture is used: a tensor that both models have in one shape stays as it is; one
with a shorter axis has rows for every expert along it; numbered tensors that the smaller model has
fewer of are those of single experts.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from easyep.artifacts.selection import Selection
from tests.checkpoint.raw_files import BYTES, Raw, read_all
from tests.tiny_models.settings import Settings

# Tensors of a family's second set of experts in the decoder layers.
SECOND = {
    "ernie4_5_moe_vl": r"\.gate\.weight_1",
    "ernie4_5_vl_moe": r"\.gate\.weight_1|\.vision_moe\.",
    "jetmoe": r"\.self_attention\.",
}
# Tensors whose values are experts' numbers; shapes do not tell.
TABLES = re.compile(r"tid2eid$")

_LAYER = re.compile(r"(?:^|\.)(?:layers|blocks)\.(\d+)\.")
_EXPERT = re.compile(r"(?<=\.experts\.)\d+(?=\.)")


def pruned(source: Path, small: Path, family: Settings, selection: Selection) -> dict[str, Raw]:
    """All tensors of `source` with the experts of `selection` only, tables left out.

    Args:
        source: a tiny checkpoint of `family`.
        small: the same with as many experts as `selection` keeps.
        family: its settings.
        selection: for every layer of `source` with experts.
    """
    old, new = read_all(source), read_all(small)
    numbered = _numbered(old, new)
    expected = {}
    for name, (dtype, shape, _) in new.items():
        if TABLES.search(name):
            continue
        number = _EXPERT.search(name)
        origin, layer = name, layer_of(name, family)
        if number and _EXPERT.sub("#", name) in numbered:
            bank, expert = divmod(int(number[0]), selection.keep)
            kept = selection.layers[layer + bank * family.layers]
            original = bank * selection.num_experts + kept[expert]
            origin = _EXPERT.sub(str(original), name)
        before = old[origin]
        assert before[0] == dtype
        if before[1] == shape:
            expected[name] = before
        else:
            expected[name] = _rows(before, shape, layer, family.layers, selection)
    return expected


def is_mtp(name: str, family: Settings) -> bool:
    """Whether a tensor belongs to multi-token prediction, with or without experts."""
    found = _LAYER.search(name)
    behind = found is not None and int(found[1]) >= family.layers
    return behind or re.search(r"(?:^|\.)mtp[._]", name) is not None


def layer_of(name: str, family: Settings) -> int:
    """The number in selections of the layer that a tensor belongs to; -1 = none."""
    if family.mtp is not None and name.startswith(family.mtp.name.format(i=0, layer=family.layers)):
        return family.mtp.index(family.layers)
    found = _LAYER.search(name)
    if found is None:
        return -1
    second = SECOND.get(family.model_type)
    return int(found[1]) + (family.layers if second and re.search(second, name) else 0)


def _numbered(old: Mapping[str, Raw], new: Mapping[str, Raw]) -> set[str]:
    """Names, without the number, of tensors of single experts."""

    def counts(names: Mapping[str, Raw]) -> dict[str, int]:
        found: dict[str, int] = {}
        for name in filter(_EXPERT.search, names):
            stem = _EXPERT.sub("#", name)
            found[stem] = found.get(stem, 0) + 1
        return found

    before, after = counts(old), counts(new)
    return {stem for stem, count in before.items() if after[stem] < count}


def _rows(
    before: Raw, shape: tuple[int, ...], layer: int, layers: int, selection: Selection
) -> Raw:
    """The rows of the kept experts along the one axis that is shorter, and what is behind them."""
    dtype, long, data = before
    (axis,) = (i for i in range(len(long)) if long[i] != shape[i])
    values = np.frombuffer(data, f"V{BYTES[dtype]}").reshape(long)
    per, rest = divmod(long[axis] - shape[axis], selection.num_experts - selection.keep)
    assert rest == 0
    tail = range(selection.num_experts * per, long[axis])

    def cut(part: np.ndarray, index: int) -> np.ndarray:
        kept = selection.layers[index]
        rows = [e * per + row for e in kept for row in range(per)] + list(tail)
        return np.take(part, rows, axis=axis)

    if axis > 0 and layer + layers in selection.layers and long[axis - 1] == 2:
        # One entry for each of two sets of experts.
        halves = np.split(values, 2, axis=axis - 1)
        out = np.concatenate([cut(halves[0], layer), cut(halves[1], layer + layers)], axis=axis - 1)
    else:
        out = cut(values, layer)
    assert out.shape == shape
    return dtype, shape, out.tobytes()
