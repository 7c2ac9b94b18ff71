"""What a file of demonstrations suffers from: duplicates, gaps, leaks, imbalance."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from easyep import resources
from easyep.artifacts import Demo
from easyep.demonstrations import checks
from easyep.errors import DemosError, UnknownNameError

NEAR = 0.6  # share of common word 4-grams from which two prompts are near-duplicates
LEAK_WORDS = 13  # the length of a common run of words that counts as contamination (GPT-3's)

# A last line of prose, too long for a signature or a list item, that ends within a sentence.
_BROKEN = re.compile(r"(?:^|\n)(?![*|-]|\d+\.)[^\n]{60,}[a-z,]$")


@dataclass(frozen=True)
class Finding:
    """One thing to look at.

    Attributes:
        kind: ``"duplicate"``, ``"empty"``, ``"truncated"``, ``"wrong"``, ``"leak"`` or
            ``"imbalance"``.
        where: the file and line, or the file.
        what: a sentence.
    """

    kind: str
    where: str
    what: str


def prompt_of(demo: Demo) -> str:
    """What a demonstration asks: all turns that are not the assistant's, or the prompt."""
    content = demo.content
    if "messages" in content:
        turns = [m for m in content["messages"] if m["role"] in ("user", "tool")]
        return "\n".join(str(m.get("content") or "") for m in turns)
    return str(content.get("prompt", content.get("text", "")))


def answer_of(demo: Demo) -> str:
    """The last answer of a demonstration, without its thinking; empty where it has none."""
    content = demo.content
    if "messages" in content:
        last = content["messages"][-1]
        if last["role"] != "assistant":
            return ""
        text = str(last.get("content") or "")
    else:
        text = str(content.get("response", ""))
    return text.rpartition("</think>")[2].strip()


def inspect(
    demos: Sequence[Demo],
    against: Mapping[str, Iterable[str]] | None = None,
    *,
    run_programs: bool = False,
) -> list[Finding]:
    """Everything that is doubtful about the demonstrations of one file.

    Args:
        demos: of one domain.
        against: texts that must not be among them, such as evaluation items, by a name for them.
        run_programs: do checks that run programs of the answers, on this machine.
    """
    findings = [f for demo in demos for f in _alone(demo, run_programs)]
    findings += near_duplicates(demos)
    for name, texts in (against or {}).items():
        findings += leaks(demos, name, texts)
    return findings + _imbalance(demos)


def near_duplicates(demos: Sequence[Demo]) -> list[Finding]:
    """Pairs whose prompts share most of their word 4-grams (Jaccard index of at least `NEAR`)."""
    grams = [_grams(prompt_of(demo), 4) for demo in demos]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    findings = []
    for i, mine in enumerate(grams):
        common = Counter(j for gram in mine for j in holders[gram])
        for j, shared in common.items():
            share = shared / len(mine | grams[j])
            if share >= NEAR:
                what = f"its prompt shares {share:.0%} of its phrases with {demos[j].origin}"
                findings.append(Finding("duplicate", demos[i].origin, what))
        for gram in mine:
            holders[gram].append(i)
    return findings


def leaks(demos: Sequence[Demo], name: str, texts: Iterable[str]) -> list[Finding]:
    """Demonstrations that share a run of `LEAK_WORDS` words with one of the texts.

    A text that is shorter than that leaks if it occurs as a whole.
    """
    shown = [(demo, _words(prompt_of(demo) + " " + answer_of(demo))) for demo in demos]
    runs: dict[int, dict[tuple[str, ...], list[Demo]]] = {}
    found: dict[str, Finding] = {}
    for text in texts:
        words = _words(text)
        n = min(LEAK_WORDS, len(words))
        if n < 4:
            continue
        if n not in runs:
            runs[n] = defaultdict(list)
            for demo, said in shown:
                for gram in _runs(said, n):
                    runs[n][gram].append(demo)
        for gram in _runs(words, n):
            for demo in runs[n].get(gram, ()):
                what = f"it shares {' '.join(gram)!r} with {name}"
                found.setdefault(demo.origin, Finding("leak", demo.origin, what))
    return list(found.values())


def own_items() -> list[str]:
    """The files of the evaluation items that come with easyep."""
    return [str(path) for path in sorted(resources.folder("eval/data").rglob("*.jsonl"))]


def texts_of(paths: Iterable[str]) -> dict[str, list[str]]:
    """The texts in files, by path: every string of a JSON line, or the line as it is.

    Raises:
        DemosError: a file cannot be read.
    """
    found = {}
    for path in paths:
        try:
            lines = Path(path).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DemosError(f"the file {path} cannot be read: {error}") from None
        found[path] = [text for line in lines if line.strip() for text in _strings(line)]
    return found


def _strings(line: str) -> list[str]:
    try:
        pending = [json.loads(line)]
    except (ValueError, RecursionError):
        return [line]
    texts = []
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list | dict):
            pending += list(value.values()) if isinstance(value, dict) else value
    return texts


def _alone(demo: Demo, run_programs: bool) -> list[Finding]:
    """What is doubtful about one demonstration by itself."""
    if "input_ids" in demo.content or "text" in demo.content:
        return []
    answer = answer_of(demo)
    if not answer:
        return [Finding("empty", demo.origin, "it has no answer")]
    findings = []
    if demo.metadata.get("finish_reason") == "length":
        findings.append(Finding("truncated", demo.origin, "its answer was cut at a length limit"))
    elif answer.count("```") % 2 or _BROKEN.search(answer):
        findings.append(Finding("truncated", demo.origin, "its answer seems to break off"))
    spec = demo.metadata.get("check")
    if checks.runs_program(spec) and not run_programs:
        return findings
    # Sessions are played again by the tests of the domains, not here: their setup is a script.
    if spec is not None and not (isinstance(spec, Mapping) and spec.get("kind") == "session"):
        try:
            if not isinstance(spec, Mapping):
                raise DemosError("'check' must be an object with a 'kind'")
            why = checks.check(answer, spec)
        except (DemosError, UnknownNameError) as error:
            why = f"it cannot be checked: {error}"
        if why:
            findings.append(Finding("wrong", demo.origin, why))
    return findings


def _imbalance(demos: Sequence[Demo]) -> list[Finding]:
    """A topic that makes up more than half; a demonstration that outweighs the rest."""
    if len(demos) < 5:
        return []
    where = demos[0].origin.rpartition(", line")[0]
    findings = []
    topics = Counter(str(d.metadata["topic"]) for d in demos if "topic" in d.metadata)
    if len(topics) > 1:
        name, most = topics.most_common(1)[0]
        if most > len(demos) / 2:
            what = f"{most} of {len(demos)} are of the topic {name!r}"
            findings.append(Finding("imbalance", where, what))
    sizes = [len(prompt_of(d)) + len(answer_of(d)) for d in demos]
    largest = max(range(len(sizes)), key=sizes.__getitem__)
    if sizes[largest] > sum(sizes) / 2:
        what = f"it holds {sizes[largest] / sum(sizes):.0%} of the text of the file"
        findings.append(Finding("imbalance", demos[largest].origin, what))
    return findings


def _words(text: str) -> list[str]:
    """Words in lower case; each character of a script without spaces is a word."""
    return re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]|[^\W_]+", text.lower())


def _runs(words: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(n)), strict=False)


def _grams(text: str, n: int) -> set[tuple[str, ...]]:
    """Runs of `n` words, or the whole of a shorter text; nothing of one without words."""
    words = _words(text)
    return set(_runs(words, n)) or ({tuple(words)} if words else set())
