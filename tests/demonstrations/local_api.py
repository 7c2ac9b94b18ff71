"""A chat completions server of the tests' own, which misbehaves on demand."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from easyep.artifacts import Demo
from easyep.demonstrations.server import Server


class Api(ThreadingHTTPServer):
    """A local chat completions server; `plan` maps a question to what its requests meet in turn."""

    daemon_threads = True

    def __init__(self, plan):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan = {question: list(steps) for question, steps in plan.items()}
        self.requests, self.lock, self.running, self.most = [], threading.Lock(), 0, 0
        self.over = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # clients that hang up are part of the tests

    def stop(self):
        self.over.set()
        self.shutdown()
        self.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][-1]["content"]
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers), body))
            self.server.running += 1
            self.server.most = max(self.server.most, self.server.running)
            steps = self.server.plan.get(question, [])
            step = steps.pop(0) if steps else {"content": f"answer: {question}"}
        time.sleep(0.02)
        with self.server.lock:
            self.server.running -= 1
        self._meet(step)

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers), None))
        self._send(404, b"{}")

    def _meet(self, step):
        if step == "drop":
            self.connection.close()
        elif str(step).startswith(("http", "ftp")):
            self._send(302, b"", {"Location": step})
        elif step == "hang":
            self.server.over.wait(60)
        elif step == "garbage":
            self._send(200, b"<html>not json")
        elif step == "shape":
            self._send(200, b'{"choices": []}')
        elif step == "deep":
            self._send(200, b"[" * 100_000)
        elif step == "half":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
        elif step in ("drip", "header"):
            self.send_response(200)
            self.end_headers() if step == "drip" else self.wfile.write(b"X-Long: ")
            self._go_on(b" ", pause=0.05)
        elif step == "slow refusal":
            self.send_response(400)
            self.end_headers()
            self._go_on(b"no", pause=0.05)
        elif step == "endless":
            self.send_response(200)
            self.end_headers()
            self._go_on(b" " * (1 << 16), pause=0)
        elif step == "stall":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.server.over.wait(60)
        elif isinstance(step, int):
            self._send(step, b'{"error": {"message": "no luck"}}', {"Retry-After": "0"})
        else:
            step = dict(step)
            finish = step.pop("finish", "stop")
            choice = {"message": {"role": "assistant", **step}, "finish_reason": finish}
            self._send(200, json.dumps({"choices": [choice]}).encode())

    def _send(self, code, body, headers=()):
        self.send_response(code)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _go_on(self, part, pause):
        """Send without end, until the client hangs up or the test is over."""
        self.wfile.flush()
        while not self.server.over.wait(pause):
            self.wfile.write(part)


def server(api, timeout=30.0, **options) -> Server:
    return Server(api.url, "m", timeout=timeout, first_wait=0.01, **options)


def prompts(*questions, **metadata) -> list[Demo]:
    return [
        Demo({"messages": [{"role": "user", "content": question}]}, metadata)
        for question in questions
    ]
