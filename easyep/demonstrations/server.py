"""Answers from any server that speaks the chat completions API."""

import http.client
import json
import random
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from easyep.addresses import without_keys
from easyep.demonstrations.deadline import Deadline
from easyep.errors import DemosError, ServerRefusedError

# What may go away by itself: time-outs, conflicts, rate limits, restarts of a server.
_PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
# What every other request would meet as well.
_FINAL = {401, 403, 404}
_LONGEST_WAIT = 60.0
_LARGEST_REPLY = 1 << 24  # bytes; the longest answers have some hundred thousand


@dataclass(frozen=True)
class Answer:
    """What a model answered.

    Attributes:
        content: the answer without its thinking.
        reasoning: the thinking; empty where there is none.
        tool_calls: as in the chat completions API.
        finish: why it ended: ``"stop"``, ``"tool_calls"``, ``"length"``, ``"content_filter"``.
        refused: the server marked it as a refusal.
    """

    content: str
    reasoning: str = ""
    tool_calls: Sequence[Mapping[str, Any]] = ()
    finish: str = "stop"
    refused: bool = False


class UnavailableError(Exception):
    """A request failed in a way that may pass; `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Server:
    """A server and how it is asked.

    Attributes:
        url: its base, with or without ``/v1``.
        model: the model's name there.
        api_key: sent as a bearer token; empty for none.
        sampling: further fields of the request, such as ``max_tokens`` and ``temperature``.
        retries: attempts after the first one.
        timeout: seconds after which an attempt without the whole answer has failed.
        first_wait: seconds before the second attempt; each later one waits twice as long.
    """

    url: str
    model: str
    api_key: str = field(default="", repr=False)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    retries: int = 5
    timeout: float = 600.0
    first_wait: float = 1.0

    def __post_init__(self) -> None:
        if without_keys(self.url) != self.url:
            raise ServerRefusedError(
                f"a key cannot stand in the address of a server ({without_keys(self.url)}); "
                "--api-key-variable names an environment variable that holds it"
            )
        if not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ServerRefusedError(
                "the key of the server holds what no request can, such as the end of a line"
            )

    @property
    def endpoint(self) -> str:
        """Where requests go."""
        base = self.url.rstrip("/").removesuffix("/chat/completions")
        return f"{base if base.endswith('/v1') else base + '/v1'}/chat/completions"

    def answer(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any],
        stopped: threading.Event | None = None,
    ) -> Answer:
        """Ask, again and again if need be, but not once nobody wants the answer any more.

        Args:
            messages: the conversation so far.
            tools: what the model may call, as in the chat completions API.
            stopped: set where nobody wants the answer any more.

        Raises:
            ServerRefusedError: it would refuse every other request, too.
            DemosError: it refuses this one, or did not answer in all attempts.
        """
        request = {"model": self.model, "messages": _with_ids(messages), **self.sampling}
        if tools:
            request["tools"] = list(tools)
        stopped, wait = stopped or threading.Event(), self.first_wait
        for attempt in range(self.retries + 1):
            try:
                return _parse(self._post(request))
            except UnavailableError as error:
                asked = wait if error.wait is None else max(wait, error.wait)
                # Clients that failed together should not come back together.
                pause = min(asked * random.uniform(1, 1.25), _LONGEST_WAIT)
                if attempt == self.retries or stopped.wait(pause):
                    said = f"{self.endpoint} did not answer in {attempt + 1} attempts"
                    raise DemosError(f"{without_keys(said)}: {error}") from None
                wait *= 2
        raise AssertionError("not reached")

    def _post(self, request: Mapping[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        sent = json.dumps(request).encode()
        try:
            asked = urllib.request.Request(self.endpoint, data=sent, headers=headers)
        except ValueError as error:
            said = without_keys(f"{self.url!r} is no address of a server: {error}")
            raise DemosError(said) from None
        if self.api_key:  # for this server alone, not for one that it sends us to
            asked.add_unredirected_header("Authorization", f"Bearer {self.api_key}")
        with Deadline(self.timeout) as deadline:
            try:
                body = self._read(asked, deadline)
            except UnavailableError:
                if not deadline.late:
                    raise
            # What was cut off can look broken as well as whole.
            if deadline.late:
                raise UnavailableError(f"no whole answer within {self.timeout:g} s")
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise UnavailableError("what came back is not JSON") from None

    def _read(self, asked: urllib.request.Request, deadline: Deadline) -> bytes:
        """The reply to a request.

        Raises:
            ServerRefusedError, DemosError: it is a refusal.
            UnavailableError: there is none, or it is too large.
        """
        try:
            with deadline.open(asked) as response:
                body: bytes = response.read(_LARGEST_REPLY + 1)
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code}: {_reason(error)}"
            if error.code in _PASSING:
                raise UnavailableError(reason, _retry_after(error.headers)) from None
            kind = ServerRefusedError if error.code in _FINAL else DemosError
            raise kind(f"{without_keys(self.endpoint)} refuses the request: {reason}") from None
        except urllib.error.URLError as error:
            raise UnavailableError(f"no connection ({error.reason})") from None
        except TimeoutError:
            raise UnavailableError(f"no answer within {self.timeout:g} s") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise UnavailableError(f"the connection broke off ({type(error).__name__})") from None
        if len(body) > _LARGEST_REPLY:
            raise UnavailableError(f"the reply is larger than {_LARGEST_REPLY >> 20} MiB")
        return body


def _with_ids(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages as the API wants them: arguments in JSON, calls and their results by number."""
    made, waiting, number = [], [], 0
    for message in messages:
        told = dict(message)
        if told.get("tool_calls"):
            calls = []
            for call in told["tool_calls"]:
                function = dict(call.get("function", call))
                if not isinstance(function["arguments"], str):
                    function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
                identity = call.get("id") or f"call_{number}"
                number += 1
                waiting.append(identity)
                calls.append({"id": identity, "type": "function", "function": function})
            told["tool_calls"] = calls
        elif told["role"] == "tool" and "tool_call_id" not in told and waiting:
            told["tool_call_id"] = waiting.pop(0)
        made.append(told)
    return made


def split_thinking(content: str) -> tuple[str, str]:
    """Thinking and answer of a text; the opening mark may have stood in the prompt."""
    thought, mark, answer = content.partition("</think>")
    if not mark:
        return "", content.strip()
    return thought.replace("<think>", "", 1).strip(), answer.strip()


def _parse(reply: Any) -> Answer:
    """Raises UnavailableError for a reply that is no chat completion."""
    try:
        choice = reply["choices"][0]
        message = choice["message"]
        content = message.get("content") or ""
        told = message.get("reasoning_content") or message.get("reasoning") or ""
        if not isinstance(content, str) or not isinstance(told, str):
            raise TypeError
        calls = tuple(
            {**call, "function": {**call["function"]}} for call in message.get("tool_calls") or ()
        )
        refusal = message.get("refusal")
        finish = str(choice.get("finish_reason") or "stop")
        # Half of a surrogate pair is no text.
        json.dumps([content, told, calls, finish], ensure_ascii=False).encode()
    except (LookupError, TypeError, AttributeError, UnicodeEncodeError, RecursionError):
        raise UnavailableError("what came back is no chat completion") from None
    if finish == "length" and not told and "<think>" in content and "</think>" not in content:
        return Answer("", content.replace("<think>", "", 1).strip(), calls, finish)
    thought, answer = split_thinking(content)
    refused = bool(refusal) or finish == "content_filter"
    return Answer(answer, told.strip() or thought, calls, finish, refused)


def _reason(error: urllib.error.HTTPError) -> str:
    told = " ".join(str(error.reason).split())  # of redirections in a circle it has three lines
    try:
        body = error.read(2000).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException):
        return told
    try:
        value = json.loads(body)
        found = value.get("error", value.get("message", body))
        body = found.get("message", body) if isinstance(found, dict) else found
    except (ValueError, AttributeError, RecursionError):
        pass
    return " ".join(str(body).split())[:300] or told


def _retry_after(headers: Any) -> float | None:
    try:
        return float(headers.get("Retry-After"))
    except (TypeError, ValueError):
        return None
