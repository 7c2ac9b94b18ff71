"""The table of what comes with easyep, for `calibration_data/README.md`."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from easyep.demonstrations.domains import domain_file, domains
from easyep.demonstrations.reading import read


@dataclass(frozen=True)
class Entry:
    """One domain.

    Attributes:
        name: of the domain.
        demos: how many demonstrations.
        topics: how many of each topic.
        difficulties: how many of each difficulty.
        languages: how many of each language.
        thinking: demonstrations whose answers have a thinking part.
        checked: demonstrations whose answers are checked by code.
        characters: of everything that is shown, thinking included.
        sha256: of the file.
    """

    name: str
    demos: int
    topics: Counter[str]
    difficulties: Counter[str]
    languages: Counter[str]
    thinking: int
    checked: int
    characters: int
    sha256: str


def entry(name: str) -> Entry:
    """What there is to say about a domain without a model."""
    path = domain_file(name)
    demos = read(path)

    def counted(key: str) -> Counter[str]:
        return Counter(str(demo.metadata.get(key, "-")) for demo in demos)

    messages = [demo.content["messages"] for demo in demos]
    checked = sum("check" in d.metadata or bool(d.content.get("tools")) for d in demos)
    return Entry(
        name=name,
        demos=len(demos),
        topics=counted("topic"),
        difficulties=counted("difficulty"),
        languages=counted("language"),
        thinking=sum(any(m.get("reasoning_content") for m in turns) for turns in messages),
        checked=checked,
        characters=sum(
            len(str(m.get(key) or ""))
            for turns in messages
            for m in turns
            for key in ("content", "reasoning_content", "tool_calls")
        ),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def table(count: Callable[[str], dict[str, int]] | None = None) -> str:
    """The domains as Markdown.

    Args:
        count: the tokens of a domain with and without thinking, where a tokenizer is at hand.
    """
    columns = ["domain", "demos", "easy / medium / hard", "checked", "characters"]
    columns += ["tokens, thinking / plain"] if count else []
    lines = ["| " + " | ".join([*columns, "sha256"]) + " |"]
    lines.append("|" + "---|" + "---:|" * (len(columns) - 1) + "---|")
    for name in domains():
        found = entry(name)
        levels = " / ".join(str(found.difficulties[d]) for d in ("easy", "medium", "hard"))
        cells = [name, found.demos, levels, found.checked, f"{found.characters:,}"]
        if count:
            tokens = count(name)
            cells.append(f"{tokens['thinking']:,} / {tokens['plain']:,}")
        lines.append("| " + " | ".join([*map(str, cells), f"`{found.sha256}`"]) + " |")
    return "\n".join(lines)


def topics() -> str:
    """The topics of each domain as a Markdown list."""
    lines = []
    for name in domains():
        found = entry(name)
        listed = ", ".join(t if n == 1 else f"{t} ({n})" for t, n in sorted(found.topics.items()))
        spoken = ", ".join(f"{k} {n}" for k, n in sorted(found.languages.items()))
        lines.append(f"- **{name}** ({spoken}): {listed}")
    return "\n".join(lines)
