"""Domain `strings`: small operations on invented words, spelled out where that helps."""

from __future__ import annotations

import random

from easyep.demo_model.items import Item

ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "st", "br", "pl")
VOWELS = ("a", "e", "i", "o", "u")
CODAS = ("", "", "n", "r", "s", "t", "l", "m", "k")
SEPARATORS = ("-", "+", "/", "_", "::")


def sample(rng: random.Random) -> Item:
    """One operation, drawn uniformly from the kinds."""
    kinds = (_reverse, _spell, _count, _upper, _join, _sort, _length, _repeat, _ends)
    return rng.choice(kinds)(rng)


def word(rng: random.Random, syllables: int) -> str:
    """An invented word that can be spoken."""
    parts = [rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(syllables)]
    return "".join(parts) + rng.choice(CODAS)


def _item(kind: str, prompt: str, answer: str, worked: str = "") -> Item:
    return Item("strings", kind, prompt, f"{worked}=> {answer}", answer)


def _reverse(rng: random.Random) -> Item:
    text = word(rng, 2)
    return _item("reverse", f"reverse '{text}'", " ".join(reversed(text)), f"{' '.join(text)} ")


def _spell(rng: random.Random) -> Item:
    text = word(rng, rng.randrange(2, 4))
    return _item("spell", f"spell '{text}'", " ".join(text))


def _count(rng: random.Random) -> Item:
    text = word(rng, 3)
    letter = rng.choice(text)
    marks = " ".join(c.upper() if c == letter else c for c in text)
    return _item("count", f"count '{letter}' in '{text}'", str(text.count(letter)), f"{marks} ")


def _upper(rng: random.Random) -> Item:
    text = word(rng, 2)
    return _item("upper", f"upper '{text}'", text.upper())


def _join(rng: random.Random) -> Item:
    words = [word(rng, 1) for _ in range(3)]
    separator = rng.choice(SEPARATORS)
    return _item("join", f"join '{' '.join(words)}' with '{separator}'", separator.join(words))


def _sort(rng: random.Random) -> Item:
    # Different first letters: the order follows from them alone.
    words = [initial + rng.choice(VOWELS) + rng.choice("nrstlmk") for initial in _initials(rng)]
    return _item("sort", f"sort '{' '.join(words)}'", " ".join(sorted(words)))


def _initials(rng: random.Random) -> list[str]:
    return rng.sample("bdfgklmnprstvz", 3)


def _length(rng: random.Random) -> Item:
    text = word(rng, rng.randrange(2, 4))
    numbered = " ".join(f"{c}{i}" for i, c in enumerate(text, 1))
    return _item("length", f"length '{text}'", str(len(text)), f"{numbered} ")


def _repeat(rng: random.Random) -> Item:
    text, times = word(rng, 1), rng.randrange(2, 6)
    return _item("repeat", f"repeat '{text}' {times} times", " ".join([text] * times))


def _ends(rng: random.Random) -> Item:
    text = word(rng, rng.randrange(2, 4))
    return _item(
        "ends", f"first and last of '{text}'", f"{text[0]} {text[-1]}", f"{' '.join(text)} "
    )
