"""A local server with OpenAI's completions API that streams, and misbehaves when asked to."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeServer(ThreadingHTTPServer):
    """Takes `prefill` seconds, then sends an event each `step` seconds.

    Attributes:
        fault: what it does wrong; empty = nothing.
        usage: whether it says how many tokens it made.
        per_event: tokens in an event.
        asked: the requests that it got.
        at_once: the most requests that were under way together.
    """

    daemon_threads = True
    fault = ""
    usage = True
    per_event = 1
    prefill = 0.05
    step = 0.02

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = 0
        self._under_way = 0
        self._lock = threading.Lock()

    def handle_error(self, *_: object) -> None:
        """Clients that turn away, as they should, are no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._under_way += 1
            self.at_once = max(self.at_once, self._under_way)
        yield
        with self._lock:
            self._under_way -= 1


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        fault = self.server.fault
        self._whole(200, {"data": [] if fault == "no models" else [{"id": "served"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.headers.append(dict(self.headers))
        fault = self.server.fault
        if fault == "ids" and not isinstance(body["prompt"], str):
            self._whole(422, {"detail": "prompt must be a string"})
        elif fault == "busy":
            self._whole(503, {"error": {"message": "overloaded"}})
        elif fault == "busy without end":
            self._endless(503, b"overloaded " * 1000)
        elif fault == "line without end":
            self._endless(200, b"data: " + b"[" * 65536)
        elif fault == "answer without end":
            self._endless(200, b": wait\n" * 1000)
        else:
            with self.server.counted():
                self._stream(body["max_tokens"], fault)

    def _whole(self, status: int, value: Any) -> None:
        raw = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _stream(self, wanted: int, fault: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        tokens = wanted - 1 if fault == "short" else wanted
        reason = "stop" if fault == "short" else "length"
        time.sleep(self.server.prefill)
        self._send(b": a comment, as servers send to keep a connection alive\n\n")
        made = 0
        while made < tokens:
            if made:
                time.sleep(self.server.step)
            made = min(tokens, made + self.server.per_event)
            if fault == "breaks" and made > 2:
                return
            if fault == "no json":
                self._send(b"data: {broken\n\n")
                continue
            if fault == "nested":
                self._send(b"data: " + b"[" * 5000 + b"\n\n")
                continue
            if fault == "fails":
                self._event({"error": {"message": "out of cache"}})
                return
            text = "" if fault == "no text yet" and made == 1 else "x"
            self._event({"choices": [{"text": text, "finish_reason": None}]})
        self._event({"choices": [{"text": "", "finish_reason": reason}]})
        if self.server.usage:
            self._event({"choices": [], "usage": {"completion_tokens": tokens}})
        self._send(b"data: [DONE]\n\n")

    def _endless(self, status: int, part: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        while True:  # until the client turns away
            self._send(part)

    def _event(self, value: Any) -> None:
        self._send(b"data: " + json.dumps(value).encode() + b"\n\n")

    def _send(self, raw: bytes) -> None:
        self.wfile.write(raw)
        self.wfile.flush()
