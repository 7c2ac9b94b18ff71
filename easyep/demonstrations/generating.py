"""The model's own answers to prompts: asked for concurrently, resumed, checked, and sorted out."""

import hashlib
import json
import os
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyep.artifacts import Demo
from easyep.demonstrations import checks
from easyep.demonstrations.server import Answer
from easyep.errors import DemosError, EasyEPError, OutputError, ServerRefusedError
from easyep.progress import SILENT, Progress

# Messages, tools, and an event that is set where nobody wants the answer any more.
Ask = Callable[[Sequence[Mapping[str, Any]], Sequence[Any], threading.Event], Answer]
_Job = tuple[str, Sequence[Mapping[str, Any]], Sequence[Any]]
KEPT = "kept"
# Why an answer is left out. What failed is asked again when the command is repeated.
LEFT_OUT = ("truncated", "refused", "empty", "wrong", "failed")


@dataclass(frozen=True)
class Generated:
    """What came of a set of prompts.

    Attributes:
        lines: the demonstrations that were kept, in the order of their prompts.
        counts: how many answers are ``"kept"`` and how many left out, by reason.
        failure: what the last request that failed said; empty if none did.
    """

    lines: tuple[dict[str, Any], ...]
    counts: Mapping[str, int]
    failure: str = ""


def prompt_messages(demo: Demo) -> list[dict[str, Any]]:
    """What the model is asked: a demonstration without its last answer.

    Raises:
        DemosError: the demonstration has no messages and no prompt.
    """
    content = demo.content
    if "messages" in content:
        messages = [dict(message) for message in content["messages"]]
        while messages and messages[-1]["role"] == "assistant":
            messages.pop()
        if not messages:
            raise DemosError(f"{demo.origin}: there is nothing to answer")
        # Servers know no thinking of earlier turns; templates would drop it.
        return [
            {k: v for k, v in message.items() if k != "reasoning_content"} for message in messages
        ]
    if "prompt" in content or "text" in content:
        return [{"role": "user", "content": content.get("prompt", content.get("text"))}]
    raise DemosError(f"{demo.origin}: token ids cannot be sent to a server; give messages")


def generate(
    demos: Sequence[Demo],
    ask: Ask,
    journal: str | os.PathLike[str],
    *,
    settings: str = "",
    concurrency: int = 8,
    check: bool = False,
    run_programs: bool = False,
    progress: Progress = SILENT,
) -> Generated:
    """Ask for the answer to each prompt and keep those that are whole and, if asked, right.

    Args:
        demos: whose last answers are replaced, or that have none yet.
        ask: called from `concurrency` threads.
        journal: a file to which each answer is written as it comes; what it has is not asked
            again.
        settings: tells apart answers of different models or sampling in one journal.
        concurrency: how many questions are under way at once.
        check: leave out answers that fail the `check` of their demonstration.
        run_programs: do so also where that runs a program of the answer, on this machine.
        progress: hears of each answer.

    Raises:
        ServerRefusedError: the server would refuse every request.
        DemosError: there was no answer to any prompt, or a check needs `run_programs`.
    """
    if check and not run_programs:
        refuse_programs(demos)
    prompts = [prompt_messages(demo) for demo in demos]
    keys = [_key(p, d, settings) for p, d in zip(prompts, demos, strict=True)]
    record = _Journal(Path(journal))
    missing = {k: i for i, k in enumerate(keys) if k not in record.answers}
    failure = ""
    with progress.task("Asking", len(demos), "prompts") as task:
        task.advance(len(demos) - len(missing))
        jobs = [(k, prompts[i], demos[i].content.get("tools") or ()) for k, i in missing.items()]
        for key, result in _answers(ask, jobs, concurrency):
            if isinstance(result, Answer):
                record.add(key, result)
            elif isinstance(result, EasyEPError) and not isinstance(result, ServerRefusedError):
                failure = str(result)
            else:
                raise result
            task.advance()
    lines, counts = [], Counter[str]()
    for demo, prompt, key in zip(demos, prompts, keys, strict=True):
        answer = record.answers.get(key)
        line = {} if answer is None else _line(demo, prompt, answer)
        state = "failed" if answer is None else _state(demo, answer, line, check)
        counts[state] += 1
        if state == KEPT:
            lines.append(line)
    if failure and counts["failed"] == len(demos):
        raise DemosError(failure)
    return Generated(tuple(lines), dict(counts), failure)


def refuse_programs(demos: Sequence[Demo]) -> None:
    """Raises DemosError if checking answers to these prompts runs programs."""
    if count := sum(checks.runs_program(demo.metadata.get("check")) for demo in demos):
        raise DemosError(
            f"answers to {count} of {len(demos)} prompts are checked by running programs that the "
            "model writes; --run-programs (run_programs) allows that on this machine"
        )


def _answers(
    ask: Ask, jobs: Sequence[_Job], concurrency: int
) -> Iterator[tuple[str, Answer | BaseException]]:
    """Keys and answers, or what was raised instead, in the order in which they come."""
    todo: queue.SimpleQueue[_Job] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[str, Answer | BaseException]] = queue.SimpleQueue()
    stopped = threading.Event()
    for job in jobs:
        todo.put(job)

    def work() -> None:
        while not stopped.is_set():
            try:
                key, prompt, tools = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((key, ask(prompt, tools, stopped)))
            except BaseException as error:
                done.put((key, error))

    # Daemons: who interrupts the command does not wait for answers that are under way.
    for _ in range(min(concurrency, len(jobs))):
        threading.Thread(target=work, name="asking", daemon=True).start()
    try:
        for _ in jobs:
            yield done.get()
    finally:
        stopped.set()


def _state(demo: Demo, answer: Answer, line: Mapping[str, Any], check: bool) -> str:
    if answer.refused:
        return "refused"
    if answer.finish == "length":
        return "truncated"
    if not answer.content and not answer.tool_calls:
        return "empty"
    try:
        Demo.from_json(line)
    except DemosError:  # such as tool calls with arguments that are not JSON
        return "wrong"
    spec = line.get("check")
    if check and isinstance(spec, Mapping) and spec.get("kind") in checks.KINDS:
        try:
            return "wrong" if checks.check(answer.content, spec) else KEPT
        except DemosError as error:
            raise DemosError(f"{demo.origin}: {error}") from None
    return KEPT


def _line(demo: Demo, prompt: Sequence[Mapping[str, Any]], answer: Answer) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": "assistant", "content": answer.content or None}
    if answer.reasoning:
        turn["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        turn["tool_calls"] = [dict(call) for call in answer.tool_calls]
    line: dict[str, Any] = {"messages": [*map(dict, prompt), turn]}
    if demo.content.get("tools"):
        line["tools"] = demo.content["tools"]
    return line | {k: v for k, v in demo.metadata.items() if k not in line}


def _key(prompt: Sequence[Mapping[str, Any]], demo: Demo, settings: str) -> str:
    asked = [prompt, demo.content.get("tools"), settings]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:24]


class _Journal:
    """Answers by key, in a file that is only ever appended to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._whole = True
        self.answers: dict[str, Answer] = dict(self._read())

    def add(self, key: str, answer: Answer) -> None:
        line = json.dumps({"key": key, **vars(answer)}, ensure_ascii=False)
        with self._lock:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with open(self._path, "a", encoding="utf-8") as file:
                    file.write(("" if self._whole else "\n") + line + "\n")
                    self._whole = True
            except OSError as error:
                raise OutputError(f"{self._path} cannot be written: {error}") from None
            self.answers[key] = answer

    def _read(self) -> Iterator[tuple[str, Answer]]:
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            raise OutputError(f"{self._path} cannot be read: {error}") from None
        self._whole = text.endswith("\n") or not text
        for line in text.split("\n"):  # JSON holds other ends of lines as they are
            # The last line of a run that was killed may be incomplete: it is asked again.
            try:
                value = json.loads(line)
                json.dumps(value, ensure_ascii=False).encode()  # half of a character is no text
                yield str(value.pop("key")), _answer(value)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                continue


def _answer(value: Mapping[str, Any]) -> Answer:
    """Raises TypeError where a line of the journal was changed by another hand."""
    answer = Answer(**value)
    words = (answer.content, answer.reasoning, answer.finish)
    calls = answer.tool_calls
    if not all(isinstance(each, str) for each in words) or not isinstance(calls, list):
        raise TypeError
    for call in calls:
        if not isinstance(call, Mapping):
            raise TypeError
    return answer
