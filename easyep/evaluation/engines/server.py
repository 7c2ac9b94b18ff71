"""Any server with OpenAI's completions API, under load, over the network."""

import asyncio
import json
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from easyep import loading
from easyep.addresses import without_keys
from easyep.errors import EvaluationError, MissingDependencyError, first_line
from easyep.evaluation.engines.settings import EngineSettings, open_entries
from easyep.evaluation.throughput.timing import RequestTiming

T = TypeVar("T")

# Answers to a request that the server cannot understand: prompts of token ids, mostly.
_NOT_UNDERSTOOD = (400, 422, 500)
# What a server may send, in bytes and lines, before it counts as one without an end.
_LONGEST_REFUSAL, _LARGEST_LIST, _MOST_LINES = 10_000, 1 << 24, 10_000


class Server:
    """Opens connections to a server that is running already."""

    takes = frozenset({"base_url", "served_model_name", "extra_body", "trust_remote_code"})

    def open(self, model: str, settings: EngineSettings) -> "ServerSession":
        """Greet the server; `model` is the checkpoint that it serves, for its tokenizer.

        Raises:
            MissingDependencyError: aiohttp is not installed.
            EvaluationError: no address is given, or nobody answers there.
        """
        try:
            import aiohttp
        except ImportError as error:
            raise MissingDependencyError(
                f"measuring a server needs aiohttp ({error}): pip install 'easyep[bench]'"
            ) from None
        return ServerSession(aiohttp, model, settings)


class ServerSession:
    """A server; greedy, answers of fixed length, requests all at once or one by one.

    Prompts go as token ids where the server takes them, else as the text that the ids decode to,
    whose length in tokens is about, not exactly, what was asked for.
    """

    def __init__(self, aiohttp: Any, model: str, settings: EngineSettings) -> None:
        if not settings.base_url:
            raise EvaluationError(
                "the backend openai measures a running server: give its address, such as "
                "--base-url http://localhost:8000"
            )
        self._aiohttp, self._path, self._settings = aiohttp, Path(model), settings
        base = settings.base_url.rstrip("/")
        self._base = base if base.endswith("/v1") else f"{base}/v1"
        self._shown = without_keys(self._base)
        self._headers = {"Accept": "text/event-stream"}
        if settings.api_key and self._shown == self._base:  # else the address brings a key
            self._headers["Authorization"] = f"Bearer {settings.api_key}"
        self._tokenizer: Any = None
        self._model = settings.served_model_name or _finished(self._first_model())
        # Token ids first: they are as long as was asked for. One token more than one, to see that
        # the server does stream.
        try:
            self._ask([[1, 2, 3]], 2, [0.0], 1)
            self.takes_ids = True
        except _NotUnderstoodError:
            self._tokenizer = loading.load_tokenizer(
                self._path, trust_remote_code=settings.trust_remote_code
            )
            self.takes_ids = False

    def generate(self, prompts: list[list[int]], output_len: int) -> list[RequestTiming]:
        """Answer prompts; see `Session.generate`."""
        return self.serve(prompts, output_len, [0.0] * len(prompts), len(prompts))

    def serve(
        self, prompts: list[list[int]], output_len: int, times: list[float], at_once: int
    ) -> list[RequestTiming]:
        """Answer prompts as they come; see `PacedSession.serve`."""
        asked: list[Any] = list(prompts)
        if not self.takes_ids:
            asked = [self._text(prompt) for prompt in prompts]
        return self._ask(asked, output_len, times, at_once)

    def _text(self, prompt: list[int]) -> str:
        """A text of about as many tokens: decoding and encoding again can give other ones."""
        text = str(self._tokenizer.decode(prompt))
        for _ in range(8):
            found = self._tokenizer.encode(text, add_special_tokens=False)
            if len(found) == len(prompt):
                break
            missing = prompt[: max(0, len(prompt) - len(found))]
            text = str(self._tokenizer.decode(found[: len(prompt)] + missing))
        return text

    def peak_memory(self) -> int | None:
        return None

    def capacity(self, tokens: int) -> int | None:
        return None

    def describe(self) -> dict[str, Any]:
        return {
            "engine": "openai",
            "base_url": self._shown,
            "served_model_name": self._model,
            "prompts": "ids" if self.takes_ids else "text",
            "extra_body": open_entries(self._settings.extra_body),
        }

    def close(self) -> None:
        pass

    def _ask(
        self, prompts: list[Any], output_len: int, times: list[float], at_once: int
    ) -> list[RequestTiming]:
        async def together() -> list[RequestTiming]:
            room = asyncio.Semaphore(at_once)
            none = self._aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=600)
            pool = self._aiohttp.TCPConnector(limit=0)
            async with self._aiohttp.ClientSession(
                headers=self._headers, timeout=none, connector=pool
            ) as client:

                async def in_time(prompt: Any, seconds: float) -> RequestTiming:
                    await asyncio.sleep(seconds)
                    async with room:
                        return await self._one(client, prompt, output_len)

                tasks = [
                    asyncio.ensure_future(in_time(*each))
                    for each in zip(prompts, times, strict=True)
                ]
                try:
                    return list(await asyncio.gather(*tasks))
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)

        return _finished(together())

    async def _one(self, client: Any, prompt: Any, output_len: int) -> RequestTiming:
        body = {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": output_len,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "ignore_eos": True,  # vLLM, SGLang and llama-server know it
            **self._settings.extra_body,
        }
        times: list[float] = []
        told = _Told()
        sent = time.perf_counter()
        try:
            async with client.post(f"{self._base}/completions", json=body) as response:
                if response.status != 200:
                    said = await _beginning(response, _LONGEST_REFUSAL)
                    raise _refusal(self._shown, response.status, said)
                left = _MOST_LINES + 16 * output_len
                async for line in response.content:
                    left -= 1
                    if told.read(line, self._shown):
                        times.append(time.perf_counter())
                    if not left:
                        raise EvaluationError(f"{self._shown} streams an answer without an end")
        except (self._aiohttp.ClientError, OSError) as error:
            raise EvaluationError(
                f"{self._shown} broke off an answer ({type(error).__name__}: "
                f"{without_keys(str(error))})"
            ) from None
        except (ValueError, self._aiohttp.http_exceptions.HttpProcessingError):
            raise EvaluationError(f"{self._shown} streams a line without an end") from None
        return RequestTiming(sent, told.arrivals(times, output_len, self._shown))

    async def _first_model(self) -> str:
        try:
            async with (
                self._aiohttp.ClientSession(headers=self._headers) as client,
                client.get(f"{self._base}/models") as response,
            ):
                # Servers with many models list some thousand bytes for each.
                listed = json.loads(await _beginning(response, _LARGEST_LIST))
            return str(listed["data"][0]["id"])
        except (self._aiohttp.ClientError, OSError) as error:
            said = without_keys(first_line(error))
            raise EvaluationError(f"no server answers at {self._shown}: {said}") from None
        except (ValueError, LookupError, TypeError, RecursionError):
            raise EvaluationError(
                f"{self._shown}/models names no model; give --served-model-name"
            ) from None


def _finished(work: Coroutine[Any, Any, T]) -> T:
    """What `work` comes to; in a thread of its own where a loop runs already, as in notebooks."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


class _NotUnderstoodError(EvaluationError):
    """The server cannot read the request, which another form of prompt may change."""


class _Told:
    """What a stream of server-sent events said."""

    def __init__(self) -> None:
        self._tokens: int | None = None
        self._finish: str | None = None
        self._done = False

    def read(self, line: bytes, base: str) -> bool:
        """Take in a line; True if it brought a token.

        Raises:
            EvaluationError: it tells of an error, or is not what the API says.
        """
        text = line.strip()
        if not text.startswith(b"data:"):
            return False
        data = text.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            self._done = True
            return False
        try:
            event = json.loads(data)
            if "error" in event:
                raise EvaluationError(f"{base} failed: {event['error']}")
            if event.get("usage"):
                self._tokens = int(event["usage"]["completion_tokens"])
            if not event.get("choices"):
                return False
            choice = event["choices"][0]
            self._finish = choice.get("finish_reason") or self._finish
            # A token can be without text, as part of a letter; the end can be told of apart.
            return bool(choice.get("text")) or not choice.get("finish_reason")
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
            raise EvaluationError(
                f"{base} streams what is no completion: {data[:80].decode(errors='replace')!r}"
            ) from None

    def arrivals(
        self, times: list[float], output_len: int, base: str
    ) -> tuple[tuple[float, int], ...]:
        """When tokens came; an event brings one, or more where a letter has several tokens.

        Raises:
            EvaluationError: the answer is not as long as it was to be, or was cut off.
        """
        tokens = self._tokens
        if tokens is None and self._finish == "length":
            tokens = output_len  # that is what the reason means
        if not self._done and self._finish is None:
            raise EvaluationError(f"{base} ended an answer in the middle")
        if tokens != output_len:
            raise EvaluationError(
                f"{base} answered with {'some' if tokens is None else tokens} tokens, not "
                f"{output_len}: it does not know ignore_eos; forbid the end of sequence with "
                '--extra-body, such as \'{"logit_bias": {"2": -100}}\' where 2 is its id'
            )
        if not times:
            raise EvaluationError(f"{base} streamed no text in {output_len} tokens")
        each, more = divmod(tokens, len(times))
        if not each:  # one event more than tokens, such as what was held back at the end
            return (*((time, 1) for time in times[: tokens - 1]), (times[-1], 1))
        # Tokens without text of their own are told of by no event; they are spread evenly.
        return tuple((time, each + (i >= len(times) - more)) for i, time in enumerate(times))


async def _beginning(response: Any, most: int) -> str:
    """The first bytes of what a server sends, at most so many, as text."""
    body = b""
    while len(body) < most and (part := await response.content.read(most - len(body))):
        body += part
    return body.decode(errors="replace")


def _refusal(base: str, status: int, text: str) -> EvaluationError:
    kind = _NotUnderstoodError if status in _NOT_UNDERSTOOD else EvaluationError
    said = " ".join(text.split())[:300]
    return kind(f"{base} refuses the request: HTTP {status}: {said or 'no reason given'}")
