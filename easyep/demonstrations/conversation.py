"""The forms in which a conversation can be handed to a chat template.

Demonstrations hold messages as the chat completions API has them: the thinking of an answer in
`reasoning_content`, tool calls in `tool_calls`, the tools to call in `tools`. Templates differ in
what they know of that and in the types they expect, and most drop in silence what they do not
know.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

Style = Literal["auto", "thinking", "plain"]
STYLES: tuple[Style, ...] = ("auto", "thinking", "plain")

Message = dict[str, Any]
_KNOWS_THINKING = re.compile(r"think>|reasoning_content|enable_thinking|\bthinking\b")
_CALLING = (
    "You can use these tools, each described by a JSON schema:\n{tools}\n"
    "To use one, answer with nothing but a block of this form:\n"
    '```json\n{{"name": NAME, "arguments": {{...}}}}\n```\n'
    "The next message then holds what it returned."
)


def thinks(style: Style, template: str) -> bool:
    """Whether answers are shown with their thinking; ``"auto"``: if the template knows thinking."""
    return style == "thinking" or (style == "auto" and bool(_KNOWS_THINKING.search(template)))


def forms(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Any], thinking: bool
) -> Iterator[tuple[list[Message], dict[str, Any]]]:
    """Messages and template arguments to try, those that lose least first.

    Thinking is first given in a field of its own, then as ``<think>`` in the content; tool calls
    as objects, then with arguments in JSON, at last as text for templates that know no tools. What
    the system says goes into the first question of the user for templates without that role.
    """
    # What hybrid models call their switch; other templates ignore it.
    options: dict[str, Any] = {"enable_thinking": thinking, "thinking": thinking}
    thought = [dict(m) for m in messages] if thinking else [_plain(m) for m in messages]
    has_thoughts = any(m.get("reasoning_content") for m in thought)
    has_calls = bool(tools) or any(m.get("tool_calls") or m["role"] == "tool" for m in thought)
    for in_field in (True, False) if has_thoughts else (True,):
        told = _thoughts_in_field(thought) if in_field else _thoughts_in_content(thought)
        if not has_calls:
            yield told, options
            if told[0]["role"] == "system":
                yield _system_in_user(told), options
            continue
        for arguments in (_as_object, _as_json):
            for content in (None, ""):
                yield [_with_calls(m, arguments, content) for m in told], options | {"tools": tools}
    if has_calls:
        for in_field in (True, False) if has_thoughts else (True,):
            spoken = _calls_in_text(thought, tools)
            told = (_thoughts_in_field if in_field else _thoughts_in_content)(spoken)
            yield told, options
            if told[0]["role"] == "system":
                yield _system_in_user(told), options


def shows(text: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any]) -> bool:
    """Whether a rendering has what was asked, the tools and every call with its arguments."""
    for tool in tools:
        function = tool.get("function", tool)
        told = (str(function.get(key) or "") for key in ("name", "description"))
        if not all(_has(text, part.strip()) for part in told):
            return False
    for message in messages:
        if message["role"] in ("system", "user") and not _has(text, message["content"].strip()):
            return False
        for call in message.get("tool_calls") or ():
            function = call.get("function", call)
            arguments = _as_object(function["arguments"])
            if function["name"] not in text or not all(_has(text, v) for v in arguments.values()):
                return False
            # A template that printed a Python object instead of JSON.
            if repr(arguments) in text and repr(arguments) != _as_json(arguments):
                return False
        if message["role"] == "tool" and not _has(text, str(message["content"]).strip()):
            return False
    # Content that is null, printed by a template that expects text.
    return "None" not in text or "None" in json.dumps([*messages, *tools])


def pieces(message: Mapping[str, Any]) -> Iterator[list[str]]:
    """What an assistant's turn says after its thinking, in order; each with its possible forms."""
    if message.get("content"):
        yield [str(message["content"]).strip()]
    for call in message.get("tool_calls") or ():
        function = call.get("function", call)
        yield [function["name"]]
        for value in _as_object(function["arguments"]).values():
            yield written(value)


def last_thought(messages: Sequence[Mapping[str, Any]]) -> str:
    """The thinking of the last answer; empty where there is none."""
    return str(messages[-1].get("reasoning_content") or "").strip() if messages else ""


def _plain(message: Mapping[str, Any]) -> Message:
    made = {k: v for k, v in message.items() if k != "reasoning_content"}
    if made["role"] == "assistant" and isinstance(made.get("content"), str):
        before, _, opened = made["content"].partition("<think>")
        _, closed, after = opened.partition("</think>")
        if closed:
            made["content"] = before.rstrip() + after.lstrip()
    return made


def _thoughts_in_field(messages: Sequence[Message]) -> list[Message]:
    # gpt-oss calls the field `thinking`; whoever reads neither is noticed by what is missing.
    return [
        m | {"thinking": m["reasoning_content"]} if m.get("reasoning_content") else m
        for m in messages
    ]


def _thoughts_in_content(messages: Sequence[Message]) -> list[Message]:
    """Thinking belongs to the answer under way: earlier turns lose it, as in serving."""
    last_user = max((i for i, m in enumerate(messages) if m["role"] == "user"), default=-1)
    made = []
    for i, message in enumerate(messages):
        told = {k: v for k, v in message.items() if k != "reasoning_content"}
        thought = message.get("reasoning_content")
        if thought and i > last_user and not message.get("tool_calls"):
            answer = message.get("content") or ""
            told["content"] = f"<think>\n{thought.strip()}\n</think>\n\n{answer}"
        made.append(told)
    return made


def _with_calls(message: Message, arguments: Any, content: str | None) -> Message:
    if not message.get("tool_calls"):
        return message
    calls = []
    for call in message["tool_calls"]:
        function = call.get("function", call)
        written = {"name": function["name"], "arguments": arguments(function["arguments"])}
        calls.append({"type": "function", "id": call.get("id", ""), "function": written})
    return message | {"tool_calls": calls, "content": message.get("content") or content}


def _calls_in_text(messages: Sequence[Message], tools: Sequence[Any]) -> list[Message]:
    described = "\n".join(json.dumps(t.get("function", t), ensure_ascii=False) for t in tools)
    system = _CALLING.format(tools=described) if tools else ""
    made: list[Message] = []
    for message in messages:
        if message["role"] == "tool" and made and made[-1]["role"] == "user":
            # Results of several calls are one turn, for templates that want turns to alternate.
            made[-1] = made[-1] | {"content": f"{made[-1]['content']}\n{message['content']}"}
        elif message["role"] == "tool":
            made.append({"role": "user", "content": message["content"]})
        elif message.get("tool_calls"):
            functions = [call.get("function", call) for call in message["tool_calls"]]
            blocks = [
                {"name": f["name"], "arguments": _as_object(f["arguments"])} for f in functions
            ]
            parts = [message.get("content") or ""]
            parts += [f"```json\n{json.dumps(b, ensure_ascii=False)}\n```" for b in blocks]
            kept = {k: v for k, v in message.items() if k != "tool_calls"}
            made.append(kept | {"content": "\n".join(filter(None, parts))})
        else:
            made.append(message)
    if system and made and made[0]["role"] == "system":
        made[0] = made[0] | {"content": f"{made[0]['content']}\n\n{system}"}
    elif system:
        made.insert(0, {"role": "system", "content": system})
    return made


def _system_in_user(messages: Sequence[Message]) -> list[Message]:
    system, *rest = messages
    if not rest or rest[0]["role"] != "user":
        return list(messages)
    asked = f"{system['content']}\n\n{rest[0]['content']}"
    return [rest[0] | {"content": asked}, *rest[1:]]


def _as_object(arguments: Any) -> Any:
    return json.loads(arguments) if isinstance(arguments, str) else arguments


def _as_json(arguments: Any) -> str:
    if isinstance(arguments, str):
        return arguments
    return json.dumps(arguments, ensure_ascii=False)


def _has(text: str, value: Any) -> bool:
    return any(form in text for form in written(value))


def written(value: Any) -> list[str]:
    """How templates write a value: text as it is or as JSON, with or without escapes."""
    plain = [value] if isinstance(value, str) else []
    return [*plain, *(json.dumps(value, ensure_ascii=a) for a in (False, True))]
