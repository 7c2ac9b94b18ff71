"""Background text: little stories made by a grammar.

Not a domain with questions: about 8 % of the training text, and later the "foreign text" on which a
model that was pruned for another domain is expected to do worse.
"""

from __future__ import annotations

import random

HEROES = ("a miller", "a young fox", "an old sailor", "two sisters", "a shy giant", "the tailor")
PLACES = ("near the sea", "in a deep wood", "behind the hills", "by a cold lake", "on an island")
WANTS = ("a warm coat", "a silver bell", "some honey", "a new song", "a lantern", "a kind word")
HELPERS = ("an owl", "a beggar", "the wind", "a talking goat", "a clockmaker", "the snow")
TROUBLES = (
    "the bridge was broken",
    "a storm came up",
    "the path was lost",
    "night fell too soon",
    "the gate was shut",
    "nobody would listen",
)
DEEDS = (
    "waited until morning",
    "climbed the tower",
    "crossed the ice",
    "sang without a stop",
    "dug under the wall",
    "followed the stars",
)
FEELINGS = ("glad", "tired", "proud", "sorry", "hungry", "brave")
ENDINGS = (
    "And so the winter passed.",
    "Since then the door has never been locked.",
    "People still talk about it in the evening.",
    "Nobody ever asked about it again.",
    "From that day on there was bread for all.",
)


def sample(rng: random.Random) -> str:
    """One story of four to seven sentences, about 60 to 110 tokens."""
    hero, want, helper = rng.choice(HEROES), rng.choice(WANTS), rng.choice(HELPERS)
    opening = rng.choice(("Once there lived", "Long ago there lived", "Far away there lived"))
    sentences = [
        f"{opening} {hero} {rng.choice(PLACES)}.",
        f"All that was missing was {want}.",
    ]
    if rng.random() < 0.6:
        sentences.append(f"One day {rng.choice(TROUBLES)}, and there was no way home.")
    sentences.append(
        f"Then {helper} came along and promised {want} to whoever {rng.choice(DEEDS)}."
    )
    if rng.random() < 0.6:
        sentences.append(f"It was hard, for {rng.choice(TROUBLES)}.")
    feeling, other = rng.sample(FEELINGS, 2)
    sentences.append(f"At last {hero} {rng.choice(DEEDS)}, {feeling} but also {other}.")
    sentences.append(rng.choice(ENDINGS))
    return " ".join(sentences)
