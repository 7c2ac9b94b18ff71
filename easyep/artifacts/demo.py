"""A demonstration as somebody wrote it, and as a model reads it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from easyep.errors import DemosError

FORMS = (
    '{"messages": [{"role": ..., "content": ...}, ...]}, {"prompt": ..., "response": ...}, '
    '{"text": ...} or {"input_ids": [...], "response_start": N}'
)
# In this order: the first form whose keys are all there is the one that counts.
_FORMS = (("messages",), ("prompt", "response"), ("text",), ("input_ids",))


@dataclass(frozen=True)
class Demo:
    """One demonstration, in one of four forms (CONTRACT: one JSON object a line).

    Attributes:
        content: the keys of its form only.
        metadata: every other key of the object, kept as it was.
        origin: the file and line that it stood in, for messages.
    """

    content: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""

    @classmethod
    def from_json(cls, value: Any, origin: str = "") -> "Demo":
        """Raises DemosError, saying what is missing, where the value has none of the forms."""
        if not isinstance(value, Mapping):
            raise DemosError(f"expected a JSON object, found {type(value).__name__}")
        form = next((keys for keys in _FORMS if all(key in value for key in keys)), None)
        if form is None:
            found = ", ".join(map(repr, value))[:200] or "no keys"
            raise DemosError(f"none of the forms {FORMS} (found {found})")
        content = {key: value[key] for key in form}
        if form == ("messages",):
            content["messages"] = _messages(content["messages"])
            if value.get("tools") is not None:
                content["tools"] = value["tools"]
                _check_tools(content["tools"])
        elif form == ("input_ids",):
            if "response_start" in value:
                content["response_start"] = value["response_start"]
            _check_ids(content["input_ids"], content.get("response_start", 0))
        elif any(not isinstance(content[key], str) for key in form):
            raise DemosError(f"{' and '.join(map(repr, form))} must be a string")
        if not content[form[0]]:
            raise DemosError("the demonstration is empty")
        return cls(content, {k: item for k, item in value.items() if k not in content}, origin)


@dataclass(frozen=True)
class TokenSequence:
    """A demonstration as a model reads it.

    Attributes:
        input_ids: int64 [T].
        is_response: bool [T], true for the tokens that the model itself is to produce.
        cut: tokens at the end that were left out because the whole was too long.
    """

    input_ids: npt.NDArray[np.int64]
    is_response: npt.NDArray[np.bool_]
    cut: int = 0

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def sha256(self) -> str:
        """A hash of the token ids and the response mask."""
        ids = np.ascontiguousarray(self.input_ids, dtype="<i8").tobytes()
        return hashlib.sha256(ids + self.is_response.astype(np.uint8).tobytes()).hexdigest()


def _messages(messages: Any) -> list[dict[str, Any]]:
    """Checked messages, the text parts of a content joined."""
    if not isinstance(messages, list):
        raise DemosError("'messages' must be a list")
    made = []
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise DemosError(f"message {i + 1} must be an object with 'role' and 'content'")
        if message.get("content") is None and not message.get("tool_calls"):
            raise DemosError(f"message {i + 1} ({message['role']}) has no 'content'")
        if not isinstance(message.get("reasoning_content", ""), str | None):
            raise DemosError(f"the 'reasoning_content' of message {i + 1} must be a string")
        _check_calls(message.get("tool_calls"), i + 1)
        made.append({**message, **_joined(message, i + 1)})
    return made


def _joined(message: Mapping[str, Any], number: int) -> dict[str, str]:
    content = message.get("content")
    if content is None:
        return {}
    if isinstance(content, list) and all(
        isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in content
    ):
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise DemosError(f"the 'content' of message {number} must be text, or a list of text parts")
    return {"content": content}


def _check_calls(calls: Any, number: int) -> None:
    if not isinstance(calls, list | None):
        raise DemosError(f"the 'tool_calls' of message {number} must be a list")
    for call in calls or ():
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise DemosError(f"a tool call of message {number} has no function with a 'name'")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                raise DemosError(
                    f"the arguments of a tool call of message {number} are not valid JSON"
                ) from None
        if not isinstance(arguments, Mapping):
            raise DemosError(
                f"the arguments of a tool call of message {number} must be a JSON object"
            )


def _check_tools(tools: Any) -> None:
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise DemosError("'tools' must be a list of objects")


def _check_ids(ids: Any, start: Any) -> None:
    if not isinstance(ids, list) or any(type(i) is not int or i < 0 for i in ids):
        raise DemosError("'input_ids' must be a list of non-negative integers")
    if type(start) is not int or not 0 <= start <= len(ids):
        raise DemosError(f"'response_start' must be an integer from 0 to {len(ids)}")
