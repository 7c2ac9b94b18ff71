"""Domain `tools`: a spoken request becomes one JSON call of a tool."""

from __future__ import annotations

import json
import random

from easyep.demo_model.items import Item

ROOMS = ("kitchen", "hall", "garage", "attic", "bedroom", "office", "cellar", "porch")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
CONTACTS = ("Otto", "Petra", "Quinn", "Rosa", "Sven", "Tilda", "Uma", "Viktor")
CITIES = ("Rome", "Lima", "Oslo", "Cairo", "Delhi", "Quito", "Paris", "Seoul")
MESSAGES = ("on my way", "call me back", "dinner is ready", "running late", "see you soon")
LABELS = ("tea", "laundry", "pasta", "nap", "workout", "oven")
SONGS = ("jazz", "polka", "opera", "techno", "blues", "folk")


def sample(rng: random.Random) -> Item:
    """One request, drawn uniformly from the tools."""
    kinds = (_light, _timer, _message, _weather, _thermostat, _calendar, _music, _train)
    return rng.choice(kinds)(rng)


def _item(prompts: tuple[str, ...], rng: random.Random, tool: str, **args: str | int) -> Item:
    call = json.dumps({"tool": tool, "args": args})
    return Item("tools", tool, rng.choice(prompts).format(**args), call, call)


def _light(rng: random.Random) -> Item:
    prompts = (
        "Please dim the {room} lamp to {level} percent.",
        "Put the {room} lights at {level} percent, please.",
        "I want {level} percent light in the {room}.",
    )
    return _item(prompts, rng, "light", room=rng.choice(ROOMS), level=rng.randrange(1, 100))


def _timer(rng: random.Random) -> Item:
    prompts = (
        "Please set a {label} timer for {minutes} minutes.",
        "Remind me about the {label} in {minutes} minutes.",
        "Start {minutes} minutes on the clock for {label}.",
    )
    return _item(prompts, rng, "timer", label=rng.choice(LABELS), minutes=rng.randrange(1, 100))


def _message(rng: random.Random) -> Item:
    prompts = (
        "Please text {to} that says: {text}.",
        "Send {to} a message: {text}.",
        "Write {text} to {to}.",
        "Let {to} know: {text}.",
        "Message for {to}, {text}.",
    )
    return _item(prompts, rng, "message", to=rng.choice(CONTACTS), text=rng.choice(MESSAGES))


def _weather(rng: random.Random) -> Item:
    prompts = (
        "Please check the weather in {city} on {day}.",
        "Will it rain in {city} on {day}?",
        "Forecast for {day} in {city}, please.",
        "Do I need a coat in {city} this {day}?",
    )
    return _item(prompts, rng, "weather", city=rng.choice(CITIES), day=rng.choice(DAYS))


def _thermostat(rng: random.Random) -> Item:
    prompts = (
        "Please heat the {room} to {degrees} degrees from {hour} o'clock.",
        "From {hour} o'clock the {room} should be at {degrees} degrees.",
        "Make the {room} {degrees} degrees warm at {hour} o'clock.",
    )
    return _item(
        prompts,
        rng,
        "thermostat",
        room=rng.choice(ROOMS),
        degrees=rng.randrange(12, 30),
        hour=rng.randrange(1, 24),
    )


def _calendar(rng: random.Random) -> Item:
    prompts = (
        "Please book a meeting with {guest} on {day} at {hour} o'clock.",
        "Meet {guest} on {day}, {hour} o'clock. Put it in my calendar.",
        "On {day} at {hour} o'clock I see {guest}, please note.",
    )
    return _item(
        prompts,
        rng,
        "calendar",
        guest=rng.choice(CONTACTS),
        day=rng.choice(DAYS),
        hour=rng.randrange(1, 24),
    )


def _music(rng: random.Random) -> Item:
    prompts = (
        "Please play {genre} in the {room} at volume {volume}.",
        "Some {genre} for the {room}, volume {volume}.",
        "Volume {volume}, {genre}, {room} speakers.",
    )
    return _item(
        prompts,
        rng,
        "music",
        genre=rng.choice(SONGS),
        room=rng.choice(ROOMS),
        volume=rng.randrange(1, 12),
    )


def _train(rng: random.Random) -> Item:
    prompts = (
        "Please get {seats} train seats to {city} for {day}.",
        "Reserve {seats} seats on the {day} train to {city}.",
        "We are {seats} people taking the train to {city} on {day}.",
    )
    return _item(
        prompts,
        rng,
        "train",
        city=rng.choice(CITIES),
        day=rng.choice(DAYS),
        seats=rng.randrange(1, 10),
    )
