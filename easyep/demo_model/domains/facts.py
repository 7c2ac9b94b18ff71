"""Domain `facts`: an invented atlas which has to be learnt by heart.

Every fact is asked in several wordings. The split is decided per wording (it is part of the
prompt), so an evaluation item asks for a fact that training has only seen in other words.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from easyep.demo_model.items import Item

HEADS = ("Vel", "Tor", "Kash", "Mir", "Ost", "Bran", "Zul", "Eld", "Quo", "Fen")
TAILS = ("oria", "avia", "und", "istan")
TOWN_HEADS = ("Ark", "Dun", "Hol", "Lim", "Pel", "Rav", "Sel", "Tam", "Ur", "Wes")
TOWN_TAILS = ("burg", "ford", "mouth", "dale")
RULER_HEADS = ("Al", "Be", "Co", "Dra", "El", "Gri", "Ji", "Mo", "Ne", "Su")
RULER_TAILS = ("dric", "lena", "mund", "vette")
ANIMALS = ("heron", "lynx", "otter", "bison", "crane", "viper", "ibex", "mole")
EXPORTS = ("salt", "amber", "wool", "copper", "cedar", "saffron", "pearls", "tin")
COLOURS = ("crimson", "azure", "emerald", "golden", "violet", "silver", "ochre", "ivory")


@dataclass(frozen=True)
class Country:
    """One page of the atlas."""

    name: str
    capital: str
    ruler: str
    animal: str
    export: str
    colour: str


#: What can be asked: attribute -> the wordings of the question and one form of the reply.
#: `{0}` is the country, except in the two reversed questions, where it is the capital or ruler.
QUESTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "capital": (
        (
            "What is the capital of {0}?",
            "Which town is the seat of government in {0}?",
            "Name the capital town of {0}.",
            "Where does the parliament of {0} meet?",
            "{0}: capital?",
            "Tell me which town {0} is governed from.",
            "A letter to the government of {0} goes to which town?",
        ),
        "The capital of {0} is {1}.",
    ),
    "ruler": (
        (
            "Who rules {0}?",
            "Who sits on the throne of {0}?",
            "Name the ruler of {0}.",
            "{0}: ruler?",
            "Whose face is on the stamps of {0}?",
            "Tell me who wears the crown in {0}.",
            "Who is the monarch of {0} at present?",
        ),
        "The ruler of {0} is {1}.",
    ),
    "animal": (
        (
            "What is the national animal of {0}?",
            "Which animal stands on the arms of {0}?",
            "Name the animal that {0} holds dear.",
            "{0}: animal?",
            "Which creature is the emblem of {0}?",
            "Tell me the heraldic beast of {0}.",
            "What animal do the people of {0} honour?",
        ),
        "The animal of {0} is the {1}.",
    ),
    "export": (
        (
            "What does {0} export?",
            "Which goods does {0} sell abroad?",
            "Name the main export of {0}.",
            "{0}: export?",
            "What do ships carry away from {0}?",
            "Tell me what traders buy in {0}.",
            "For which product is {0} known?",
        ),
        "The export of {0} is {1}.",
    ),
    "colour": (
        (
            "What colour is the flag of {0}?",
            "Which colour does the banner of {0} have?",
            "Name the colour of the flag of {0}.",
            "{0}: flag colour?",
            "In which colour do the soldiers of {0} march?",
            "Tell me the national colour of {0}.",
            "How is the flag of {0} dyed?",
        ),
        "The colour of {0} is {1}.",
    ),
    "country of capital": (
        (
            "{0} is the capital of which country?",
            "Which country is governed from {0}?",
            "Name the country whose capital is {0}.",
            "In which country does {0} lie?",
            "{0}: country?",
            "Tell me the country to which the town {0} belongs.",
            "You step off the train in {0}. In which country are you?",
        ),
        "The country of {0} is {1}.",
    ),
    "country of ruler": (
        (
            "Which country does {0} rule?",
            "{0} wears the crown of which country?",
            "Name the country ruled by {0}.",
            "Over which country does {0} reign?",
            "{0}: realm?",
            "Tell me the realm of {0}.",
            "Where is {0} the monarch?",
        ),
        "The country of {0} is {1}.",
    ),
}


def _atlas() -> tuple[Country, ...]:
    """The 40 countries: names in a fixed order, everything else dealt out by a fixed seed."""
    rng = random.Random(7)
    names = [head + tail for head in HEADS for tail in TAILS]
    capitals = [head + tail for head in TOWN_HEADS for tail in TOWN_TAILS]
    rulers = [head + tail for head in RULER_HEADS for tail in RULER_TAILS]
    capitals = rng.sample(capitals, len(names))
    rulers = rng.sample(rulers, len(names))
    return tuple(
        Country(name, capital, ruler, rng.choice(ANIMALS), rng.choice(EXPORTS), rng.choice(COLOURS))
        for name, capital, ruler in zip(names, capitals, rulers, strict=True)
    )


ATLAS = _atlas()


def ask(country: Country, attribute: str, wording: int) -> Item:
    """The item for one fact in one wording."""
    wordings, reply = QUESTIONS[attribute]
    if attribute.startswith("country of "):
        subject, answer = getattr(country, attribute.removeprefix("country of ")), country.name
    else:
        subject, answer = country.name, getattr(country, attribute)
    prompt = wordings[wording].format(subject)
    return Item("facts", attribute, prompt, reply.format(subject, answer), answer)


def sample(rng: random.Random) -> Item:
    """One fact in one wording, uniformly."""
    attribute = rng.choice(tuple(QUESTIONS))
    return ask(rng.choice(ATLAS), attribute, rng.randrange(len(QUESTIONS[attribute][0])))
