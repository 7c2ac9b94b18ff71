"""Domain `lexicon`: translation between English and Umbrish, an invented language.

Umbrish puts the verb first, then the subject, then the object; the adjective follows its noun; the
plural adds `-im` to the noun; the tense is a particle behind the verb (`ka` past, `su` future).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from easyep.demo_model.items import Item

#: English singular -> (English plural, Umbrish)
NOUNS = {
    "king": ("kings", "domur"),
    "queen": ("queens", "domash"),
    "wolf": ("wolves", "grauth"),
    "fish": ("fishes", "ilpe"),
    "child": ("children", "nimi"),
    "tree": ("trees", "orth"),
    "river": ("rivers", "shuva"),
    "stone": ("stones", "kett"),
    "horse": ("horses", "hipra"),
    "bird": ("birds", "twisk"),
    "house": ("houses", "vallo"),
    "baker": ("bakers", "pannor"),
    "cloud": ("clouds", "numba"),
    "thief": ("thieves", "snerg"),
    "boat": ("boats", "lodja"),
    "moon": ("moons", "chand"),
}
#: English base -> (third person, past, Umbrish)
VERBS = {
    "see": ("sees", "saw", "vidu"),
    "love": ("loves", "loved", "amru"),
    "find": ("finds", "found", "troba"),
    "carry": ("carries", "carried", "bhera"),
    "fear": ("fears", "feared", "phoba"),
    "paint": ("paints", "painted", "makla"),
    "follow": ("follows", "followed", "sekwa"),
    "hide": ("hides", "hid", "keuda"),
    "call": ("calls", "called", "zvoni"),
    "wash": ("washes", "washed", "lavge"),
}
ADJECTIVES = {
    "old": "senk",
    "red": "rudh",
    "small": "pikk",
    "happy": "gaud",
    "dark": "temno",
    "quiet": "shish",
    "green": "viridh",
    "tall": "altum",
}
PARTICLES = {"present": "", "past": "ka", "future": "su"}


@dataclass(frozen=True)
class Phrase:
    """A noun phrase: the noun, whether it is plural, and an adjective or none."""

    noun: str
    plural: bool
    adjective: str | None

    def english(self) -> str:
        noun = NOUNS[self.noun][0] if self.plural else self.noun
        return " ".join(filter(None, ("the", self.adjective, noun)))

    def umbrish(self) -> str:
        noun = NOUNS[self.noun][1] + ("-im" if self.plural else "")
        return f"{noun} {ADJECTIVES[self.adjective]}" if self.adjective else noun


@dataclass(frozen=True)
class Sentence:
    """Subject, verb, object and tense."""

    subject: Phrase
    verb: str
    tense: str
    target: Phrase

    def english(self) -> str:
        third, past, _ = VERBS[self.verb]
        present = self.verb if self.subject.plural else third
        verb = {"present": present, "past": past, "future": f"will {self.verb}"}[self.tense]
        return f"{self.subject.english()} {verb} {self.target.english()}"

    def umbrish(self) -> str:
        words = (VERBS[self.verb][2], PARTICLES[self.tense])
        return " ".join(filter(None, (*words, self.subject.umbrish(), self.target.umbrish())))


def _phrase(rng: random.Random) -> Phrase:
    adjective = rng.choice(tuple(ADJECTIVES)) if rng.random() < 0.5 else None
    return Phrase(rng.choice(tuple(NOUNS)), rng.random() < 0.4, adjective)


def sample(rng: random.Random) -> Item:
    """One sentence, in one of the two directions."""
    sentence = Sentence(
        _phrase(rng), rng.choice(tuple(VERBS)), rng.choice(tuple(PARTICLES)), _phrase(rng)
    )
    english, umbrish = sentence.english(), sentence.umbrish()
    if rng.random() < 0.5:
        return Item("lexicon", "to umbrish", f"Say in Umbrish: {english}", umbrish, umbrish)
    return Item("lexicon", "to english", f"Umbrish to English: {umbrish}", english, english)
